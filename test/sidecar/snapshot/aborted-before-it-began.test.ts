import assert from "node:assert/strict";
import { type SendOptions, sendSnapshot } from "../../../sidecar/snapshot/sender.ts";

describe("a snapshot that is not wanted any more when its stream is opened", () => {
  it("closes the stream, so that the other end does not wait for it for ever (L4)", async () => {
    let cancelled = 0;
    const why = new Error("the cursor was closed");
    const options = {
      call: { cancel: () => (cancelled += 1) },
      signal: AbortSignal.abort(why),
    } as unknown as SendOptions;
    await assert.rejects(sendSnapshot(options), why);
    assert.equal(cancelled, 1);
  });
});
