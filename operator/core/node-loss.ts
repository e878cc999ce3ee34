/**
 * Whether a pod's claims are given up because the machine that they lie on is lost. Pure.
 *
 * A volume on a machine's own disk binds its pod to that machine: when the machine is gone for good
 * the pod waits for ever. Nothing shows from outside that a machine which does not answer will not
 * come back, so that this takes somebody's word: its Node is deleted, or has the taint
 * `node.kubernetes.io/out-of-service` (Kubernetes' own "non-graceful node shutdown").
 */

/** What is known of a machine by its Node object. */
export type MachineState = "ready" | "not ready" | "out of service" | "gone";

/** A claim, and where its volume can be reached from. */
export interface PlacedClaim {
  readonly name: string;
  readonly uid: string;
  readonly terminating: boolean;
  /** Names of machines; null: not bound to any, or not known. */
  readonly machines: readonly string[] | null;
}

/** A pod of the store. */
export interface PlacedPod {
  readonly name: string;
  /** On no machine, never started there, not about to end: it certainly does not run. */
  readonly unplaced: boolean;
  readonly claims: readonly PlacedClaim[];
}

/** A shard, as far as its votes go. */
export interface VotesOfShard {
  readonly name: string;
  /** False: there is such a shard, and no more can be said of it. */
  readonly known: boolean;
  readonly ensemble: readonly string[];
  /** Its ensemble is being changed: two sets have a say. */
  readonly changing: boolean;
  readonly serving: boolean;
  /** Nodes whose replicas count right now. */
  readonly voting: readonly string[];
  /** Nodes that are here and hold a replica that is being rebuilt, or is about to be. */
  readonly rebuilding: readonly string[];
}

/** All that is gone by. */
export interface NodeLossInput {
  readonly replace: boolean;
  readonly mode: "Automatic" | "Manual" | "Paused";
  readonly graceMs: number;
  readonly pods: readonly PlacedPod[];
  readonly machines: ReadonlyMap<string, MachineState>;
  /** How long each pod has been found without a machine, in ms. */
  readonly unplacedMs: ReadonlyMap<string, number>;
  readonly shards: readonly VotesOfShard[];
}

/** What to do, or what is waited for. Both name a pod and say why. */
export type NodeLossStep =
  | { readonly kind: "none" }
  | { readonly kind: "wait"; readonly pod: string; readonly why: string }
  | {
      readonly kind: "replace";
      readonly pod: string;
      readonly claims: readonly PlacedClaim[];
      readonly why: string;
    };

/**
 * The one step that is due. Only one pod at a time, only while a majority of each of its shards
 * votes without it, never what could still run.
 */
export function nodeLossStep(input: NodeLossInput): NodeLossStep {
  const stranded = input.pods.flatMap((pod) => strandedOn(pod, input.machines));
  const waits: NodeLossStep[] = [];
  for (const each of stranded) {
    const why = obstacle(input, each);
    if (why === null) {
      const { pod, claims, text } = each;
      return { kind: "replace", pod: pod.name, claims, why: text };
    }
    waits.push({ kind: "wait", pod: each.pod.name, why: `${each.text}; ${why}` });
  }
  return waits[0] ?? { kind: "none" };
}

/** A pod that waits for machines of which none is there. */
interface Stranded {
  readonly pod: PlacedPod;
  /** Those of its claims that bind it so. */
  readonly claims: readonly PlacedClaim[];
  readonly lost: boolean;
  readonly text: string;
}

function strandedOn(
  pod: PlacedPod,
  machines: ReadonlyMap<string, MachineState>,
): readonly Stranded[] {
  if (!pod.unplaced) return [];
  const stateOf = (machine: string): MachineState => machines.get(machine) ?? "ready";
  const bound = pod.claims.filter((claim) => {
    const on = claim.machines;
    return on !== null && on.length > 0 && on.every((machine) => stateOf(machine) !== "ready");
  });
  if (bound.length === 0) return [];
  const isLost = (machine: string): boolean => {
    return stateOf(machine) === "gone" || stateOf(machine) === "out of service";
  };
  const claims = bound.filter(({ machines: on }) => on?.every(isLost) === true);
  const lost = claims.length === bound.length;
  const names = [...new Set(bound.flatMap(({ machines: on }) => on ?? []))];
  const text = `its volumes are on ${names.map((name) => `${name} (${stateOf(name)})`).join(", ")}`;
  return [{ pod, claims, lost, text }];
}

/** Why not now; null: nothing speaks against it. */
function obstacle(input: NodeLossInput, { pod, claims, lost }: Stranded): string | null {
  if (!lost) {
    return "when it will not come back, delete the Node, or taint it node.kubernetes.io/out-of-service";
  }
  if (!input.replace) {
    return "to have the claims replaced set recovery.onNodeLoss to Replace, or delete them and the pod";
  }
  if (input.mode !== "Automatic") return `recovery.mode is ${input.mode}`;
  const busy = input.pods.find((other) => other.claims.some(({ terminating }) => terminating));
  if (busy !== undefined) return `a claim of ${busy.name} is being deleted`;
  const leftMs = input.graceMs - (input.unplacedMs.get(pod.name) ?? 0);
  if (leftMs > 0) return `the claims are replaced when it is still so in ${wholeSeconds(leftMs)}`;
  if (claims.some(({ uid }) => uid === "")) return "a claim has no uid yet";
  return shardObstacle(input.shards, pod.name);
}

/** What of the shards speaks against a loss of what the pod held; null: nothing. */
function shardObstacle(shards: readonly VotesOfShard[], pod: string): string | null {
  if (shards.length === 0) return "nothing is known of its shards";
  for (const { name, known, ensemble, changing, serving, voting, rebuilding } of shards) {
    if (!known) return `nothing is known of ${name}`;
    if (changing) return `the ensemble of ${name} is being changed`;
    const other = rebuilding.find((node) => node !== pod);
    if (other !== undefined) return `${other} is being rebuilt`;
    if (!ensemble.includes(pod)) continue;
    const left = ensemble.filter((node) => node !== pod && voting.includes(node)).length;
    if (!serving || left * 2 <= ensemble.length) {
      return `without it ${left} of ${ensemble.length} replicas of ${name} vote, a majority is needed`;
    }
  }
  return null;
}

function wholeSeconds(ms: number): string {
  return `${Math.ceil(ms / 1_000)} s`;
}
