import assert from "node:assert/strict";
import { DiskError } from "../../../sidecar/lib/ports/disk.ts";
import { TransportError } from "../../../sidecar/lib/ports/duplex-call.ts";
import { ProtocolError, REASONS, type Reason } from "../../../sidecar/protocol/errors.ts";
import { TransferDropped, transferEnd } from "../../../sidecar/runtime/transfer-end.ts";

const never = new AbortController().signal;
const LATER = { keep: false, refused: true };
const SOON = { keep: true, refused: false };

describe("the end of a transfer", () => {
  it("lets go of the snapshot, and of haste, unless the receiver may take it in a moment", () => {
    const soon: readonly Reason[] = ["INVALID_TERM", "RESOURCE_UNAVAILABLE"];
    for (const reason of Object.keys(REASONS) as Reason[]) {
      const end = transferEnd(new ProtocolError(reason, ""), never, true);
      assert.deepEqual(end, soon.includes(reason) ? SOON : LATER, reason);
    }
  });

  it("that broke on the way, or waits for its turn, is tried again soon", () => {
    assert.deepEqual(transferEnd(new TransportError("broken"), never, true), SOON);
    assert.deepEqual(transferEnd(new ProtocolError("RESOURCE_CONFLICT", ""), never, false), SOON);
  });

  it("by an error of the leader's own disk waits, with or without a snapshot", () => {
    const full = new DiskError("NO_SPACE", "/state", "no space", { fatal: false });
    assert.deepEqual(transferEnd(full, never, false), LATER);
    assert.deepEqual(transferEnd(full, never, true), LATER);
  });

  it("from outside keeps the snapshot, unless it was dropped for its own sake", () => {
    const ended = AbortSignal.abort(new Error("the cursor was closed"));
    const refusal = new ProtocolError("NO_SPACE", "");
    assert.deepEqual(transferEnd(refusal, ended, true), SOON);
    const dropped = AbortSignal.abort(new TransferDropped("for its log"));
    assert.deepEqual(transferEnd(refusal, dropped, true), { keep: false, refused: true });
  });
});
