/**
 * When what became visible while a pod with replaced claims was rebuilt, as the API server
 * told.
 */
import type { ReplicaRecoveryStatus } from "../../operator/api/v1alpha1/replica-recovery.ts";
import type { StoreShard } from "../../operator/api/v1alpha1/store-shard.ts";
import type { Followed, Told } from "./kube-view.ts";

/** What the time line is read from. */
interface Recovered {
  readonly pod: string;
  readonly deletedAtMs: number;
  readonly oldReplicaUid: string;
  readonly told: readonly Told[];
}

/** Instead of the time of a step that nobody was told of. */
export const NOT_SEEN = "not seen";

/** Lines for people; times count from the moment at which the new claim was told. */
export function recoveryTimeLine({ pod, deletedAtMs, oldReplicaUid, told }: Recovered): string {
  const first = (kind: Followed, match: (told: Told) => boolean): number | undefined =>
    told.find((t) => t.kind === kind && t.object !== null && match(t))?.atMs;
  const claim = first(
    "claim",
    ({ object, previous }) =>
      object?.metadata.name === `data-${pod}` && object.metadata.uid !== previous?.metadata.uid,
  );
  const recovery = (match: (status: ReplicaRecoveryStatus) => boolean): number | undefined =>
    first("recovery", ({ object }) => {
      const spec = object?.["spec"] as { readonly rebuild?: { readonly pod: string } };
      const status = object?.["status"] as ReplicaRecoveryStatus | undefined;
      return spec.rebuild?.pod === pod && match(status ?? {});
    });
  const member = (match: (m: StoreShard["spec"]["members"][number]) => boolean) =>
    first("shard", ({ object }) =>
      (object as unknown as StoreShard).spec.members.some(
        (m) => m.node === pod && m.replicaUid !== oldReplicaUid && match(m),
      ),
    );
  const steps: readonly (readonly [string, number | undefined])[] = [
    ["claim deleted", deletedAtMs],
    ["new claim", claim],
    ["pod back", first("pod", ({ object }) => isBack(object, pod, claim ?? deletedAtMs))],
    ["NOT_MEMBER seen, recorded as learner", member(({ role }) => role !== "leaving")],
    ["recovery object", recovery(() => true)],
    ["first byte", recovery(({ bytesDone = 0 }) => bytesDone > 0)],
    ["last byte", recovery(hasAll)],
    ["voting", member(({ role }) => role === "voter")],
    ["recovery Succeeded", recovery(({ phase }) => phase === "Succeeded")],
  ];
  const zero = claim ?? deletedAtMs;
  return steps
    .map(([what, atMs]) => {
      const time = atMs === undefined ? NOT_SEEN : `${((atMs - zero) / 1000).toFixed(2)} s`;
      return `      ${what.padEnd(38)}${time.padStart(10)}\n`;
    })
    .join("");
}

function isBack(object: Told["object"], pod: string, afterMs: number): boolean {
  const { name, creationTimestamp = "" } = object?.metadata ?? {};
  const status = object?.["status"] as { readonly phase?: string } | undefined;
  // Times of objects have whole seconds.
  const made = Date.parse(creationTimestamp) >= Math.floor(afterMs / 1000) * 1000;
  return name === pod && made && status?.phase === "Running";
}

function hasAll({ bytesDone = 0, bytesTotal = 0, phase }: ReplicaRecoveryStatus): boolean {
  const after = phase === "CatchingUp" || phase === "Promoting" || phase === "Succeeded";
  return after || (bytesTotal > 0 && bytesDone >= bytesTotal);
}
