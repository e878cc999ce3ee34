import assert from "node:assert/strict";
import { Metadata, status as Code } from "@grpc/grpc-js";
import { DiskError } from "../../../sidecar/lib/ports/disk.ts";
import { TransportError } from "../../../sidecar/lib/ports/duplex-call.ts";
import { DETAILS_KEY } from "../../../sidecar/protocol/error-detail.ts";
import { ProtocolError, REASONS, type Reason } from "../../../sidecar/protocol/errors.ts";
import { errorOfStatus, outcomeName, statusOf } from "../../../sidecar/rpc/status-map.ts";

const ALL = Object.keys(REASONS) as Reason[];

describe("Errors, both ways", () => {
  it("brings each refusal to a peer and back: numeric code and detail", () => {
    for (const reason of ALL) {
      const status = statusOf(new ProtocolError(reason, "why", { shard: "3" }), "peer");
      const { code, status: standard } = REASONS[reason];
      assert.equal(status.code, code ?? Code[standard]);
      const back = errorOfStatus(status);
      assert.ok(back instanceof ProtocolError);
      assert.equal(back.reason, reason);
      assert.equal(back.message, "why");
      assert.deepEqual(back.metadata, { shard: "3" });
    }
  });

  it("answers clients with the standard code and the detail", () => {
    for (const reason of ALL) {
      const status = statusOf(new ProtocolError(reason, "why"), "public");
      assert.equal(status.code, Code[REASONS[reason].status]);
      const back = errorOfStatus(status);
      assert.ok(back instanceof ProtocolError && back.reason === reason);
    }
  });

  it("tells released clients to try again in the one way that they all understand", () => {
    for (const reason of ["NODE_IS_NOT_LEADER", "NODE_IS_NOT_MEMBER"] as const) {
      const status = statusOf(new ProtocolError(reason, "why"), "released");
      assert.equal(status.code, Code.UNAVAILABLE);
      const back = errorOfStatus(status);
      assert.ok(back instanceof ProtocolError && back.reason === reason);
    }
    const other = statusOf(new ProtocolError("NAMESPACE_NOT_FOUND", "why"), "released");
    assert.equal(other.code, Code.NOT_FOUND);
  });

  it("recognises a bare numeric code", () => {
    for (const reason of ALL) {
      const { code } = REASONS[reason];
      if (code === null) continue;
      const back = errorOfStatus({ code, details: "", metadata: new Metadata() });
      assert.ok(back instanceof ProtocolError && back.reason === reason);
    }
  });

  it("lets NODE_IS_NOT_MEMBER win over INVALID_STATUS when both are told", () => {
    const member = new ProtocolError("NODE_IS_NOT_MEMBER", "wiped");
    const invalid = new ProtocolError("INVALID_STATUS", "not a follower", {});
    const both = [
      new AggregateError([invalid, member]),
      Object.assign(new ProtocolError("INVALID_STATUS", "outer"), { cause: member }),
      new Error("wrapped", { cause: new AggregateError([invalid, member]) }),
    ];
    for (const error of both) {
      assert.equal(statusOf(error, "peer").code, 112);
      assert.equal(outcomeName(error), "NODE_IS_NOT_MEMBER");
    }
  });

  it("takes a cancellation, bare or wrapped in a status, for no error", () => {
    assert.equal(errorOfStatus({ code: Code.CANCELLED, details: "" }), null);
    assert.equal(errorOfStatus({ code: Code.OK, details: "" }), null);
    const abort = new DOMException("stop", "AbortError");
    assert.equal(errorOfStatus(statusOf(abort, "peer")), null);
  });

  it("tells connection, disk and unknown failures apart", () => {
    assert.ok(errorOfStatus({ code: Code.UNAVAILABLE, details: "gone" }) instanceof TransportError);
    const full = new DiskError("NO_SPACE", "/data", "disk full", { fatal: false });
    assert.equal(statusOf(full, "public").code, Code.RESOURCE_EXHAUSTED);
    const broken = new DiskError("IO", "/data", "bad", { fatal: false });
    assert.equal(statusOf(broken, "public").code, Code.INTERNAL);
    assert.equal(statusOf(new TransportError("x"), "public").code, Code.UNAVAILABLE);
    assert.equal(statusOf("thrown text", "public").details, "thrown text");
  });

  it("sends texts that a header can carry", () => {
    const half = statusOf(new ProtocolError("INVALID_ARGUMENT", "key \ud83d"), "public");
    assert.doesNotThrow(() => encodeURI(half.details));
    const long = statusOf(new Error("x".repeat(100_000)), "public");
    assert.ok(long.details.length < 2_000);
  });

  it("sends details that a header can carry, whatever a client made them of", () => {
    const address = `${"a".repeat(253)}:65535`;
    const metadata = {
      value: "\u20ac".repeat(319) + "\ud83d\ude00".repeat(1_000_000),
      leader: address,
      ...Object.fromEntries(
        Array.from({ length: 50 }, (_, at) => [`n${at}`, "\u20ac".repeat(500)]),
      ),
      shard: "3",
    };
    const status = statusOf(new ProtocolError("NODE_IS_NOT_LEADER", "why", metadata), "public");
    const detail = status.metadata.get(DETAILS_KEY)[0] as Buffer;
    assert.ok(detail.length < 5_000, `${detail.length} bytes`);
    const back = errorOfStatus(status);
    assert.ok(back instanceof ProtocolError);
    assert.equal(back.metadata["value"], `${"\u20ac".repeat(319)}\ufffd...`);
    assert.equal(back.metadata["leader"], address);
    assert.equal(back.metadata["shard"], "3");
  });
});
