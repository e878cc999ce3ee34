import assert from "node:assert/strict";
import { EventEmitter } from "node:events";
import type { ServerWritableStream } from "@grpc/grpc-js";
import { LIMITS } from "../../../sidecar/limits.ts";
import { writeView } from "../../../sidecar/rpc/read-pages.ts";
import { StillClock } from "../wal/log-fixture.ts";

describe("pages of a view", () => {
  it("end with a refusal when the reader stalls, and release the view", async () => {
    const clock = new StillClock();
    let cancelled = 0;
    let fire = (): void => undefined;
    clock.timer = (...[delayMs, late]: unknown[]) => {
      assert.equal(delayMs, LIMITS.readViewMsMax);
      fire = late as () => void;
      return { cancel: () => void (cancelled += 1) };
    };
    let released = false;
    function* pages(): Generator<number> {
      try {
        for (let at = 0; ; at++) yield at;
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
    const over = assert.rejects(writeView(stream, pages(), clock), /too long.*start it again/);
    assert.deepEqual(seen, [0, 1]);
    fire();
    await over;
    assert.ok(released);
    assert.equal(cancelled, 1);
  });
});
