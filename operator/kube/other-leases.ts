/** Whether other operators still work, by their Leases. One read serves all stores for a while. */
import type { Clock } from "../../sidecar/lib/ports/clock.ts";
import type { ApiClient } from "./api-client.ts";
import { isStatus } from "./api-error.ts";
import type { KubeLimits } from "./limits.ts";
import { KINDS } from "./resources.ts";
import { SeenLease } from "./seen-lease.ts";

/** `free`: there is none, nobody holds it, or its holder let it run out. */
export type LeaseState = "free" | "held" | "forbidden";

interface Known {
  readonly seen: SeenLease;
  state: LeaseState;
  /** When it has to be read again. */
  untilMs: number;
  reading: Promise<void> | null;
}

/** See the file's header. */
export class OtherLeases {
  readonly #client: ApiClient;
  readonly #clock: Clock;
  readonly #limits: KubeLimits;
  /** `namespace/name` -> what is known of it. Its bound is the number of other operators. */
  readonly #known = new Map<string, Known>();

  constructor(client: ApiClient, clock: Clock, limits: KubeLimits) {
    this.#client = client;
    this.#clock = clock;
    this.#limits = limits;
  }

  /** Throws what the client throws, save that the right to read it is missing. */
  async state(
    place: { readonly namespace: string; readonly name: string },
    signal: AbortSignal,
  ): Promise<LeaseState> {
    const key = `${place.namespace}/${place.name}`;
    const known = this.#known.get(key) ?? this.#unknown();
    this.#known.set(key, known);
    if (known.reading === null && this.#clock.monotonicMs() >= known.untilMs) {
      known.reading = this.#read(known, place, signal).finally(() => {
        known.reading = null;
      });
    }
    if (known.reading !== null) await known.reading;
    return known.state;
  }

  #unknown(): Known {
    const seen = new SeenLease(this.#clock, this.#limits.leaseDurationMs);
    return { seen, state: "held", untilMs: this.#clock.monotonicMs(), reading: null };
  }

  async #read(
    known: Known,
    { namespace, name }: { readonly namespace: string; readonly name: string },
    signal: AbortSignal,
  ): Promise<void> {
    try {
      const lease = await this.#client.get(KINDS.lease, namespace, name, { signal });
      if (lease !== null) known.seen.see(lease);
      known.state = lease === null || known.seen.isFree ? "free" : "held";
    } catch (error) {
      if (!isStatus(error, 403)) throw error;
      known.state = "forbidden";
    }
    // Its operator may be back at any moment.
    const { freeLeaseMs, otherLeaseMs } = this.#limits;
    const lastsMs = known.state === "free" ? freeLeaseMs : otherLeaseMs;
    known.untilMs = this.#clock.monotonicMs() + lastsMs;
  }
}
