import assert from "node:assert/strict";
import { EventEmitter } from "node:events";
import type { ServerWritableStream } from "@grpc/grpc-js";
import { LIMITS } from "../../../sidecar/limits.ts";
import { ReadMemory } from "../../../sidecar/rpc/read-memory.ts";
import { type SizedPage, writeView } from "../../../sidecar/rpc/read-pages.ts";
import { StillClock } from "../wal/log-fixture.ts";

describe("pages of a view", () => {
  it("end with a refusal when the reader stalls, and release the view", async () => {
    const clock = new StillClock();
    let cancelled = 0;
    const timers: (() => void)[] = [];
    clock.timer = (...[delayMs, late]: unknown[]) => {
      assert.equal(delayMs, LIMITS.readViewMsMax);
      timers.push(late as () => void);
      return { cancel: () => void (cancelled += 1) };
    };
    let released = false;
    function* pages(): Generator<SizedPage<number>> {
      try {
        for (let at = 0; ; at++) yield { message: at, bytes: 1 };
      } finally {
        released = true;
      }
    }
    // Takes pages and never says that one has left.
    const seen: number[] = [];
    const call = Object.assign(new EventEmitter(), {
      cancelled: false,
      write: (page: number) => seen.push(page),
    });
    const stream = call as unknown as ServerWritableStream<unknown, number>;
    const memory = new ReadMemory(clock);
    const hold = memory.hold(stream, 0);
    const counted = memory.bytes;
    const over = assert.rejects(
      writeView({ call: stream, hold, clock }, pages()),
      /too long.*start it again/,
    );
    assert.deepEqual(seen, [0, 1]);
    // The first is the view's.
    timers[0]?.();
    await over;
    assert.ok(released);
    assert.equal(cancelled, 1);
    // The pages are there as long as the call is.
    assert.equal(memory.bytes, counted + 2);
    call.emit("cancelled");
    assert.equal(memory.bytes, 0);
  });
});
