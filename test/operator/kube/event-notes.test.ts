import assert from "node:assert/strict";
import { eventNote } from "../../../operator/kube/event-notes.ts";

const SHARD = { namespace: "default", shard: 0 };

describe("what the coordinator tells as Events", () => {
  it("a gate that is closed names the page that says what to do", () => {
    const note = eventNote({
      kind: "recoveryDeferred",
      ...SHARD,
      node: "demo-1",
      gate: "Paused",
      reason: "IdentityMismatch",
      message: "recovery mode is Paused",
    });
    assert.deepEqual(note, {
      type: "Warning",
      reason: "RecoveryDeferred",
      action: "Wait",
      note: "default/0: waits for Paused: recovery mode is Paused; see runbooks/gates/Paused.md",
      pod: "demo-1",
    });
  });

  it("so does a stop", () => {
    const message = "an older record was restored";
    const note = eventNote({ kind: "stopped", ...SHARD, reason: "RecordStale", message });
    assert.equal(note?.note, `default/0: ${message}; see runbooks/conditions/RecordStale.md`);
  });

  it("what people need not hear of is none", () => {
    assert.equal(eventNote({ kind: "recordConflict", ...SHARD }), null);
  });
});
