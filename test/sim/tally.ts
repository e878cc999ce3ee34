import type { Fault } from "./options.ts";
import type { SimResult } from "./simulation.ts";

/** What one seed adds to the closing line; goes from a worker to its parent as JSON. */
export interface SeedSummary {
  readonly seed: number;
  readonly simulatedMs: number;
  /** Of that, the time in which clients hardly asked for anything. */
  readonly quietMs: number;
  readonly realMs: number;
  readonly events: number;
  readonly acknowledged: number;
  readonly wipes: number;
  readonly recoveryMs: number;
  readonly faults: Readonly<Record<string, number>>;
  /** Empty: every invariant held. */
  readonly failure: string;
  readonly traceHash: string;
  readonly operations: number;
  readonly undecided: boolean;
  /** Nodes that stayed dead when the others were healed. */
  readonly leftDead: number;
  /** Stops that a person ended. */
  readonly stops: number;
}

/** The summary of a result; `failure` is what {@link describeFailure} says of it. */
export function summarize(result: SimResult, realMs: number, failure: string): SeedSummary {
  return {
    seed: result.seed,
    simulatedMs: result.simulatedMs,
    quietMs: result.violation === null ? (result.options.quiet?.ms ?? 0) : 0,
    realMs,
    events: result.events,
    acknowledged: result.counts.acknowledged,
    wipes: result.violation === null ? result.wipes : 0,
    recoveryMs: result.recoveryMs,
    faults: Object.fromEntries(result.faults),
    failure,
    traceHash: result.traceHash,
    operations: result.counts.acknowledged + result.counts.reads + result.counts.unknown,
    undecided: result.undecided,
    leftDead: result.leftDead,
    stops: result.stops,
  };
}

/** Everything that is said at the end of a run. */
export class Tally {
  readonly failed: number[] = [];
  seeds = 0;
  #simulatedMs = 0;
  #quietMs = 0;
  /** Summed over all processes. */
  #busyMs = 0;
  #wipes = 0;
  #acknowledged = 0;
  #events = 0;
  #operations = 0;
  #undecided = 0;
  #leftDead = 0;
  #stops = 0;
  #slowest = { ms: 0, seed: 0 };
  readonly #faults = new Map<string, number>();

  add(seed: SeedSummary): void {
    this.seeds += 1;
    if (seed.failure !== "") this.failed.push(seed.seed);
    this.#simulatedMs += seed.simulatedMs;
    this.#quietMs += seed.quietMs;
    this.#busyMs += seed.realMs;
    this.#wipes += seed.wipes;
    this.#acknowledged += seed.acknowledged;
    this.#events += seed.events;
    this.#operations += seed.operations;
    if (seed.undecided) this.#undecided += 1;
    if (seed.leftDead > 0) this.#leftDead += 1;
    this.#stops += seed.stops;
    if (seed.recoveryMs > this.#slowest.ms)
      this.#slowest = { ms: seed.recoveryMs, seed: seed.seed };
    for (const [fault, count] of Object.entries(seed.faults)) {
      this.#faults.set(fault, (this.#faults.get(fault) ?? 0) + count);
    }
  }

  /** Times a kind of fault was injected. */
  count(fault: Fault): number {
    return this.#faults.get(fault) ?? 0;
  }

  /** One line. */
  text(): string {
    const failed =
      this.failed.length === 0 ? "" : ` (${this.failed.toSorted(byNumber).join(", ")})`;
    const kinds = [...this.#faults].toSorted(([a], [b]) => (a < b ? -1 : 1));
    const perCore = this.#simulatedMs / Math.max(1, this.#busyMs);
    return [
      `${this.seeds} seeds`,
      `${this.failed.length} failed${failed}`,
      `${(this.#simulatedMs / 1000).toFixed(0)} s simulated, ${(this.#quietMs / 1000).toFixed(0)} of them quiet`,
      `${perCore.toFixed(0)} s a second a core`,
      `${this.#events} events`,
      `${this.#operations} requests in histories, ${this.#undecided} histories undecided`,
      `${this.#acknowledged} writes acknowledged`,
      `${this.#wipes} wipes survived`,
      `${this.#leftDead} times healed but for a dead minority`,
      `${this.#stops} stops ended by a person`,
      `slowest recovery ${this.#slowest.ms.toFixed(0)} ms (seed ${this.#slowest.seed})`,
      `faults: ${kinds.map(([fault, count]) => `${fault} ${count}`).join(", ")}`,
    ].join(", ");
  }
}

function byNumber(a: number, b: number): number {
  return a - b;
}
