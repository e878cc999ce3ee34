/**
 * Whether other operators still work, by their Leases. One read serves all stores for a while.
 *
 * That a Lease is free for a moment says little: whoever has it may be made anew, the Lease may
 * have been deleted by hand, or the API server was away, for its holder too. Processes of its own
 * take it again within seconds, and come first. So it counts as free once it was so, unchanged, for
 * a while, and while this process looked.
 */
import type { Clock } from "../../sidecar/lib/ports/clock.ts";
import { OWN_PREFIX } from "../api/v1alpha1/pod-template.ts";
import type { ApiClient } from "./api-client.ts";
import { isStatus } from "./api-error.ts";
import type { KubeLimits } from "./limits.ts";
import { KINDS, type KubeObject } from "./resources.ts";
import { SeenLease } from "./seen-lease.ts";

/**
 * `free`: for a while there was none, nobody held it, or its holder let it run out. `elsewhere`:
 * who has it does not watch the store's namespace, and never looks after the store.
 */
export type LeaseState = "free" | "elsewhere" | "held" | "forbidden";

interface Known {
  readonly seen: SeenLease;
  state: Exclude<LeaseState, "elsewhere">;
  /** Namespaces that its holder watches; null: all, or it does not say. */
  watched: ReadonlySet<string> | null;
  /** Since when it was free at each look, and the same; null: it was not. */
  freeSinceMs: number | null;
  /** Of the Lease as it was read last; null: there was none. */
  version: string | null;
  /** When it has to be read again. */
  untilMs: number;
  reading: Promise<void> | null;
}

/** On a Lease: the namespaces that its holder watches, with commas between them, or ALL. */
const WATCHED = `${OWN_PREFIX}watched-namespaces`;
const ALL = "*";

/** What an operator says of itself on its Lease; `namespaces` null: it watches all. */
export function leaseAnnotations(
  namespaces: readonly string[] | null,
): Readonly<Record<string, string>> {
  return { [WATCHED]: namespaces === null ? ALL : namespaces.join(",") };
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

  /**
   * That of the Lease at `place`, for a store of `storeNamespace`. Throws what the client throws,
   * save that the right to read it is missing.
   */
  async state(
    place: { readonly namespace: string; readonly name: string },
    storeNamespace: string,
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
    const { state, watched } = known;
    return state === "held" && watched?.has(storeNamespace) === false ? "elsewhere" : state;
  }

  #unknown(): Known {
    const seen = new SeenLease(this.#clock, this.#limits.leaseDurationMs);
    const untilMs = this.#clock.monotonicMs();
    const none = { watched: null, freeSinceMs: null, version: null, reading: null };
    return { seen, state: "held", untilMs, ...none };
  }

  async #read(
    known: Known,
    { namespace, name }: { readonly namespace: string; readonly name: string },
    signal: AbortSignal,
  ): Promise<void> {
    try {
      const lease = await this.#client.get(KINDS.lease, namespace, name, { signal });
      this.#note(known, lease);
    } catch (error) {
      if (!isStatus(error, 403)) throw error;
      known.state = "forbidden";
      known.freeSinceMs = null;
    }
    // Its operator may be back at any moment.
    const { freeLeaseMs, otherLeaseMs } = this.#limits;
    const lastsMs = known.state === "free" ? freeLeaseMs : otherLeaseMs;
    known.untilMs = this.#clock.monotonicMs() + lastsMs;
  }

  #note(known: Known, lease: KubeObject | null): void {
    const nowMs = this.#clock.monotonicMs();
    const version = lease?.metadata.resourceVersion ?? null;
    if (lease !== null) known.seen.see(lease);
    const isFree = lease === null || known.seen.isFree;
    if (!isFree || version !== known.version) known.freeSinceMs = null;
    known.version = version;
    known.watched = lease === null ? null : watchedBy(lease);
    known.state = "held";
    if (!isFree) return;
    known.freeSinceMs ??= nowMs;
    if (nowMs - known.freeSinceMs >= this.#limits.otherFreeMs) known.state = "free";
  }
}

/** Null: all namespaces. */
function watchedBy({ metadata }: KubeObject): ReadonlySet<string> | null {
  const text = metadata.annotations?.[WATCHED] ?? ALL;
  return text === ALL ? null : new Set(text.split(","));
}
