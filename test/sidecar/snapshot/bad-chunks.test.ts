import assert from "node:assert/strict";
import { chunkHash } from "../../../sidecar/snapshot/whole-hash.ts";
import { TransportError } from "../../../sidecar/lib/ports/duplex-call.ts";
import { ProtocolError } from "../../../sidecar/protocol/errors.ts";
import { type SnapshotChunk } from "../../../sidecar/protocol/gen/resilver.ts";
import {
  BASE,
  CHUNK,
  OLD,
  TERM,
  Target,
  attempt,
  contentOf,
  flipped,
  onChunks,
  refused,
  sourceOf,
} from "./transfer-fixture.ts";

const CONTENT = contentOf(1042);
const CHUNKS = 11;

describe("snapshot transfer", () => {
  describe("refuses by name a chunk that is", () => {
    const other = contentOf(CHUNK, 99);
    const cases: readonly (readonly [
      string,
      string,
      (chunk: SnapshotChunk) => readonly SnapshotChunk[],
    ])[] = [
      ["lost", "chunk_index", () => []],
      ["repeated", "chunk_index", (chunk) => [chunk, chunk]],
      ["altered", "chunk_hash", (chunk) => [{ ...chunk, content: flipped(chunk.content) }]],
      [
        "another's",
        "chunk_hash",
        (chunk) => [{ ...chunk, content: other.slice(0, chunk.content.length) }],
      ],
      ["truncated", "content", (chunk) => [{ ...chunk, content: chunk.content.subarray(1) }]],
      ["too long", "content", (chunk) => [{ ...chunk, content: new Uint8Array(CHUNK + 1) }]],
      ["from another id", "snapshot_id", (chunk) => [{ ...chunk, snapshotId: "snap-2" }]],
      [
        "of a wrong count",
        "chunk_count",
        (chunk) => [{ ...chunk, chunkCount: chunk.chunkCount + 1 }],
      ],
    ];
    for (const [name, field, alter] of cases) {
      it(`${name}, each of them; the next attempt resumes there`, async () => {
        for (let index = 0; index < CHUNKS; index++) {
          if (name === "lost" && index === CHUNKS - 1) continue;
          const last = index === CHUNKS - 1;
          const target = await Target.prepared();
          const wire = onChunks((chunk) => (chunk.chunkIndex === index ? alter(chunk) : [chunk]));
          const { sent, received } = await attempt(target, sourceOf(CONTENT), { wire });
          if (name === "repeated" && last) {
            assert.deepEqual(sent, BASE);
            continue;
          }
          // The last chunk may be short: then its checksum or the sum of all bytes gives it away.
          const expected = last && name === "truncated" ? "chunk_hash" : field;
          refused(received, expected);
          refused(sent, expected);
          assert.deepEqual(await target.state(), OLD);
          const first: number[] = [];
          const again = await attempt(target, sourceOf(CONTENT), {
            wire: onChunks((chunk) => {
              first.push(chunk.chunkIndex);
              return [chunk];
            }),
          });
          assert.deepEqual(again.sent, BASE);
          assert.equal(first[0], name === "repeated" ? index + 1 : index);
          assert.deepEqual(await target.state(), CONTENT);
        }
      });
    }

    it("the last one, shorter than the manifest promised", async () => {
      const target = await Target.prepared();
      const wire = onChunks((m) => {
        const content = m.content.subarray(1);
        const last = m.wholeHash.length > 0;
        return [last ? { ...m, content, chunkHash: chunkHash(content) } : m];
      });
      const { received } = await attempt(target, sourceOf(CONTENT), { wire });
      refused(received, "bytes");
    });

    it("out of order", async () => {
      for (let index = 0; index < CHUNKS - 1; index++) {
        const target = await Target.prepared();
        let held: SnapshotChunk | null = null;
        const wire = onChunks((chunk) => {
          if (chunk.chunkIndex === index) {
            held = chunk;
            return [];
          }
          return chunk.chunkIndex === index + 1 && held !== null ? [chunk, held] : [chunk];
        });
        const { received } = await attempt(target, sourceOf(CONTENT), { wire });
        refused(received, "chunk_index");
        assert.deepEqual(await target.state(), OLD);
      }
    });

    it("the last one lost: the stream ended early", async () => {
      const target = await Target.prepared();
      const wire = onChunks((chunk) => (chunk.wholeHash.length > 0 ? [] : [chunk]));
      const { received } = await attempt(target, sourceOf(CONTENT), { wire });
      assert.ok(received instanceof TransportError);
      assert.deepEqual(await target.state(), OLD);
      assert.deepEqual((await attempt(target, sourceOf(CONTENT))).sent, BASE);
    });

    it("of another term, with INVALID_TERM", async () => {
      for (let index = 0; index < CHUNKS; index++) {
        const target = await Target.prepared();
        const wire = onChunks((m) => [m.chunkIndex === index ? { ...m, term: TERM + 1 } : m]);
        const { sent } = await attempt(target, sourceOf(CONTENT), { wire });
        assert.ok(sent instanceof ProtocolError);
        assert.equal(sent.reason, "INVALID_TERM");
        assert.match(sent.message, /term is 5, allowed: 4/);
        assert.deepEqual(await target.state(), OLD);
      }
    });

    it("marked last too early, or has a second manifest", async () => {
      const wholeHash = new Uint8Array(8);
      for (const [field, more] of [
        ["whole_hash", { wholeHash }],
        ["manifest", { manifest: undefined as SnapshotChunk["manifest"] }],
      ] as const) {
        const target = await Target.prepared();
        let manifest: SnapshotChunk["manifest"];
        const up = (m: SnapshotChunk): readonly SnapshotChunk[] => {
          manifest ??= m.manifest;
          if (m.manifest !== undefined || m.chunkIndex !== 3) return [m];
          return [{ ...m, ...more, ...(field === "manifest" ? { manifest } : {}) }];
        };
        const { received } = await attempt(target, sourceOf(CONTENT), { wire: { up } });
        refused(received, field);
      }
    });
  });
});
