import assert from "node:assert/strict";
import fc from "fast-check";
import { chainCrc } from "../../../sidecar/protocol/entry.ts";
import {
  decodeRecord,
  decodeSegmentHeader,
  encodeRecordHeader,
  encodeSegmentHeader,
  mayBeTorn,
  parseSegmentName,
  RECORD_HEADER_BYTES,
  segmentName,
} from "../../../sidecar/wal/segment-codec.ts";

const integer = fc.integer({ min: -1, max: Number.MAX_SAFE_INTEGER });
const crc32 = fc.integer({ min: 0, max: 0xffffffff });
const fields = fc.record(
  {
    previousCrc: crc32,
    generation: crc32,
    mark: integer,
    commit: integer,
    term: integer,
    offset: fc.nat({ max: Number.MAX_SAFE_INTEGER }),
    timestampMs: fc.nat({ max: Number.MAX_SAFE_INTEGER }),
    value: fc.uint8Array({ maxLength: 300 }),
  },
  { noNullPrototype: true },
);
const places = fc.record({ firstOffset: fc.nat(), position: fc.nat() });

function encode(
  record: typeof fields extends fc.Arbitrary<infer T> ? T : never,
  place: Place,
): Uint8Array {
  const { previousCrc, generation, mark, commit, ...rest } = record;
  const { term, offset, timestampMs, value } = rest;
  const entry = { ...rest, crc: chainCrc(previousCrc, term, offset, timestampMs, value) };
  const bytes = new Uint8Array(RECORD_HEADER_BYTES + value.byteLength);
  encodeRecordHeader(bytes, 0, place, { entry, previousCrc, generation, mark, commit });
  bytes.set(value, RECORD_HEADER_BYTES);
  return bytes;
}

type Place = Parameters<typeof decodeRecord>[1];

describe("segment codec", () => {
  it("gives back every record, whatever follows it", () => {
    fc.assert(
      fc.property(fields, places, fc.uint8Array({ maxLength: 40 }), (record, place, after) => {
        const bytes = Buffer.concat([encode(record, place), after]);
        const found = decodeRecord(bytes, place);
        assert.ok(found !== null);
        const { entry, previousCrc, generation, mark, commit } = found;
        const { term, offset, timestampMs } = entry;
        const value = Uint8Array.from(entry.value);
        assert.deepEqual(
          { previousCrc, generation, mark, commit, term, offset, timestampMs, value },
          record,
        );
        assert.equal(found.bytes, bytes.byteLength - after.byteLength);
      }),
    );
  });

  it("refuses a record that is cut short, changed in any bit, or at another place", () => {
    fc.assert(
      fc.property(fields, places, fc.nat(), fc.nat(), (record, place, cut, bit) => {
        const bytes = encode(record, place);
        assert.equal(decodeRecord(bytes.subarray(0, cut % bytes.byteLength), place), null);
        const moved = { ...place, position: place.position + 1 };
        assert.equal(decodeRecord(bytes, moved), null);
        const at = bit % (bytes.byteLength * 8);
        bytes[at >> 3] = (bytes[at >> 3] ?? 0) ^ (1 << (at % 8));
        assert.equal(decodeRecord(bytes, place), null);
      }),
    );
  });

  it("gives back every segment header, and refuses one with a changed bit", () => {
    fc.assert(
      fc.property(crc32, integer, integer, crc32, fc.nat({ max: 511 }), (...values) => {
        const [generation, term, offset, crc, bit] = values;
        const header = { generation, base: { term, offset, crc } };
        const bytes = encodeSegmentHeader(header);
        assert.deepEqual(decodeSegmentHeader(bytes), { format: 2, ...header });
        bytes[bit >> 3] = (bytes[bit >> 3] ?? 0) ^ (1 << (bit % 8));
        assert.equal(decodeSegmentHeader(bytes), null);
      }),
    );
  });

  it("names segments so that they sort by offset", () => {
    assert.equal(segmentName(0), "00000000000000000000.wal");
    assert.equal(parseSegmentName(segmentName(1_234_567)), 1_234_567);
    for (const name of [
      "1.wal",
      "marks",
      "00000000000000000000.wal.new",
      "99999999999999999999.wal",
    ]) {
      assert.equal(parseSegmentName(name), null);
    }
  });

  it("blames a lost sector only where one is still zero, or the file ends", () => {
    const bytes = new Uint8Array(1000).fill(1);
    assert.equal(mayBeTorn(bytes, 100, 1100), false);
    assert.equal(mayBeTorn(bytes.subarray(0, 999), 100, 1100), true);
    // The file's second sector is 512..1023, here 412..923.
    assert.equal(mayBeTorn(bytes.slice().fill(0, 412, 924), 100, 1100), true);
    assert.equal(mayBeTorn(bytes.slice().fill(0, 413, 924), 100, 1100), false);
    assert.equal(mayBeTorn(bytes.slice().fill(0, 924), 100, 1100), true);
  });
});
