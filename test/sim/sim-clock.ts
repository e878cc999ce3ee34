import { setMaxListeners } from "node:events";
import type { Clock, Timer } from "../../sidecar/lib/ports/clock.ts";
import type { NodeRuntime } from "../../sidecar/runtime/ports.ts";
import type { Chance } from "./chance.ts";

/** A real turn of the event loop: lets all microtasks settle. Taken before the trap removes it. */
const realTurn = globalThis.setImmediate;
/** Turns asked for at once: between two of them all microtasks run, and nothing else does. */
const TURNS = 64;

/** What an event belongs to: when it is gone, its events are too; while it is paused, they wait. */
export interface Owner {
  readonly name: string;
  readonly alive: boolean;
  /** Virtual time until which it is stopped (SIGSTOP); 0 when it is not. */
  readonly pausedUntilMs: number;
}

/** Something that will run; to who made it, a timer. */
class SimEvent implements Timer {
  atMs: number;
  readonly order: number;
  readonly owner: Owner | null;
  readonly label: string;
  readonly run: () => void;
  cancelled = false;
  /** Its owner was stopped when its time came. */
  deferred = false;

  constructor(atMs: number, order: number, owner: Owner | null, label: string, run: () => void) {
    this.atMs = atMs;
    this.order = order;
    this.owner = owner;
    this.label = label;
    this.run = run;
  }

  cancel(): void {
    this.cancelled = true;
  }
}

/**
 * Virtual time: a heap of events, one drained per real turn of the event loop, so that everything a
 * wake-up causes has settled before the next one. Equal events at equal times run in the order they
 * were made, which makes a run repeatable bit by bit as long as nothing else wakes anybody up.
 */
export class SimTime {
  /** Events that ran. */
  events = 0;
  /**
   * Called after each event, when all it caused has settled. The next one waits for a promise that
   * it returns.
   */
  afterEvent: (owner: Owner | null, label: string) => Promise<void> | undefined = () => undefined;
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
    const event = new SimEvent(atMs, this.#order++, owner, label, run);
    this.#push(event);
    return event;
  }

  /** A process that was stopped goes on before its time: what waits for it comes now, in order. */
  resume(process: SimProcess): void {
    if (process.pausedUntilMs === 0) return;
    process.pausedUntilMs = 0;
    for (const event of this.#heap.splice(0)) {
      if (event.owner === process && event.deferred) event.atMs = this.#nowMs;
      this.#push(event);
    }
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

  #run(limitMs: number, done: () => boolean): Promise<boolean> {
    const endMs = this.#nowMs + limitMs;
    return new Promise((resolve, reject) => {
      let ran: SimEvent | null = null;
      let over = false;
      let waits = false;
      const end = (settle: () => void): void => {
        over = true;
        settle();
      };
      /** True when the next event may begin. */
      const settled = (): boolean => {
        if (ran === null) return true;
        const { owner, label } = ran;
        ran = null;
        const settling = this.afterEvent(owner, label);
        if (settling === undefined) return true;
        waits = true;
        const go = (): void => {
          waits = false;
        };
        settling.then(go, (error: Error) => end(() => reject(error)));
        return false;
      };
      const turn = (): void => {
        if (over || waits) return;
        try {
          if (!settled()) return;
          if (done()) end(() => resolve(true));
          else {
            ran = this.#next(endMs);
            if (ran === null) end(() => resolve(false));
            else ran.run();
          }
        } catch (error) {
          end(() => reject(error as Error));
        }
      };
      const turns = (): void => {
        if (over) return;
        for (let i = 0; i < TURNS; i += 1) realTurn(turn);
        realTurn(turns);
      };
      turn();
      turns();
    });
  }

  /** The next event to run, whose time it is now; null when there is none until `endMs`. */
  #next(endMs: number): SimEvent | null {
    for (;;) {
      const next = this.#pop();
      if (next === null || next.atMs > endMs) {
        if (next !== null) this.#push(next);
        this.#nowMs = endMs;
        return null;
      }
      if (next.cancelled || next.owner?.alive === false) continue;
      this.#nowMs = next.atMs;
      const pausedUntilMs = next.owner?.pausedUntilMs ?? 0;
      if (pausedUntilMs > this.#nowMs) {
        next.atMs = pausedUntilMs;
        next.deferred = true;
        this.#push(next);
        continue;
      }
      this.events += 1;
      return next;
    }
  }

  #push(event: SimEvent): void {
    const heap = this.#heap;
    let at = heap.push(event) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!isBefore(event, heap[parent] as SimEvent)) break;
      heap[at] = heap[parent] as SimEvent;
      at = parent;
    }
    heap[at] = event;
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
  #endless: AbortSignal | null = null;

  constructor(name: string, time: SimTime, chance: Chance, skewMs = 0) {
    this.name = name;
    this.chance = chance;
    this.skewMs = skewMs;
    this.clock = new ProcessClock(this, time, chance);
  }

  /**
   * Never aborts: for what is asked of the process and not given up. One serves all of it, and what
   * it leaves there goes with the process.
   */
  get endless(): AbortSignal {
    if (this.#endless === null) {
      this.#endless = new AbortController().signal;
      setMaxListeners(0, this.#endless);
    }
    return this.#endless;
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
  /** By signal: what an abort does to those who sleep on it. One listener serves all of them. */
  readonly #sleepers = new WeakMap<AbortSignal, Set<() => void>>();

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
      const sleepers = this.#sleepersOn(signal);
      const aborted = (): void => {
        timer.cancel();
        reject(signal.reason as Error);
      };
      const timer = this.timer(delayMs, () => {
        sleepers.delete(aborted);
        resolve();
      });
      sleepers.add(aborted);
    });
  }

  timer(delayMs: number, fire: () => void): Timer {
    const late = this.#chance.unit() * LATE_MS;
    return this.#time.after(delayMs + late, this.#process, "timer", fire);
  }

  /** A listener of its own for each sleep would be what most of a quiet second is spent on. */
  #sleepersOn(signal: AbortSignal): Set<() => void> {
    const known = this.#sleepers.get(signal);
    if (known !== undefined) return known;
    const sleepers = new Set<() => void>();
    this.#sleepers.set(signal, sleepers);
    const abort = (): void => {
      for (const aborted of sleepers) aborted();
    };
    signal.addEventListener("abort", abort, { once: true });
    return sleepers;
  }

  yield(): Promise<void> {
    return new Promise((resolve) => {
      this.#time.after(0.01, this.#process, "yield", resolve);
    });
  }
}
