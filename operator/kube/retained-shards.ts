/** What StoreShards say once their store is gone: their last status must not go on for ever. */
import type { Clock } from "../../sidecar/lib/ports/clock.ts";
import { withConditions } from "../api/v1alpha1/conditions.ts";
import type { StoreShardStatus } from "../api/v1alpha1/store-shard.ts";
import type { ApiClient } from "./api-client.ts";
import { isStatus } from "./api-error.ts";
import { KINDS, type KubeObject } from "./resources.ts";
import { StatusWriter, timestamp } from "./status-writer.ts";

/** One word for a record that is kept without its store: the state, and each condition's reason. */
const RETAINED = "Retained";

/** Has the StoreShards of stores that are gone say so. */
export class RetainedShards {
  readonly #client: ApiClient;
  readonly #clock: Clock;
  readonly #statuses: StatusWriter;

  constructor(client: ApiClient, clock: Clock) {
    this.#client = client;
    this.#clock = clock;
    this.#statuses = new StatusWriter(client, clock);
  }

  /**
   * `shards`: all of the store `namespace/name`, which was not there when it was looked for. Only
   * their status is written: the records stay as they are for a store that is made under that name.
   */
  async reconcile(
    namespace: string,
    name: string,
    shards: readonly KubeObject[],
    signal: AbortSignal,
  ): Promise<void> {
    const untold = shards.filter(({ metadata, status }) => {
      const told = (status ?? {}) as StoreShardStatus;
      return metadata.deletionTimestamp === undefined && told.state !== RETAINED;
    });
    if (untold.length === 0) return;
    // A store that was made a moment before is told of by a watch of its own, which may be late.
    if ((await this.#client.get(KINDS.store, namespace, name, { signal })) !== null) return;
    for (const object of untold) {
      try {
        await this.#statuses.write(KINDS.shard, object, this.#status(object, name), signal);
      } catch (error) {
        // It is gone as well, or another one: its watch tells.
        if (!isStatus(error, 404) && !isStatus(error, 409)) throw error;
      }
    }
  }

  #status(object: KubeObject, name: string): StoreShardStatus {
    const before = (object["status"] ?? {}) as StoreShardStatus;
    const message =
      `there is no ReplicatedStore ${name}, and nobody looks after this shard; its record and its ` +
      "volumes, if they were kept, wait for a store of that name";
    const conditions = (["Available", "Progressing", "Degraded"] as const).map((type) => {
      return { type, status: false, reason: RETAINED, message };
    });
    const of = before.voters?.split("/")[1];
    return {
      ...(of === undefined ? {} : { voters: `0/${of}` }),
      learners: 0,
      state: RETAINED,
      // What each held last is what a person goes by who has to choose among the volumes.
      replicas: (before.replicas ?? []).map((replica) => ({ ...replica, voting: false })),
      conditions: [
        ...withConditions(
          before.conditions ?? [],
          conditions,
          object.metadata.generation ?? 0,
          timestamp(this.#clock),
        ),
      ],
    };
  }
}
