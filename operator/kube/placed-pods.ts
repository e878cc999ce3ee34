/** Where the pods of a store and their volumes are, and whether those machines are there. */
import { DATA_VOLUMES } from "../api/v1alpha1/pod-template.ts";
import type { Machine, PlacedClaim, PlacedPod } from "../core/node-loss.ts";
import { claimName } from "../specs/stateful-set.ts";
import type { ApiClient } from "./api-client.ts";
import { ApiError } from "./api-error.ts";
import { machineAt, placesOf } from "./machines.ts";
import type { PodFacts } from "./pods.ts";
import { KINDS, type KubeObject } from "./resources.ts";

/** The operator may not look at Nodes or volumes; the message is the API server's. */
export class MayNotLook extends Error {
  override readonly name = "MayNotLook";
}

/** A claim, its place, and the claim itself. */
export interface SeenClaim extends PlacedClaim {
  readonly object: KubeObject;
}

/** A pod, and the claims that it has now. */
export interface SeenPod extends PlacedPod {
  readonly uid: string;
  readonly claims: readonly SeenClaim[];
}

/** True for a pod that is on no machine and was never started. */
export function isUnplaced({ nodeName, sidecar, terminating }: PodFacts): boolean {
  return nodeName === "" && sidecar === "never started" && !terminating;
}

/** True for a pod that ought to run on its machine and, by what was told last, does not. */
export function isStuck({ nodeName, ready, terminating }: PodFacts): boolean {
  return nodeName !== "" && (terminating || !ready);
}

/** Reads places and machines, the latter from the API server itself. One for each look. */
export class PlacedPods {
  readonly #client: ApiClient;
  readonly #claims: (name: string) => KubeObject | undefined;
  readonly #signal: AbortSignal;
  readonly #machines = new Map<string, Promise<Machine>>();

  /** `claims` are those of the store, by name. */
  constructor(
    client: ApiClient,
    claims: (name: string) => KubeObject | undefined,
    signal: AbortSignal,
  ) {
    this.#client = client;
    this.#claims = claims;
    this.#signal = signal;
  }

  /** Throws {@link MayNotLook}. */
  async all(pods: readonly PodFacts[]): Promise<readonly SeenPod[]> {
    try {
      const seen: SeenPod[] = [];
      for (const pod of pods) seen.push(await this.#pod(pod));
      return seen;
    } catch (error) {
      if (!(error instanceof ApiError) || error.status !== 403) throw error;
      throw new MayNotLook(error.message, { cause: error });
    }
  }

  async #pod(pod: PodFacts): Promise<SeenPod> {
    const { name, uid, nodeName, ready, terminating } = pod;
    const unplaced = isUnplaced(pod);
    const claims: SeenClaim[] = [];
    for (const volume of Object.keys(DATA_VOLUMES) as (keyof typeof DATA_VOLUMES)[]) {
      const object = this.#claims(claimName(volume, name));
      if (object === undefined) continue;
      const { uid: claimUid = "" } = object.metadata;
      // Only of pods that wait is it asked where their volumes are.
      const machines = unplaced ? await this.#machinesOf(object) : null;
      claims.push({ name: object.metadata.name, uid: claimUid, machines, object });
    }
    const stuckOn = isStuck(pod) ? await this.#machine(null, nodeName) : null;
    return {
      name,
      uid,
      unplaced,
      stuckOn,
      ready: nodeName !== "" && ready && !terminating,
      claims,
    };
  }

  async #machinesOf(claim: KubeObject): Promise<readonly Machine[] | null> {
    const spec = claim["spec"];
    const name: unknown =
      typeof spec === "object" && spec !== null ? Reflect.get(spec, "volumeName") : undefined;
    if (typeof name !== "string" || name === "") return null;
    const volume = await this.#client.get(KINDS.volume, null, name, { signal: this.#signal });
    const places = volume === null ? null : placesOf(volume);
    if (places === null) return null;
    const machines: Machine[] = [];
    for (const { label, machine } of places) machines.push(await this.#machine(label, machine));
    return machines;
  }

  #machine(label: string | null, machine: string): Promise<Machine> {
    const key = `${label ?? ""}=${machine}`;
    const known =
      this.#machines.get(key) ?? machineAt(this.#client, { label, machine }, this.#signal);
    this.#machines.set(key, known);
    return known;
  }
}
