import assert from "node:assert/strict";
import { type ReconcileResult, runReconcileLoop } from "../../../operator/kube/reconcile-loop.ts";
import { systemClock } from "../../../operator/local/system-clock.ts";
import { Workqueue } from "../../../operator/kube/workqueue.ts";
import { SILENT_LOGGER } from "../../../sidecar/lib/ports/logger.ts";
import { VirtualClock } from "../controller/virtual-clock.ts";

const NEVER = new AbortController().signal;

describe("workqueue", () => {
  const counted: string[] = [];
  const observer = {
    added: (depth: number) => counted.push(`added ${depth}`),
    taken: (depth: number, waitedMs: number) => counted.push(`taken ${depth} ${waitedMs}`),
    done: (workedMs: number) => counted.push(`done ${workedMs}`),
    retried: () => counted.push("retried"),
  };
  let clock: VirtualClock;
  let queue: Workqueue;
  beforeEach(() => {
    counted.length = 0;
    clock = new VirtualClock();
    queue = new Workqueue(clock, observer);
  });

  it("holds a key once, in the order of adding", async () => {
    for (const key of ["a", "b", "a"]) queue.add(key);
    assert.equal(queue.depth, 2);
    assert.equal(await queue.take(NEVER), "a");
    assert.equal(await queue.take(NEVER), "b");
    assert.deepEqual(counted, ["added 1", "added 2", "taken 1 0", "taken 0 0"]);
  });

  it("never gives a key to two workers; what came meanwhile comes afterwards, once", async () => {
    queue.add("a");
    await queue.take(NEVER);
    queue.add("a");
    queue.add("a");
    assert.equal(queue.depth, 0);
    queue.done("a");
    assert.equal(queue.depth, 1);
    assert.equal(await queue.take(NEVER), "a");
    queue.done("a");
    assert.equal(queue.depth, 0);
    assert.throws(() => queue.done("a"), /not being worked on/);
  });

  it("a taker waits for a key, and ends with its signal", async () => {
    const first = queue.take(NEVER);
    queue.add("a");
    assert.equal(await first, "a");
    const stop = new AbortController();
    const second = queue.take(stop.signal);
    stop.abort(new Error("stopped"));
    await assert.rejects(second, { message: "stopped" });
  });

  it("waits longer after each failure: 5 ms to 1,000 s; a success begins anew", async () => {
    const waits: number[] = [];
    for (let i = 0; i < 20; i += 1) {
      const beforeMs = clock.monotonicMs();
      queue.addFailed("a");
      await clock.until("a key", 2_000_000, () => queue.depth === 1);
      waits.push(clock.monotonicMs() - beforeMs);
      await queue.take(NEVER);
      queue.done("a");
    }
    assert.deepEqual(waits.slice(0, 5), [5, 10, 20, 40, 80]);
    assert.deepEqual(waits.slice(-2), [1_000_000, 1_000_000]);
    queue.forget("a");
    const beforeMs = clock.monotonicMs();
    queue.addFailed("a");
    await clock.until("a key", 2_000_000, () => queue.depth === 1);
    assert.equal(clock.monotonicMs() - beforeMs, 5);
  });

  it("an earlier wish replaces a later one, not the other way round", async () => {
    const beginMs = clock.monotonicMs();
    queue.addAfter("a", 1_000);
    queue.addAfter("a", 100);
    queue.addAfter("a", 500);
    await clock.until("a key", 2_000_000, () => queue.depth === 1);
    assert.equal(clock.monotonicMs() - beginMs, 100);
    queue.add("b");
    queue.addAfter("b", 5);
    assert.equal(queue.depth, 2);
  });

  it("news goes before routine, which is not kept waiting for ever", async () => {
    for (const key of ["r0", "r1", "r2"]) queue.addAfter(key, 10_000, "routine");
    await clock.until("three keys", 20_000, () => queue.depth === 3);
    for (let i = 0; i < 16; i += 1) queue.add(`n${i}`);
    const taken: string[] = [];
    while (queue.depth > 0) taken.push((await queue.take(NEVER)).slice(0, 1));
    assert.equal(taken.join(""), "nnnnnnnrnnnnnnnrnnr");
  });

  it("what is to be looked at for news soon is no routine when its time comes first", async () => {
    queue.addAfter("a", 1_000, "routine");
    queue.addAfter("b", 990, "routine");
    queue.addAfter("b", 1_100);
    await clock.until("two keys", 2_000, () => queue.depth === 2);
    queue.add("c", "routine");
    assert.equal(await queue.take(NEVER), "b");
    queue.addAfter("d", 500);
    queue.addAfter("d", 100, "routine");
    await clock.until("three keys", 2_000, () => queue.depth === 3);
    assert.equal(await queue.take(NEVER), "d");
  });

  it("news of what is being worked on is news afterwards", async () => {
    queue.add("a");
    await queue.take(NEVER);
    queue.add("r", "routine");
    queue.add("a");
    queue.done("a");
    assert.equal(await queue.take(NEVER), "a");
  });

  it("what a look sees is not looked at again", async () => {
    queue.add("a", "routine");
    queue.addAfter("a", 100);
    await queue.take(NEVER);
    queue.done("a");
    queue.addAfter("tick", 200);
    await clock.until("a key", 2_000, () => queue.depth > 0);
    assert.equal(await queue.take(NEVER), "tick");
    assert.equal(queue.depth, 0);
  });

  it("news of a key that waits for routine moves it up", async () => {
    for (const key of ["a", "b"]) queue.add(key, "routine");
    queue.addAfter("b", 100);
    queue.addAfter("tick", 101);
    await clock.until("its time", 1_000, () => queue.depth === 3);
    queue.add("b", "routine");
    assert.equal(await queue.take(NEVER), "b");
    assert.equal(counted.at(-1), "taken 2 101");
    assert.equal(await queue.take(NEVER), "tick");
    assert.equal(await queue.take(NEVER), "a");
    assert.equal(queue.depth, 0);
  });

  it("tells whether there is news of what is being worked on", async () => {
    queue.add("a");
    await queue.take(NEVER);
    assert.equal(queue.hasNews("a"), false);
    queue.add("a");
    assert.equal(queue.hasNews("a"), true);
    queue.done("a");
    await queue.take(NEVER);
    assert.equal(queue.hasNews("a"), false);
  });

  it("says how long work takes", async () => {
    queue.add("a");
    await queue.take(NEVER);
    queue.addAfter("tick", 700);
    await clock.until("a key", 2_000_000, () => queue.depth === 1);
    assert.equal(queue.longestWorkMs, 700);
    assert.deepEqual([queue.active, queue.unfinishedWorkMs], [1, 700]);
    queue.done("a");
    assert.equal(counted.at(-1), "done 700");
    assert.deepEqual([queue.active, queue.unfinishedWorkMs], [0, 0]);
  });

  it("closed, it takes nothing more", () => {
    queue.add("a");
    queue.add("r", "routine");
    queue.addAfter("b", 10);
    queue.close();
    queue.add("c");
    assert.equal(queue.depth, 0);
  });
});

describe("reconcile loop", () => {
  it("requeues, and backs off", async () => {
    const clock = new VirtualClock();
    const queue = new Workqueue(clock);
    const stop = new AbortController();
    const outcomes: string[] = [];
    const calls: string[] = [];
    const loop = runReconcileLoop(
      {
        queue,
        clock,
        workers: 2,
        random: () => 0,
        logger: SILENT_LOGGER,
        observe: (outcome) => outcomes.push(outcome),
        reconcile: async (key) => {
          await Promise.resolve();
          calls.push(key);
          const times = calls.filter((other) => other === key).length;
          if (key === "flaky" && times < 3) throw new Error("try again");
          return key === "steady" && times < 2 ? { requeueAfterMs: 60_000 } : null;
        },
      },
      stop.signal,
    );
    for (const key of ["flaky", "steady"]) queue.add(key);
    await clock.until("five calls", 100_000, () => calls.length === 5);
    stop.abort(new Error("done"));
    await clock.during(loop);
    assert.deepEqual(calls.toSorted(), ["flaky", "flaky", "flaky", "steady", "steady"]);
    assert.deepEqual(outcomes.toSorted(), [
      "error",
      "error",
      "requeue_after",
      "success",
      "success",
    ]);
  });

  it("counts one that says it failed as an error, and keeps to its pace", async () => {
    const clock = new VirtualClock();
    const queue = new Workqueue(clock);
    const stop = new AbortController();
    const outcomes: string[] = [];
    const at: number[] = [];
    const loop = runReconcileLoop(
      {
        queue,
        clock,
        workers: 1,
        random: () => 0,
        logger: SILENT_LOGGER,
        observe: (outcome) => outcomes.push(outcome),
        reconcile: async () => {
          at.push(await Promise.resolve(clock.monotonicMs()));
          return { requeueAfterMs: 10_000, failed: true };
        },
      },
      stop.signal,
    );
    queue.add("a");
    await clock.until("three calls", 100_000, () => at.length === 3);
    stop.abort(new Error("done"));
    await clock.during(loop);
    const [first = 0] = at;
    assert.deepEqual(
      at.map((ms) => ms - first),
      [0, 10_000, 20_000],
    );
    assert.ok(outcomes.length >= 2 && outcomes.every((outcome) => outcome === "error"));
  });

  it("lets others work between keys that wait for nothing", async () => {
    const queue = new Workqueue(systemClock);
    const stop = new AbortController();
    let calls = 0;
    const reconcile = (): Promise<null> => {
      calls += 1;
      return Promise.resolve(null);
    };
    for (let key = 0; key < 1_000; key += 1) queue.add(String(key));
    const parts = { queue, clock: systemClock, random: Math.random, logger: SILENT_LOGGER };
    const options = { ...parts, workers: 4, reconcile };
    const loop = runReconcileLoop(options, stop.signal);
    await new Promise((resolve) => setImmediate(resolve));
    assert.ok(calls < 100, `${calls} of 1,000 in one turn`);
    stop.abort(new Error("done"));
    await loop;
  });

  it("does not look at all of them together again when they were once", async () => {
    const clock = new VirtualClock();
    const queue = new Workqueue(clock);
    const stop = new AbortController();
    const at = new Map<string, number[]>();
    let turn = 0;
    const random = (): number => (turn++ % 10) / 10;
    const reconcile = (key: string): Promise<{ requeueAfterMs: number }> => {
      at.set(key, [...(at.get(key) ?? []), clock.monotonicMs()]);
      return Promise.resolve({ requeueAfterMs: 60_000 });
    };
    const parts = { queue, clock, random, logger: SILENT_LOGGER };
    for (let key = 0; key < 10; key += 1) queue.add(String(key));
    const loop = runReconcileLoop({ ...parts, workers: 4, reconcile }, stop.signal);
    await clock.pass(61_000);
    const second = [...at.values()].map(([first = 0, next = 0]) => next - first);
    assert.equal(new Set(second).size, 10);
    assert.ok(second.every((ms) => ms > 48_000 && ms <= 60_000));
    stop.abort(new Error("done"));
    await clock.during(loop);
  });

  it("looks at a store with news before one whose time has come", async () => {
    const clock = new VirtualClock();
    const queue = new Workqueue(clock);
    const stop = new AbortController();
    const order: string[] = [];
    let free = (): void => undefined;
    const busy = new Promise<void>((resolve) => (free = resolve));
    const reconcile = async (key: string): Promise<ReconcileResult> => {
      order.push(key);
      if (key === "busy") await busy;
      return { requeueAfterMs: 60_000, routine: key === "idle" };
    };
    const parts = { queue, clock, random: () => 0, logger: SILENT_LOGGER };
    const loop = runReconcileLoop({ ...parts, workers: 1, reconcile }, stop.signal);
    for (const key of ["idle", "waits", "busy"]) queue.add(key);
    await clock.pass(61_000);
    assert.equal(queue.depth, 2, "their time has come");
    queue.add("news");
    free();
    await clock.pass(10);
    assert.deepEqual(order, ["idle", "waits", "busy", "waits", "news", "idle"]);
    stop.abort(new Error("done"));
    await clock.during(loop);
  });
});
