import assert from "node:assert/strict";
import { LIMITS } from "../../../sidecar/limits.ts";
import type { ProtocolError } from "../../../sidecar/protocol/errors.ts";
import { KeyComparisonType, WriteRequest } from "../../../sidecar/protocol/gen/oxia-client.ts";
import {
  refuseUnsupported,
  refuseUnsupportedRead,
} from "../../../sidecar/state/request-validation.ts";
import { VERSION_OVERRIDE_MAX } from "../../../sidecar/state/version-counter.ts";
import { getRequest, put, remove } from "./state-fixture.ts";

const fits = "k".repeat(LIMITS.keyBytesMax);
const tooLong = "é".repeat(LIMITS.keyBytesMax / 2 + 1);
const index = { indexName: "i", secondaryKey: "s" };

const refused: [Partial<WriteRequest>, ProtocolError["reason"], string][] = [
  [
    { puts: [put("a", "1"), put("a", "1", { sessionId: 4 })] },
    "UNIMPLEMENTED",
    "puts[1].session_id",
  ],
  [
    { puts: [put("a", "1", { sequenceKeyDelta: [1] })] },
    "UNIMPLEMENTED",
    "puts[0].sequence_key_delta",
  ],
  [
    { puts: [put("a", "1", { secondaryIndexes: [index] })] },
    "UNIMPLEMENTED",
    "puts[0].secondary_indexes",
  ],
  [{ puts: [put(tooLong, "1")] }, "INVALID_ARGUMENT", "puts[0].key"],
  [
    { puts: [put("a", Buffer.alloc(LIMITS.valueBytesMax + 1))] },
    "INVALID_ARGUMENT",
    "puts[0].value",
  ],
  [
    { puts: [put("a", "1", { clientIdentity: "x".repeat(LIMITS.clientIdentityBytesMax + 1) })] },
    "INVALID_ARGUMENT",
    "puts[0].client_identity",
  ],
  [
    { puts: [put("a", "1", { overrideVersionId: VERSION_OVERRIDE_MAX + 1 })] },
    "INVALID_ARGUMENT",
    "puts[0].override_version_id",
  ],
  [
    { puts: [put("a", "1", { overrideModificationsCount: -1 })] },
    "INVALID_ARGUMENT",
    "puts[0].override_modifications_count",
  ],
  [{ deletes: [remove(tooLong)] }, "INVALID_ARGUMENT", "deletes[0].key"],
  [
    { deleteRanges: [{ startInclusive: "", endExclusive: tooLong }] },
    "INVALID_ARGUMENT",
    "delete_ranges[0].end_exclusive",
  ],
];

describe("request validation", () => {
  for (const [request, reason, field] of refused) {
    it(`refuses ${field} by name, value and what is allowed`, () => {
      const error = refuseUnsupported(WriteRequest.fromPartial(request));
      assert.equal(error?.reason, reason);
      assert.equal(error?.metadata["field"], field);
      assert.ok(error?.metadata["value"] && error.metadata["allowed"]);
      assert.ok(error.message.includes(field));
    });
  }

  it("lets pass what is within the limits", () => {
    const over = {
      overrideVersionId: VERSION_OVERRIDE_MAX,
      expectedVersionId: -1,
      partitionKey: "p",
      clientIdentity: "x".repeat(LIMITS.clientIdentityBytesMax),
    };
    const request = {
      puts: [put(fits, Buffer.alloc(LIMITS.valueBytesMax), over)],
      deletes: [remove(fits)],
    };
    assert.equal(refuseUnsupported(WriteRequest.fromPartial(request)), null);
    assert.equal(refuseUnsupported(WriteRequest.fromPartial({})), null);
    assert.equal(refuseUnsupportedRead(getRequest(fits)), null);
  });

  it("refuses an entry that is too long", () => {
    const error = refuseUnsupported(WriteRequest.fromPartial({}), LIMITS.entryBytesMax + 1);
    assert.equal(error?.metadata["field"], "request");
  });

  it("refuses reads by secondary index, of long keys and of unknown comparisons", () => {
    const byIndex = {
      startInclusive: "",
      endExclusive: "",
      includeInternalKeys: false,
      secondaryIndexName: "i",
    };
    assert.equal(refuseUnsupportedRead(byIndex)?.reason, "UNIMPLEMENTED");
    assert.equal(refuseUnsupportedRead(getRequest(tooLong))?.metadata["field"], "key");
    const unknown = getRequest("a", 9 as KeyComparisonType);
    assert.equal(refuseUnsupportedRead(unknown)?.metadata["field"], "comparison_type");
  });
});
