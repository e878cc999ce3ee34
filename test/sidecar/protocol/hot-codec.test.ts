import assert from "node:assert/strict";
import fc from "fast-check";
import { Append, SnapshotChunk } from "../../../sidecar/protocol/gen/resilver.ts";
import { encodeAppend, encodeSnapshotChunk } from "../../../sidecar/protocol/hot-codec.ts";

const bytes = fc.uint8Array({ maxLength: 70_000, size: "max" });
const offset = fc.integer({ min: -1, max: Number.MAX_SAFE_INTEGER });
const position = fc.record({ term: offset, offset, crc: fc.nat(2 ** 31 - 1) });

/** A message with its bytes as text, so that views and copies compare. */
function plain(message: unknown): unknown {
  if (message instanceof Uint8Array) return Buffer.from(message).toString("hex");
  if (typeof message !== "object" || message === null) return message;
  return Object.fromEntries(Object.entries(message).map(([key, value]) => [key, plain(value)]));
}

describe("hot codec", () => {
  it("writes appends that decode as the generated ones do", () => {
    fc.assert(
      fc.property(
        fc.option(bytes, { nil: undefined }),
        offset,
        position,
        fc.boolean(),
        (value, number, previous, targetVotes) => {
          const entry =
            value === undefined
              ? undefined
              : { term: number, offset: number, value, timestamp: Math.abs(number) };
          const names = { leaderUid: "leader", targetUid: "target" };
          const append = Append.fromPartial({
            ...names,
            term: number,
            entry,
            commitOffset: number,
            previous,
            entryCrc: previous.crc,
            round: Math.abs(number),
            targetVotes,
          });
          const expected = Append.decode(Append.encode(append).finish());
          assert.deepEqual(plain(Append.decode(encodeAppend(append))), plain(expected));
        },
      ),
      { numRuns: 100 },
    );
  });

  it("writes snapshot chunks that decode as the generated ones do", () => {
    fc.assert(
      fc.property(bytes, fc.nat(1_000_000), position, (content, index, base) => {
        const chunk = SnapshotChunk.fromPartial({
          term: index,
          name: "id",
          content,
          chunkIndex: index,
          chunkCount: index + 1,
          chunkHash: Uint8Array.of(base.crc & 255),
          snapshotId: "id",
          wholeHash: content.subarray(0, 8),
          manifest: index % 2 === 0 ? { snapshotId: "id", bytes: index, base } : undefined,
        });
        const expected = SnapshotChunk.decode(SnapshotChunk.encode(chunk).finish());
        assert.deepEqual(plain(SnapshotChunk.decode(encodeSnapshotChunk(chunk))), plain(expected));
      }),
      { numRuns: 100 },
    );
  });
});
