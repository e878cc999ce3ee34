import assert from "node:assert/strict";
import { ProtocolError } from "../../../sidecar/protocol/errors.ts";
import { type PinnedSource, SnapshotPins } from "../../../sidecar/snapshot/pins.ts";
import { TestClock, caught, contentOf, sourceOf } from "./transfer-fixture.ts";

const never = new AbortController().signal;

function setUp(more: { sendersMax?: number; waitingMax?: number } = {}) {
  const clock = new TestClock();
  let next = 1;
  const random = { unit: () => 0.5, uid: () => `snap-${next++}` };
  const pins = new SnapshotPins({
    clock,
    random,
    graceMs: 1000,
    sendersMax: 2,
    waitingMax: 2,
    ...more,
  });
  const counts = { made: 0, released: 0 };
  const pin = async (): Promise<PinnedSource> => {
    counts.made++;
    return {
      ...sourceOf(contentOf(10)),
      release: async () => {
        counts.released++;
      },
    };
  };
  return { clock, pins, pin, counts };
}

describe("snapshot pins", () => {
  it("give a broken transfer the same snapshot within the grace time", async () => {
    const { clock, pins, pin, counts } = setUp();
    const first = await pins.acquire("a", pin, never);
    assert.equal(pins.held("a")?.offset, 41);
    await first.release({ keep: true, bytesVerified: 0 });
    clock.advance(999);
    const second = await pins.acquire("a", pin, never);
    assert.equal(second.snapshotId, first.snapshotId);
    assert.equal(second.source, first.source);
    clock.advance(5000);
    assert.equal(counts.released, 0);
    await second.release({ keep: true, bytesVerified: 1 });
    clock.advance(1000);
    assert.deepEqual(counts, { made: 1, released: 1 });
    assert.equal(pins.held("a"), null);
    const third = await pins.acquire("a", pin, never);
    assert.notEqual(third.snapshotId, first.snapshotId);
    await third.release({ keep: false, bytesVerified: 0 });
    assert.deepEqual(counts, { made: 2, released: 2 });
  });

  it("are not kept for whoever begins again and again and comes no further", async () => {
    const { clock, pins, pin, counts } = setUp();
    const tried = async (bytesVerified: number): Promise<void> => {
      await (await pins.acquire("a", pin, never)).release({ keep: true, bytesVerified });
    };
    await tried(5);
    // Its process was restarted: it begins anew, and comes as far as before.
    for (let restarts = 1; restarts <= 3; restarts += 1) {
      for (const bytesVerified of [0, 5]) {
        clock.advance(900);
        await tried(bytesVerified);
      }
    }
    clock.advance(900);
    await tried(0);
    clock.advance(99);
    await tried(5);
    assert.deepEqual(counts, { made: 1, released: 0 });
    clock.advance(1);
    assert.deepEqual(counts, { made: 1, released: 1 });
    // Each step forward gives it the whole time again; a try may take longer than that.
    for (const bytesVerified of [0, 1, 2]) {
      await tried(bytesVerified);
      clock.advance(999);
    }
    assert.deepEqual(counts, { made: 2, released: 1 });
    const lease = await pins.acquire("a", pin, never);
    clock.advance(60_000);
    await lease.release({ keep: true, bytesVerified: 2 });
    assert.deepEqual(counts, { made: 2, released: 1 });
    clock.advance(1);
    assert.deepEqual(counts, { made: 2, released: 2 });
  });

  it("go to one sender a target, and away when dropped", async () => {
    const { pins, pin, counts } = setUp();
    const lease = await pins.acquire("a", pin, never);
    await assert.rejects(pins.acquire("a", pin, never), /being sent to a already/);
    await pins.drop("a");
    assert.equal(counts.released, 0);
    await lease.release({ keep: true, bytesVerified: 0 });
    await pins.drop("a");
    assert.equal(counts.released, 1);
  });

  it("are sent a few at a time, in order, and the queue is bounded", async () => {
    const { pins, pin } = setUp();
    const order: string[] = [];
    const leases = [await pins.acquire("a", pin, never), await pins.acquire("b", pin, never)];
    const abort = new AbortController();
    const c = caught(pins.acquire("c", pin, abort.signal));
    const d = pins.acquire("d", pin, never).then((lease) => {
      order.push("d");
      return lease;
    });
    const full = await caught(pins.acquire("e", pin, never));
    assert.ok(full instanceof ProtocolError);
    assert.equal(full.reason, "RESOURCE_UNAVAILABLE");
    const gone = new Error("the target is gone");
    abort.abort(gone);
    assert.equal(await c, gone);
    const e = pins.acquire("e", pin, never).then((lease) => {
      order.push("e");
      return lease;
    });
    for (const lease of leases) await lease.release({ keep: false, bytesVerified: 0 });
    for (const lease of [await d, await e]) await lease.release({ keep: false, bytesVerified: 0 });
    assert.deepEqual(order, ["d", "e"]);
    await (await pins.acquire("f", pin, never)).release({ keep: false, bytesVerified: 0 });
  });

  it("give the turn on when pinning fails", async () => {
    const { pins, pin } = setUp({ sendersMax: 1 });
    const broken = () => Promise.reject(new Error("no checkpoint"));
    for (const _ of [1, 2, 3]) {
      await assert.rejects(pins.acquire("a", broken, never), /no checkpoint/);
    }
    await (await pins.acquire("a", pin, never)).release({ keep: false, bytesVerified: 0 });
  });

  it("are all released at the end", async () => {
    const { pins, pin, counts } = setUp({ sendersMax: 2 });
    const used = await pins.acquire("a", pin, never);
    await (await pins.acquire("b", pin, never)).release({ keep: true, bytesVerified: 0 });
    const c = await pins.acquire("c", pin, never);
    const waiting = caught(pins.acquire("d", pin, never));
    await pins.close();
    assert.ok((await waiting) instanceof ProtocolError);
    await used.release({ keep: true, bytesVerified: 0 });
    await c.release({ keep: true, bytesVerified: 0 });
    assert.deepEqual(counts, { made: 3, released: 3 });
    await assert.rejects(pins.acquire("x", pin, never), /shutting down/);
  });
});
