import assert from "node:assert/strict";
import fc from "fast-check";
import {
  decodeErrorDetail,
  encodeErrorDetail,
  ERROR_DOMAIN,
  refusalOf,
} from "../../../sidecar/protocol/error-detail.ts";
import { ProtocolError, REASONS, type Reason } from "../../../sidecar/protocol/errors.ts";

const reasons = Object.keys(REASONS) as Reason[];

describe("error detail", () => {
  it("carries every reason and its metadata there and back", () => {
    const metadata = fc.dictionary(fc.string(), fc.string());
    fc.assert(
      fc.property(fc.constantFrom(...reasons), fc.string(), metadata, (reason, message, data) => {
        const bytes = encodeErrorDetail(9, new ProtocolError(reason, message, data));
        const info = decodeErrorDetail(bytes);
        assert.equal(info?.reason, reason);
        assert.equal(info?.domain, ERROR_DOMAIN);
        assert.deepEqual(Object.entries(info?.metadata ?? {}), Object.entries(data));
        assert.equal(refusalOf(9, message, bytes)?.reason, reason);
      }),
    );
  });

  it("understands a bare numeric code", () => {
    assert.equal(refusalOf(112, "x", undefined)?.reason, "NODE_IS_NOT_MEMBER");
    assert.equal(refusalOf(105, "x", undefined)?.reason, "RESOURCE_CONFLICT");
    assert.equal(refusalOf(14, "x", undefined), null);
  });

  it("takes damaged bytes for no detail, whatever they are", () => {
    const whole = encodeErrorDetail(
      9,
      new ProtocolError("NODE_IS_NOT_MEMBER", "m", { observedUid: "u2" }),
    );
    for (let length = 0; length < whole.length; length += 1) {
      const info = decodeErrorDetail(whole.subarray(0, length));
      assert.ok(info === null || info.reason === "NODE_IS_NOT_MEMBER" || info.reason === "");
    }
    fc.assert(
      fc.property(fc.uint8Array(), (bytes) => {
        decodeErrorDetail(bytes);
      }),
    );
  });
});
