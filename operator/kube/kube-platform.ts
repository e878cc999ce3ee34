/** What the coordinator asks Kubernetes. No decision is made here. */
import { CallFailed, type Platform } from "../controller/ports.ts";
import { DATA_VOLUMES } from "../api/v1alpha1/pod-template.ts";
import { IN_SYNC_GATE } from "../specs/labels.ts";
import { claimName } from "../specs/stateful-set.ts";
import type { ApiClient } from "./api-client.ts";
import type { ClaimUids } from "../core/observed.ts";
import { claimFacts, claimUidUnder, podFacts } from "./pods.ts";
import { KINDS, type KubeObject } from "./resources.ts";

/** The {@link Platform} of one store. */
export class KubePlatform implements Platform {
  readonly #client: ApiClient;
  readonly #namespace: string;
  readonly #claim: (name: string) => KubeObject | undefined;
  readonly #pod: (name: string) => KubeObject | undefined;

  /** `claim` and `pod` look into the caches of the namespace. */
  constructor(
    client: ApiClient,
    namespace: string,
    claim: (name: string) => KubeObject | undefined,
    pod: (name: string) => KubeObject | undefined,
  ) {
    this.#client = client;
    this.#namespace = namespace;
    this.#claim = claim;
    this.#pod = pod;
  }

  /** By the cache: it tells late of a new claim, and never names one that the pod is not on. */
  claims(node: string): ClaimUids | null {
    const pod = this.#pod(node);
    if (pod === undefined) return null;
    const facts = podFacts(pod, IN_SYNC_GATE);
    const uidOf = (volume: keyof typeof DATA_VOLUMES): string | null => {
      const claim = this.#claim(claimName(volume, node));
      return claimUidUnder(facts, claim === undefined ? null : claimFacts(claim));
    };
    const [data, wal] = [uidOf("data"), uidOf("wal")];
    return data === null || wal === null ? null : { data, wal };
  }

  /** By the cache: it only delays a rebuild, and one that began a moment too early begins again. */
  isVolumeTerminating(node: string): boolean {
    return (Object.keys(DATA_VOLUMES) as (keyof typeof DATA_VOLUMES)[]).some((volume) => {
      const claim = this.#claim(claimName(volume, node));
      return claim !== undefined && claimFacts(claim).terminating;
    });
  }

  /**
   * Asked of the API server itself, not of a cache. True when there is no such pod, when it has
   * ended for good, or when it has not started since it was made: a process that starts afterwards
   * leads nothing until the coordinator says so. False while its end is not confirmed: a pod that
   * is being deleted on a lost machine may still run.
   */
  async isStopped(node: string, signal: AbortSignal): Promise<boolean> {
    const pod = await this.#client.get(KINDS.pod, this.#namespace, node, { signal });
    if (pod === null) return true;
    const { sidecar, terminating } = podFacts(pod, IN_SYNC_GATE);
    if (sidecar === "ended for good") return true;
    return sidecar === "never started" && !terminating;
  }
}

/** Host and port of a pod's sidecar for the coordinator. Throws CallFailed while it has none. */
export type ResolveAddress = (node: string) => string;

/**
 * By the pod's own address: its name is resolved by caches that know a new pod only after a while,
 * and a recovery begins with a new pod. `pod` looks into the cache.
 */
export function podAddressResolver(
  pod: (node: string) => KubeObject | undefined,
  port: number,
): ResolveAddress {
  return (node) => {
    const object = pod(node);
    if (object === undefined) throw new CallFailed(node, "there is no such pod", false);
    const { ip, sidecar } = podFacts(object, IN_SYNC_GATE);
    // Its object keeps the address, which another pod has by now.
    if (sidecar === "ended for good") throw new CallFailed(node, "the pod has ended", false);
    if (ip === "") throw new CallFailed(node, "the pod has no address yet", false);
    return ip.includes(":") ? `[${ip}]:${port}` : `${ip}:${port}`;
  };
}
