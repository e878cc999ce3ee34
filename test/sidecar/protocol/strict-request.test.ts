import assert from "node:assert/strict";
import fc from "fast-check";
import { LIMITS } from "../../../sidecar/limits.ts";
import {
  RangeScanRequest,
  ReadRequest,
  WriteRequest,
} from "../../../sidecar/protocol/gen/oxia-client.ts";
import { LogEntryValue } from "../../../sidecar/protocol/gen/resilver.ts";
import { contentOf, wrapWriteRequest } from "../../../sidecar/protocol/log-entry-value.ts";
import { refuseMalformed } from "../../../sidecar/protocol/strict-request.ts";

const text = fc.string({ maxLength: 6 });
const number = fc.maxSafeInteger();
const put = fc.record(
  {
    key: text,
    value: fc.uint8Array({ maxLength: 300 }),
    expectedVersionId: number,
    clientIdentity: text,
    sequenceKeyDelta: fc.array(fc.nat(), { maxLength: 2 }),
    secondaryIndexes: fc.array(fc.record({ indexName: text, secondaryKey: text }), {
      maxLength: 2,
    }),
    overrideVersionId: number,
  },
  { requiredKeys: [] },
);
const requests = fc
  .record(
    {
      shard: fc.nat(),
      puts: fc.array(put, { maxLength: 3 }),
      deletes: fc.array(fc.record({ key: text }), { maxLength: 2 }),
      deleteRanges: fc.array(fc.record({ startInclusive: text }), { maxLength: 2 }),
    },
    { requiredKeys: [] },
  )
  .map((request) => WriteRequest.encode(WriteRequest.fromPartial(request)).finish());
/** Bytes that begin like a request more often than not. */
const damaged = fc
  .tuple(
    requests,
    fc.array(fc.tuple(fc.nat(400), fc.integer({ min: 0, max: 255 })), { maxLength: 3 }),
    fc.uint8Array({ maxLength: 4 }),
    fc.nat(400),
  )
  .map(([bytes, changes, tail, keep]) => {
    const changed = Uint8Array.from([...bytes.subarray(0, keep), ...tail]);
    for (const [at, byte] of changes) if (at < changed.length) changed[at] = byte;
    return changed;
  });

function decoded(bytes: Uint8Array): WriteRequest | null {
  try {
    return WriteRequest.decode(bytes);
  } catch {
    return null;
  }
}

/** What a decoder makes of an entry's value that trusts the bytes within. */
function decodedWithin(value: Uint8Array): readonly WriteRequest[] {
  const content = LogEntryValue.decode(value).value;
  return content?.$case === "requests" ? content.value.writes : [];
}

describe("strict requests", () => {
  it("takes whatever an encoder makes, and fields it does not know", () => {
    fc.assert(
      fc.property(requests, (bytes) => {
        assert.equal(refuseMalformed(bytes, "write"), null);
        const unknown = [0xf8, 0x7f, 0x80, 1, 0xf9, 0x7f, ...Array(8).fill(0), 0xfd, 0x7f, 0, 0, 0];
        const more = Uint8Array.from([...bytes, ...unknown, 0, 0xfa, 0x7f, 2, 0, 0]);
        assert.equal(refuseMalformed(more, "write"), null);
        assert.deepEqual(decoded(more), decoded(bytes));
      }),
    );
  });

  it("takes only bytes that mean the same wherever they stand", () => {
    let taken = 0;
    fc.assert(
      fc.property(damaged, (bytes) => {
        const request = decoded(bytes);
        if (refuseMalformed(bytes, "write") !== null || request === null) return;
        taken += 1;
        const value = wrapWriteRequest(bytes);
        assert.deepEqual(decodedWithin(value), [request]);
      }),
      { numRuns: 5_000 },
    );
    assert.ok(taken > 200, `${taken} of 5,000 were taken`);
  });

  it("reads of an entry what was admitted, whatever the bytes", () => {
    fc.assert(
      fc.property(damaged, (bytes) => {
        const request = decoded(bytes);
        if (request === null) return;
        const content = contentOf({ value: wrapWriteRequest(bytes), offset: 1 });
        assert.deepEqual(content, { kind: "write", request });
      }),
      { numRuns: 2_000 },
    );
  });

  it("names message and place", () => {
    const cases: [number[], string, RegExp][] = [
      [[0], "request", /tag 0 at byte 0/],
      [[8, 1, 18, 3, 10, 1, 97, 12], "request", /tag 12 of wire type 4 at byte 7/],
      [[18, 1, 7], "puts", /tag 7 at byte 2/],
      [[18, 2, 10, 1], "puts", /field 1 without an end at byte 2/],
      [[18, 4, 66, 2, 0, 0], "secondary_indexes", /tag 0 at byte 4/],
      [[18, 6, 58, 2, 1, 0x80, 72, 1], "puts", /packed numbers without an end at byte 2/],
      [[26, 2, 16, 0x80], "deletes", /field 2 without an end at byte 2/],
      [[34, 1, 0x80], "delete_ranges", /no whole tag at byte 2/],
      [[0x80, 0], "request", /tag 0 at byte 0/],
      [[0x88, 0x80, 0x80, 0x80, 0x10, 0], "request", /no whole tag at byte 0/],
      [[18, 0xff, 0xff, 0xff, 0xff, 0x0f], "request", /field 2 without an end at byte 0/],
      [[8, ...Array(10).fill(0x80), 1], "request", /field 1 without an end at byte 0/],
      [[9, 0, 0], "request", /field 1 without an end/],
      [[13, 0, 0], "request", /field 1 without an end/],
      [[11, 12], "request", /tag 11 of wire type 3/],
    ];
    for (const [bytes, field, message] of cases) {
      const error = refuseMalformed(Uint8Array.from(bytes), "write");
      assert.equal(error?.reason, "INVALID_ARGUMENT");
      assert.equal(error?.metadata["field"], field);
      assert.match(error.message, message);
    }
  });

  it("refuses text that is not UTF-8, which would turn several keys into one", () => {
    const LONE = "\ufffd";
    const texts = [
      ["write", "puts.key", { puts: [{ key: LONE }] }],
      ["write", "puts.client_identity", { puts: [{ clientIdentity: LONE }] }],
      ["write", "puts.partition_key", { puts: [{ partitionKey: LONE }] }],
      ["write", "deletes.key", { deletes: [{ key: LONE }] }],
      ["write", "deletes.partition_key", { deletes: [{ partitionKey: LONE }] }],
      ["write", "delete_ranges.start_inclusive", { deleteRanges: [{ startInclusive: LONE }] }],
      ["write", "delete_ranges.end_exclusive", { deleteRanges: [{ endExclusive: LONE }] }],
      [
        "write",
        "secondary_indexes.index_name",
        { puts: [{ secondaryIndexes: [{ indexName: LONE }] }] },
      ],
      [
        "write",
        "secondary_indexes.secondary_key",
        { puts: [{ secondaryIndexes: [{ secondaryKey: LONE }] }] },
      ],
      ["read", "gets.key", { gets: [{ key: LONE }] }],
      ["read", "gets.secondary_index_name", { gets: [{ secondaryIndexName: LONE }] }],
      ["range", "request.start_inclusive", { startInclusive: LONE }],
      ["range", "request.end_exclusive", { endExclusive: LONE }],
      ["range", "request.secondary_index_name", { secondaryIndexName: LONE }],
    ] as const;
    const encoders = {
      write: (partial: object) => WriteRequest.encode(WriteRequest.fromPartial(partial)),
      read: (partial: object) => ReadRequest.encode(ReadRequest.fromPartial(partial)),
      range: (partial: object) => RangeScanRequest.encode(RangeScanRequest.fromPartial(partial)),
    };
    for (const [kind, field, partial] of texts) {
      const good = Buffer.from(encoders[kind]({ shard: 0, ...partial }).finish());
      assert.equal(refuseMalformed(good, kind), null);
      // Of the same length: overlong, half a surrogate pair, and no UTF-8 at all.
      for (const bad of [
        [0xe0, 0x80, 0xaf],
        [0xed, 0xa0, 0x80],
        [97, 0xff, 0xfe],
      ]) {
        const bytes = Buffer.from(good);
        bytes.set(bad, good.indexOf(LONE));
        const error = refuseMalformed(bytes, kind);
        assert.equal(error?.reason, "INVALID_ARGUMENT");
        assert.equal(error?.metadata["field"], field);
        assert.equal(error?.metadata["allowed"], "UTF-8");
        assert.match(
          error.message,
          new RegExp(`not UTF-8 .hex ${Buffer.from(bad).toString("hex")}`),
        );
      }
    }
  });

  it("takes text of any length, and values that are no text", () => {
    const key = "\u{1f600}\ufeffz".repeat(300);
    const value = Buffer.from([0xff, 0xfe]);
    const request = WriteRequest.fromPartial({ puts: [{ key, value }], deletes: [{ key: "a" }] });
    const bytes = WriteRequest.encode(request).finish();
    assert.equal(refuseMalformed(bytes, "write"), null);
    assert.deepEqual(decoded(bytes)?.puts[0]?.key, key);
    const at = Buffer.from(bytes).lastIndexOf("\u{1f600}");
    bytes[at] = 0xff;
    assert.match(refuseMalformed(bytes, "write")?.message ?? "", /^puts.key has text.*\.\.\.\)/);
  });

  it("bounds the operations of a request", () => {
    const operations = Array.from({ length: LIMITS.writeOperationsMax / 2 }, () => ({ key: "a" }));
    const half = WriteRequest.encode(
      WriteRequest.fromPartial({ shard: 0, puts: operations, deletes: operations }),
    ).finish();
    assert.equal(refuseMalformed(half, "write"), null);
    const error = refuseMalformed(Uint8Array.from([...half, 34, 0]), "write");
    assert.equal(error?.reason, "INVALID_ARGUMENT");
    assert.equal(error?.metadata["field"], "request");
    assert.match(error.message, /^request has more than 10000 operations.*at most 10000$/);
  });
});
