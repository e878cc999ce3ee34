import assert from "node:assert/strict";
import fc from "fast-check";
import { ProtocolError } from "../../../sidecar/protocol/errors.ts";
import { SnapshotManifest } from "../../../sidecar/protocol/gen/resilver.ts";
import { checkManifest, chunkCountOf, sameManifest } from "../../../sidecar/snapshot/manifest.ts";
import { RateLimiter } from "../../../sidecar/snapshot/rate-limiter.ts";
import { rechunk } from "../../../sidecar/snapshot/source.ts";
import { WholeHash, chunkHash, sameHash } from "../../../sidecar/snapshot/whole-hash.ts";
import { TestClock, contentOf } from "./transfer-fixture.ts";

const GOOD: SnapshotManifest = {
  snapshotId: "snap-1",
  format: 1,
  formatDetail: "lmdb",
  base: { term: 3, offset: 9, crc: 1 },
  records: 5,
  bytes: 1000,
  chunkCount: 10,
  chunkBytes: 100,
};

describe("snapshot manifest", () => {
  it("passes when every field is within its bounds, also over the wire", () => {
    const wire = SnapshotManifest.decode(SnapshotManifest.encode(GOOD).finish());
    assert.ok(sameManifest(checkManifest(wire, 3), checkManifest(GOOD, 3)));
    checkManifest({ ...GOOD, chunkCount: 0, bytes: 123 }, 4);
  });

  const bad: readonly (readonly [string, Partial<SnapshotManifest>])[] = [
    ["snapshot_id", { snapshotId: "" }],
    ["snapshot_id", { snapshotId: "../../etc" }],
    ["snapshot_id", { snapshotId: "a".repeat(65) }],
    ["format", { format: -1 }],
    ["format_detail", { formatDetail: "x".repeat(257) }],
    ["base", { base: undefined }],
    ["base.term", { base: { term: 4, offset: 9, crc: 1 } }],
    ["base.term", { base: { term: -1, offset: 9, crc: 1 } }],
    ["base.offset", { base: { term: 3, offset: -1, crc: 1 } }],
    ["base.crc", { base: { term: 3, offset: 9, crc: 2 ** 32 } }],
    ["records", { records: -1 }],
    ["bytes", { bytes: -1 }],
    ["bytes", { bytes: Number.NaN }],
    ["chunk_bytes", { chunkBytes: 0 }],
    ["chunk_bytes", { chunkBytes: 2 ** 30 }],
    ["chunk_count", { chunkCount: 9 }],
    ["chunk_count", { chunkCount: -1 }],
    ["chunk_count", { bytes: 0 }],
  ];
  for (const [field, change] of bad) {
    it(`is refused by name: ${field} ${JSON.stringify(change).slice(0, 60)}`, () => {
      assert.throws(
        () => checkManifest({ ...GOOD, ...change }, 3),
        (error: unknown) => {
          assert.ok(error instanceof ProtocolError);
          assert.equal(error.reason, "INVALID_ARGUMENT");
          assert.equal(error.metadata["field"], field);
          assert.notEqual(error.metadata["value"], undefined);
          assert.ok(error.metadata["allowed"]);
          return true;
        },
      );
    });
  }
});

describe("snapshot chunks", () => {
  it("hold the same bytes whatever the pieces, all of one size but the last", async () => {
    const pieces = fc.array(fc.uint8Array({ maxLength: 40 }), { maxLength: 20 });
    await fc.assert(
      fc.asyncProperty(pieces, fc.integer({ min: 1, max: 16 }), async (parts, chunkBytes) => {
        async function* given() {
          yield* parts;
        }
        const chunks: Uint8Array[] = [];
        for await (const chunk of rechunk(given(), chunkBytes)) chunks.push(chunk);
        const all = Buffer.concat(parts);
        assert.deepEqual(Buffer.concat(chunks), all);
        assert.equal(chunks.length, chunkCountOf(all.length, chunkBytes));
        for (const chunk of chunks.slice(0, -1)) assert.equal(chunk.length, chunkBytes);
      }),
    );
  });
});

describe("whole hash", () => {
  it("goes on from its saved state and tells order, content and count apart", () => {
    const chunks = [contentOf(50, 1), contentOf(50, 2), contentOf(50, 3)];
    const hashOf = (list: readonly Uint8Array[]): Uint8Array => {
      const hash = new WholeHash();
      for (const chunk of list) hash.add(chunkHash(chunk));
      return hash.digest();
    };
    const [a, b, c] = chunks as [Uint8Array, Uint8Array, Uint8Array];
    const resumed = new WholeHash(hashOf([a, b]));
    resumed.add(chunkHash(c));
    assert.ok(sameHash(resumed.digest(), hashOf(chunks)));
    for (const other of [[a, c, b], [a, b], [a, b, c, c], [a, a, c], [a, b, c.slice(1)], []]) {
      assert.ok(!sameHash(hashOf(other), hashOf(chunks)));
    }
  });
});

describe("rate limiter", () => {
  it("keeps the mean at the limit and the burst small, also after a pause", async () => {
    const clock = new TestClock();
    const limiter = new RateLimiter(clock, 1_000_000);
    const never = new AbortController().signal;
    for (let sent = 0; sent < 20; sent++) await limiter.take(100_000, never);
    assert.ok(clock.now >= 1900 && clock.now <= 2100, `${clock.now} ms`);
    clock.now += 60_000;
    const before = clock.now;
    for (let sent = 0; sent < 10; sent++) await limiter.take(100_000, never);
    assert.ok(clock.now - before >= 900, `${clock.now - before} ms after a pause`);
  });

  it("does not wait when unlimited, and stops waiting on abort", async () => {
    const clock = new TestClock();
    const abort = new AbortController();
    await new RateLimiter(clock, 0).take(1e12, abort.signal);
    assert.equal(clock.now, 0);
    const waiting = new RateLimiter(clock, 1).take(1000, abort.signal);
    abort.abort(new Error("stop"));
    await assert.rejects(waiting, /stop/);
  });
});
