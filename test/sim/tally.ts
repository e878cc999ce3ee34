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
  readonly rollbacks: number;
  readonly damages: number;
  readonly recoveryMs: number;
  readonly faults: Readonly<Record<string, number>>;
  /** Faults that were left out, by kind: see the nemesis. */
  readonly spared: Readonly<Record<string, number>>;
  /** Empty: every invariant held. */
  readonly failure: string;
  readonly traceHash: string;
  readonly operations: number;
  /** Nodes that stayed dead when the others were healed. */
  readonly leftDead: number;
  /** Stops that a person ended. */
  readonly stops: number;
  readonly hardToOrder: boolean;
  readonly shards: number;
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
    rollbacks: result.violation === null ? result.rollbacks : 0,
    damages: result.violation === null ? result.damages : 0,
    recoveryMs: result.recoveryMs,
    faults: Object.fromEntries(result.faults),
    spared: Object.fromEntries(result.spared),
    failure,
    traceHash: result.traceHash,
    operations: result.counts.acknowledged + result.counts.reads + result.counts.unknown,
    leftDead: result.leftDead,
    stops: result.stops,
    hardToOrder: result.hardToOrder,
    shards: result.options.namespaces.reduce((sum, count) => sum + count, 0),
  };
}

/** Everything that is said at the end of a run. */
export class Tally {
  readonly failed: number[] = [];
  seeds = 0;
  #severalShards = 0;
  #simulatedMs = 0;
  #quietMs = 0;
  /** Summed over all processes. */
  #busyMs = 0;
  #wipes = 0;
  #rollbacks = 0;
  #damages = 0;
  #acknowledged = 0;
  #events = 0;
  #operations = 0;
  #leftDead = 0;
  #stops = 0;
  #hardToOrder = 0;
  #slowest = { ms: 0, seed: 0 };
  readonly #faults = new Map<string, number>();
  readonly #spared = new Map<string, number>();

  add(seed: SeedSummary): void {
    this.seeds += 1;
    if (seed.failure !== "") this.failed.push(seed.seed);
    if (seed.shards > 1) this.#severalShards += 1;
    this.#simulatedMs += seed.simulatedMs;
    this.#quietMs += seed.quietMs;
    this.#busyMs += seed.realMs;
    this.#wipes += seed.wipes;
    this.#rollbacks += seed.rollbacks;
    this.#damages += seed.damages;
    this.#acknowledged += seed.acknowledged;
    this.#events += seed.events;
    this.#operations += seed.operations;
    if (seed.leftDead > 0) this.#leftDead += 1;
    this.#stops += seed.stops;
    if (seed.hardToOrder) this.#hardToOrder += 1;
    if (seed.recoveryMs > this.#slowest.ms)
      this.#slowest = { ms: seed.recoveryMs, seed: seed.seed };
    addAll(this.#faults, seed.faults);
    addAll(this.#spared, seed.spared);
  }

  /** Times a kind of fault was injected. */
  count(fault: Fault): number {
    return this.#faults.get(fault) ?? 0;
  }

  /** One line. */
  text(): string {
    const failed =
      this.failed.length === 0 ? "" : ` (${this.failed.toSorted(byNumber).join(", ")})`;
    const perCore = this.#simulatedMs / Math.max(1, this.#busyMs);
    return [
      `${this.seeds} seeds`,
      `${this.failed.length} failed${failed}`,
      `${this.#severalShards} with several shards`,
      `${(this.#simulatedMs / 1000).toFixed(0)} s simulated, ${(this.#quietMs / 1000).toFixed(0)} of them quiet`,
      `${perCore.toFixed(0)} s a second a core`,
      `${this.#events} events`,
      `${this.#operations} requests in histories, ${this.#hardToOrder} histories tried twice`,
      `${this.#acknowledged} writes acknowledged`,
      `${this.#leftDead} times healed but for a dead minority`,
      `${this.#stops} stops ended by a person`,
      `${this.#wipes} wipes, ${this.#rollbacks} rollbacks and ${this.#damages} damaged files survived`,
      `slowest recovery ${this.#slowest.ms.toFixed(0)} ms (seed ${this.#slowest.seed})`,
      `faults: ${listed(this.#faults)}`,
      `spared: ${listed(this.#spared)}`,
    ].join(", ");
  }
}

function addAll(sums: Map<string, number>, more: Readonly<Record<string, number>>): void {
  for (const [name, count] of Object.entries(more)) sums.set(name, (sums.get(name) ?? 0) + count);
}

function listed(counts: ReadonlyMap<string, number>): string {
  const sorted = [...counts].toSorted(([a], [b]) => (a < b ? -1 : 1));
  return sorted.length === 0
    ? "none"
    : sorted.map(([name, count]) => `${name} ${count}`).join(", ");
}

function byNumber(a: number, b: number): number {
  return a - b;
}
