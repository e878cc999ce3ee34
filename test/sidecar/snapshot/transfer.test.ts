import assert from "node:assert/strict";
import { DiskError } from "../../../sidecar/lib/ports/disk.ts";
import { TransportError } from "../../../sidecar/lib/ports/duplex-call.ts";
import { ProtocolError } from "../../../sidecar/protocol/errors.ts";
import { type SnapshotChunk, SnapshotFormat } from "../../../sidecar/protocol/gen/resilver.ts";
import { RateLimiter } from "../../../sidecar/snapshot/rate-limiter.ts";
import { dropOldStates, readPointer } from "../../../sidecar/snapshot/state-pointer.ts";
import {
  BASE,
  CHUNK,
  OLD,
  STATE,
  TERM,
  Target,
  TestClock,
  attempt,
  contentOf,
  preparedDisk,
  sourceOf,
} from "./transfer-fixture.ts";

const CONTENT = contentOf(1042);
const CHUNKS = 11;

/** Alters what arrives: `alter` gets each chunk message, not the manifest. */
function onChunks(alter: (chunk: SnapshotChunk) => readonly SnapshotChunk[]) {
  return { up: (m: SnapshotChunk) => (m.manifest === undefined ? alter(m) : [m]) };
}

function refused(error: unknown, field: string): void {
  assert.ok(error instanceof ProtocolError, String(error));
  assert.equal(error.reason, "INVALID_ARGUMENT");
  assert.equal(error.metadata["field"], field);
  assert.ok(error.metadata["allowed"]);
}

describe("snapshot transfer", () => {
  for (const bytes of [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 10 * CHUNK, 1042]) {
    for (const format of [SnapshotFormat.PAGES, SnapshotFormat.RECORDS]) {
      it(`installs ${bytes} bytes as ${format === 0 ? "records" : "pages"}`, async () => {
        const target = await Target.prepared();
        target.writers.accepted = [format];
        const content = contentOf(bytes);
        const { sent, received } = await attempt(target, sourceOf(content));
        assert.deepEqual(sent, BASE);
        assert.deepEqual(received, {
          snapshotId: "snap-1",
          base: BASE,
          dir: "state-1",
          records: 9,
          bytes,
        });
        assert.deepEqual(target.installed, [received]);
        assert.deepEqual(await target.state(), content);
        target.disk.reboot("nothing");
        assert.deepEqual(await target.state(), content);
        assert.deepEqual((await readPointer(target.disk, STATE))?.base, BASE);
      });
    }
  }

  it("keeps the old state until it may be dropped, and nothing else", async () => {
    const target = await Target.prepared();
    await attempt(target, sourceOf(CONTENT));
    assert.deepEqual(await target.disk.list(STATE), ["CURRENT", "state-0", "state-1"]);
    await dropOldStates(target.disk, STATE);
    assert.deepEqual(await target.disk.list(STATE), ["CURRENT", "state-1"]);
  });

  it("falls back to records, and gives up when they are refused too", async () => {
    const target = await Target.prepared();
    target.writers.accepted = [];
    const { sent, received } = await attempt(target, sourceOf(CONTENT));
    refused(sent, "format_detail");
    refused(received, "format_detail");
  });

  it("lets the process breathe and holds one chunk at a time", async () => {
    const target = await Target.prepared();
    const clock = new TestClock();
    let queued = 0;
    let most = 0;
    const wire = {
      window: 2,
      ...onChunks((chunk) => {
        queued++;
        return [chunk];
      }),
    };
    await attempt(target, sourceOf(CONTENT), {
      wire,
      send: { clock },
      session: {
        onProgress: ({ bytesDone }) => {
          most = Math.max(most, queued - bytesDone / CHUNK);
        },
      },
    });
    assert.ok(clock.yields >= CHUNKS, `${clock.yields} yields`);
    assert.ok(most <= 4, `${most} chunks on their way`);
  });

  it("reports progress at both ends", async () => {
    const target = await Target.prepared();
    const sent: number[] = [];
    const verified: number[] = [];
    await attempt(target, sourceOf(CONTENT), {
      send: {
        onProgress: ({ bytesSent, bytesVerified, bytesTotal }) => {
          sent.push(bytesSent);
          verified.push(bytesVerified);
          assert.equal(bytesTotal, 1042);
        },
      },
    });
    assert.equal(sent.at(-1), 1042);
    assert.equal(verified.at(-1), 1042);
    assert.ok(verified.some((bytes) => bytes > 0 && bytes < 1042));
    assert.equal(target.progress[0], 0);
    assert.equal(target.progress.at(-1), 1042);
  });

  describe("refuses by name a chunk that is", () => {
    const other = contentOf(CHUNK, 99);
    const cases: readonly (readonly [
      string,
      string,
      (chunk: SnapshotChunk) => readonly SnapshotChunk[],
    ])[] = [
      ["lost", "chunk_index", () => []],
      ["repeated", "chunk_index", (chunk) => [chunk, chunk]],
      ["altered", "chunk_crc", (chunk) => [{ ...chunk, content: flipped(chunk.content) }]],
      ["another's", "chunk_crc", (chunk) => [{ ...chunk, content: other.slice(0, chunk.content.length) }]],
      ["truncated", "content", (chunk) => [{ ...chunk, content: chunk.content.subarray(1) }]],
      ["too long", "content", (chunk) => [{ ...chunk, content: new Uint8Array(CHUNK + 1) }]],
      ["from another id", "snapshot_id", (chunk) => [{ ...chunk, snapshotId: "snap-2" }]],
      ["of a wrong count", "chunk_count", (chunk) => [{ ...chunk, chunkCount: chunk.chunkCount + 1 }]],
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
          const expected = last && name === "truncated" ? "chunk_crc" : field;
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
      const wholeHash = new Uint8Array(16);
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

  it("starts over when the whole is not what the sender hashed", async () => {
    const target = await Target.prepared();
    const wire = onChunks((m) => [
      m.wholeHash.length > 0 ? { ...m, wholeHash: flipped(m.wholeHash) } : m,
    ]);
    const { sent, received } = await attempt(target, sourceOf(CONTENT), { wire });
    refused(received, "whole_hash");
    refused(sent, "whole_hash");
    assert.deepEqual(await target.disk.list(STATE), ["CURRENT", "state-0"]);
    assert.deepEqual((await attempt(target, sourceOf(CONTENT))).sent, BASE);
  });

  it("finds damage of what an earlier attempt left, by the whole hash", async () => {
    const target = await Target.prepared();
    const wire = onChunks((m) => (m.chunkIndex < 5 ? [m] : []));
    await attempt(target, sourceOf(CONTENT), { wire });
    // The sender's pin is not the one it was: same id, other bytes.
    const { received } = await attempt(target, sourceOf(contentOf(1042, 5)));
    refused(received, "whole_hash");
    assert.deepEqual(await target.state(), OLD);
  });

  describe("resumes at the last verified chunk", () => {
    const cut = (chunk: number) => onChunks((m) => (m.chunkIndex < chunk ? [m] : []));

    it("after a broken stream", async () => {
      for (let chunk = 0; chunk < CHUNKS; chunk++) {
        const target = await Target.prepared();
        const first = await attempt(target, sourceOf(CONTENT), { wire: cut(chunk) });
        assert.ok(first.received instanceof Error);
        const seen: number[] = [];
        const wire = onChunks((m) => {
          seen.push(m.chunkIndex);
          return [m];
        });
        assert.deepEqual((await attempt(target, sourceOf(CONTENT), { wire })).sent, BASE);
        assert.equal(seen[0], chunk);
        assert.equal(target.writers.appended, CHUNKS);
        assert.deepEqual(await target.state(), CONTENT);
      }
    });

    it("after a restart, as far as it was recorded; records start over", async () => {
      for (const format of [SnapshotFormat.PAGES, SnapshotFormat.RECORDS]) {
        const target = await Target.prepared();
        target.writers.accepted = [format];
        await attempt(target, sourceOf(CONTENT), { wire: cut(8) });
        await target.receiver.close();
        target.disk.reboot("nothing");
        await target.restart();
        const { sent } = await attempt(target, sourceOf(CONTENT));
        assert.deepEqual(sent, BASE);
        // Recorded every 250 bytes of chunks of 100: at 300 and 600.
        const expected = format === SnapshotFormat.PAGES ? 600 : 0;
        assert.equal(target.writers.opened.at(-1)?.resumeBytes, expected);
        assert.deepEqual(await target.state(), CONTENT);
      }
    });

    it("from 0 when the engine cannot go on, or the stage is another replica's", async () => {
      const target = await Target.prepared();
      await attempt(target, sourceOf(CONTENT), { wire: cut(8) });
      await target.receiver.close();
      await target.restart();
      target.writers.resumes = false;
      assert.deepEqual((await attempt(target, sourceOf(CONTENT))).sent, BASE);
      assert.equal(target.writers.opened.at(-1)?.resumeBytes, 0);
    });

    it("not with another snapshot: its stage is removed", async () => {
      const target = await Target.prepared();
      await attempt(target, sourceOf(CONTENT), { wire: cut(8) });
      assert.ok((await target.disk.list(STATE)).includes("staging-snap-1"));
      const content = contentOf(500, 7);
      const send = { snapshotId: "snap-2" };
      assert.deepEqual((await attempt(target, sourceOf(content), { send })).sent, BASE);
      assert.deepEqual(await target.disk.list(STATE), ["CURRENT", "state-0", "state-1"]);
      assert.deepEqual(await target.state(), content);
    });

    it("when everything was there but the install was not wanted any more", async () => {
      const target = await Target.prepared();
      const newTerm = new ProtocolError("INVALID_TERM", "term is 4, allowed: 5");
      target.checkStillWanted = () => {
        throw newTerm;
      };
      const first = await attempt(target, sourceOf(CONTENT));
      assert.equal(first.received, newTerm);
      assert.deepEqual(await target.state(), OLD);
      target.checkStillWanted = () => undefined;
      const second = await attempt(target, sourceOf(CONTENT), {
        send: { term: TERM + 1 },
        session: { term: TERM + 1 },
      });
      assert.deepEqual(second.sent, BASE);
      assert.equal(target.writers.appended, CHUNKS);
      assert.deepEqual(await target.state(), CONTENT);
    });
  });

  describe("stops at once", () => {
    it("when the receiver's signal aborts, at each chunk and in a wait (NewTerm, R12)", async () => {
      for (let chunk = 0; chunk < CHUNKS; chunk++) {
        const target = await Target.prepared();
        const abort = new AbortController();
        const reason = new ProtocolError("INVALID_TERM", "a new term came");
        const wire = onChunks((m) => {
          if (m.chunkIndex === chunk) setImmediate(() => abort.abort(reason));
          return m.chunkIndex < chunk ? [m] : [];
        });
        const { sent, received } = await attempt(target, sourceOf(CONTENT), {
          wire,
          session: { signal: abort.signal },
        });
        assert.ok(received instanceof Error);
        assert.ok(sent instanceof Error);
        assert.deepEqual(await target.state(), OLD);
        assert.deepEqual((await attempt(target, sourceOf(CONTENT))).sent, BASE);
      }
    });

    it("when the sender's signal aborts; the receiver is not left waiting (seed part 5)", async () => {
      for (let chunk = 0; chunk < CHUNKS; chunk++) {
        const target = await Target.prepared();
        const abort = new AbortController();
        const reason = new Error("the cursor stops");
        const wire = onChunks((m) => {
          if (m.chunkIndex === chunk) abort.abort(reason);
          return m.chunkIndex < chunk ? [m] : [];
        });
        const { sent, received } = await attempt(target, sourceOf(CONTENT), {
          wire,
          send: { signal: abort.signal },
        });
        assert.equal(sent, reason);
        assert.ok(received instanceof TransportError);
      }
    });

    it("when the receiver never answers", async () => {
      const target = await Target.prepared();
      const abort = new AbortController();
      const reason = new Error("silent for too long");
      setImmediate(() => abort.abort(reason));
      const wire = { down: () => [] };
      const { sent, received } = await attempt(target, sourceOf(CONTENT), {
        wire,
        send: { signal: abort.signal },
      });
      assert.equal(sent, reason);
      assert.ok(received instanceof Error);
    });

    it("when the connection breaks", async () => {
      const target = await Target.prepared();
      const { sent, received } = await attempt(target, sourceOf(CONTENT), {
        onPair: (pair) => setImmediate(() => pair.sever()),
      });
      assert.ok(sent instanceof TransportError);
      assert.ok(received instanceof TransportError);
    });

    it("when a newer stream comes, which then goes on", async () => {
      const target = await Target.prepared();
      const wire = onChunks((m) => (m.chunkIndex < 4 ? [m] : []));
      const never = { ...wire };
      const stalled = attempt(target, sourceOf(CONTENT), {
        wire: never,
        onPair: (pair) => {
          pair.client.end = () => undefined;
        },
      });
      for (let turn = 0; turn < 60; turn++) await new Promise((resolve) => setImmediate(resolve));
      const { sent } = await attempt(target, sourceOf(CONTENT));
      assert.deepEqual(sent, BASE);
      assert.equal(target.writers.appended, CHUNKS);
      const first = await stalled;
      assert.ok(first.received instanceof ProtocolError);
      assert.equal(first.received.reason, "RESOURCE_CONFLICT");
      assert.ok(first.sent instanceof ProtocolError);
    });

    it("when the replica closes", async () => {
      const target = await Target.prepared();
      const wire = { down: () => [] };
      const running = attempt(target, sourceOf(CONTENT), { wire });
      setImmediate(() => void target.receiver.close());
      const { received } = await running;
      assert.ok(received instanceof ProtocolError);
      assert.equal(received.reason, "RESOURCE_UNAVAILABLE");
    });
  });

  it("refuses a base below the local commit, at the start and at the commit (R12)", async () => {
    const target = await Target.prepared();
    target.commit = BASE.offset + 1;
    const early = await attempt(target, sourceOf(CONTENT));
    assert.ok(early.sent instanceof ProtocolError);
    assert.equal(early.sent.reason, "RESOURCE_CONFLICT");
    assert.equal(target.writers.opened.length, 0);
    target.commit = -1;
    target.checkStillWanted = () => {
      target.commit = BASE.offset + 1;
    };
    const late = await attempt(target, sourceOf(CONTENT));
    assert.ok(late.received instanceof ProtocolError);
    assert.deepEqual(await target.state(), OLD);
  });

  it("refuses with NO_SPACE before anything is written, unless room can be made", async () => {
    const target = await Target.prepared();
    target.disk.free = 2041;
    target.disk.operations = 0;
    const { sent, received } = await attempt(target, sourceOf(CONTENT));
    for (const error of [sent, received]) {
      assert.ok(error instanceof ProtocolError);
      assert.equal(error.reason, "NO_SPACE");
      assert.equal(error.metadata["needed"], "2042");
      assert.equal(error.metadata["free"], "2041");
    }
    assert.equal(target.madeRoom, 1);
    assert.equal(target.disk.operations, 0);
    target.makeRoom = () => {
      target.disk.free = 2042;
    };
    assert.deepEqual((await attempt(target, sourceOf(CONTENT))).sent, BASE);
  });

  it("answers NO_SPACE when the disk fills up midway, and frees the stage", async () => {
    const target = await Target.prepared();
    const error = new DiskError("NO_SPACE", `${STATE}/x`, "disk full", { fatal: false });
    const wire = onChunks((m) => {
      if (m.chunkIndex === 6) target.disk.failOn = { match: /^write.*data/, error };
      return [m];
    });
    const { sent } = await attempt(target, sourceOf(CONTENT), { wire });
    assert.ok(sent instanceof ProtocolError);
    assert.equal(sent.reason, "NO_SPACE");
    assert.deepEqual(await target.disk.list(STATE), ["CURRENT", "state-0"]);
    target.disk.failOn = null;
    assert.deepEqual((await attempt(target, sourceOf(CONTENT))).sent, BASE);
  });

  it("lets a failed sync through as fatal (R14)", async () => {
    for (const match of [/^sync .*data/, /^syncDir/, /^sync .*CURRENT/]) {
      const target = await Target.prepared();
      const error = new DiskError("IO", "/x", "sync failed", { fatal: true });
      target.disk.failOn = { match, error };
      const { received, sent } = await attempt(target, sourceOf(CONTENT));
      assert.equal(received, error);
      assert.ok(sent instanceof Error);
    }
  });

  it("removes the stage when the engine breaks, and starts over", async () => {
    const target = await Target.prepared();
    target.writers.failAppendAt = 5;
    const { received } = await attempt(target, sourceOf(CONTENT));
    assert.match(String(received), /the engine is broken/);
    assert.deepEqual(await target.disk.list(STATE), ["CURRENT", "state-0"]);
    target.writers.failAppendAt = -1;
    assert.deepEqual((await attempt(target, sourceOf(CONTENT))).sent, BASE);
  });

  it("fails by the source's error when nothing else went wrong", async () => {
    const target = await Target.prepared();
    const broken = { ...sourceOf(CONTENT) };
    const boom = new Error("bad record in the source");
    broken.chunks = async function* () {
      yield CONTENT.slice(0, 250);
      throw boom;
    };
    const { sent, received } = await attempt(target, broken);
    assert.equal(sent, boom);
    assert.ok(received instanceof TransportError);
    const short = sourceOf(CONTENT.slice(0, 300), { forms: sourceOf(CONTENT).forms });
    const { sent: shortSent } = await attempt(await Target.prepared(), short);
    assert.match(String(shortSent), /3 chunks and had said 11|whole_hash/);
  });

  it("keeps to the rate limit", async () => {
    const target = await Target.prepared();
    const clock = new TestClock();
    const rateLimiter = new RateLimiter(clock, 1000);
    await attempt(target, sourceOf(CONTENT), { send: { clock, rateLimiter } });
    assert.ok(clock.now >= 900 && clock.now <= 1150, `${clock.now} ms for 1042 bytes at 1000 B/s`);
  });

  it("gives the core one install event, inside the exclusive section, before the answer", async () => {
    const target = await Target.prepared();
    const events: string[] = [];
    const wire = {
      down: (m: { installed: boolean }) => {
        if (m.installed) events.push("answer");
        return [m] as never[];
      },
    };
    await attempt(target, sourceOf(CONTENT), {
      wire,
      session: {
        checkStillWanted: () => void events.push("check"),
        onInstalled: async () => void events.push("installed"),
        exclusive: async (job) => {
          events.push("enter");
          await job();
          events.push("leave");
        },
      },
    });
    assert.deepEqual(events, ["enter", "check", "installed", "leave", "answer"]);
  });

  it("does not share a disk's stage between replicas", async () => {
    const disk = await preparedDisk();
    const target = Target.on(disk);
    await attempt(target, sourceOf(CONTENT), {
      wire: onChunks((m) => (m.chunkIndex < 8 ? [m] : [])),
    });
    await target.receiver.discard();
    assert.deepEqual(await disk.list(STATE), ["CURRENT", "state-0"]);
  });
});

function flipped(bytes: Uint8Array): Uint8Array {
  const copy = bytes.slice();
  copy[0] = (copy[0] ?? 0) ^ 1;
  return copy;
}
