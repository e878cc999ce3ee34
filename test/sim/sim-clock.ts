import type { Clock, Timer } from "../../sidecar/lib/ports/clock.ts";
import type { NodeRuntime } from "../../sidecar/runtime/ports.ts";
import type { Chance } from "./chance.ts";

/** A real turn of the event loop: lets all microtasks settle. Taken before the trap removes it. */
const realTurn = globalThis.setImmediate;

/** What an event belongs to: when it is gone, its events are too; while it is paused, they wait. */
export interface Owner {
  readonly name: string;
  readonly alive: boolean;
  /** Virtual time until which it is stopped (SIGSTOP); 0 when it is not. */
  readonly pausedUntilMs: number;
}

interface SimEvent {
  readonly atMs: number;
  readonly order: number;
  readonly owner: Owner | null;
  readonly label: string;
  readonly run: () => void;
  cancelled: boolean;
}

/**
 * Virtual time: a heap of events, one drained per real turn of the event loop, so that everything a
 * wake-up causes has settled before the next one. Equal events at equal times run in the order they
 * were made, which makes a run repeatable bit by bit as long as nothing else wakes anybody up.
 */
export class SimTime {
  /** Events that ran. */
  events = 0;
  /** Called after each event, when all it caused has settled. */
  afterEvent: (owner: Owner | null, label: string) => void | Promise<void> = () => undefined;
  #nowMs = 0;
  #running = false;
  #order = 0;
  readonly #heap: SimEvent[] = [];

  get nowMs(): number {
    return this.#nowMs;
  }

  /** Runs `run` after `delayMs`, unless cancelled or its owner is gone by then. */
  after(delayMs: number, owner: Owner | null, label: string, run: () => void): Timer {
    const atMs = this.#nowMs + Math.max(0, delayMs);
    return this.#push({ atMs, order: this.#order++, owner, label, run, cancelled: false });
  }

  /** Runs events until `done` (asked after each) or until `limitMs` have passed; true when done. */
  async run(limitMs: number, done: () => boolean): Promise<boolean> {
    if (this.#running) throw new Error("the clock is running already");
    this.#running = true;
    try {
      return await this.#run(limitMs, done);
    } finally {
      this.#running = false;
    }
  }

  async #run(limitMs: number, done: () => boolean): Promise<boolean> {
    const endMs = this.#nowMs + limitMs;
    while (!done()) {
      const next = this.#pop();
      if (next === null || next.atMs > endMs) {
        if (next !== null) this.#push(next);
        this.#nowMs = endMs;
        return false;
      }
      if (next.cancelled || next.owner?.alive === false) continue;
      this.#nowMs = next.atMs;
      const pausedMs = (next.owner?.pausedUntilMs ?? 0) - this.#nowMs;
      if (pausedMs > 0) {
        this.#push({ ...next, atMs: next.atMs + pausedMs });
        continue;
      }
      this.events += 1;
      next.run();
      await new Promise<void>((resolve) => {
        realTurn(resolve);
      });
      await this.afterEvent(next.owner, next.label);
    }
    return true;
  }

  #push(event: SimEvent): Timer {
    const heap = this.#heap;
    let at = heap.push(event) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!isBefore(event, heap[parent] as SimEvent)) break;
      heap[at] = heap[parent] as SimEvent;
      at = parent;
    }
    heap[at] = event;
    return {
      cancel: () => {
        event.cancelled = true;
      },
    };
  }

  #pop(): SimEvent | null {
    const heap = this.#heap;
    const first = heap[0];
    const last = heap.pop();
    if (first === undefined || last === undefined) return null;
    if (heap.length === 0) return first;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heap.length) break;
      const right = heap[child + 1];
      if (right !== undefined && isBefore(right, heap[child] as SimEvent)) child += 1;
      if (!isBefore(heap[child] as SimEvent, last)) break;
      heap[at] = heap[child] as SimEvent;
      at = child;
    }
    heap[at] = last;
    return first;
  }
}

function isBefore(a: SimEvent, b: SimEvent): boolean {
  return a.atMs === b.atMs ? a.order < b.order : a.atMs < b.atMs;
}

/** One simulated process: its death or pause silences everything that runs on its clock. */
export class SimProcess implements Owner {
  readonly name: string;
  alive = true;
  pausedUntilMs = 0;
  /** Its wall clock is ahead of virtual time by this. */
  skewMs: number;
  /** The sidecar in it; null while it starts, and for processes of other kinds. */
  runtime: NodeRuntime | null = null;
  readonly clock: Clock;
  readonly chance: Chance;

  constructor(name: string, time: SimTime, chance: Chance, skewMs = 0) {
    this.name = name;
    this.chance = chance;
    this.skewMs = skewMs;
    this.clock = new ProcessClock(this, time, chance);
  }
}

const EPOCH_MS = 1_700_000_000_000;
/** Timers fire late by up to this. */
const LATE_MS = 0.5;

/** The clock of one process: a wall clock of its own, and timers that die with it. */
class ProcessClock implements Clock {
  readonly #process: SimProcess;
  readonly #time: SimTime;
  readonly #chance: Chance;

  constructor(process: SimProcess, time: SimTime, chance: Chance) {
    this.#process = process;
    this.#time = time;
    this.#chance = chance;
  }

  nowMs(): number {
    return Math.floor(EPOCH_MS + this.#time.nowMs + this.#process.skewMs);
  }

  monotonicMs(): number {
    return this.#time.nowMs;
  }

  sleep(delayMs: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal.aborted) {
        reject(signal.reason as Error);
        return;
      }
      const aborted = (): void => {
        timer.cancel();
        reject(signal.reason as Error);
      };
      const timer = this.timer(delayMs, () => {
        signal.removeEventListener("abort", aborted);
        resolve();
      });
      signal.addEventListener("abort", aborted, { once: true });
    });
  }

  timer(delayMs: number, fire: () => void): Timer {
    const late = this.#chance.unit() * LATE_MS;
    return this.#time.after(delayMs + late, this.#process, "timer", fire);
  }

  yield(): Promise<void> {
    return new Promise((resolve) => {
      this.#time.after(0.01, this.#process, "yield", resolve);
    });
  }
}
