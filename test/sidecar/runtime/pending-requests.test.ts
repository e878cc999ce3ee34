import assert from "node:assert/strict";
import { LIMITS } from "../../../sidecar/limits.ts";
import { ProtocolError } from "../../../sidecar/protocol/errors.ts";
import { PendingRequests } from "../../../sidecar/runtime/pending-requests.ts";

describe("pending requests", () => {
  it("say of a write that was refused at the bound that nothing was done", async () => {
    const pending = new PendingRequests(() => undefined);
    const held: Promise<unknown>[] = [];
    for (let at = 0; at < LIMITS.pendingWritesMax; at++) {
      held.push(pending.write(1, 0, () => undefined));
    }
    const fed = (): void => assert.fail("a write that is refused goes no further");
    await assert.rejects(pending.write(1, 0, fed), (error: unknown) => {
      assert.ok(error instanceof ProtocolError);
      assert.equal(error.reason, "RESOURCE_UNAVAILABLE");
      assert.equal(error.metadata["outcome"], "none");
      return true;
    });
    const ended = Promise.allSettled(held);
    pending.steppedDown();
    for (const one of await ended) {
      assert.ok(one.status === "rejected" && one.reason instanceof ProtocolError);
      assert.equal(one.reason.metadata["outcome"], "unknown");
    }
  });
});
