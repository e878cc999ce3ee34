import assert from "node:assert/strict";
import { DiskError } from "../../../sidecar/lib/ports/disk.ts";
import { TransportError } from "../../../sidecar/lib/ports/duplex-call.ts";
import { ASIDE_SUFFIX } from "../../../sidecar/lib/sealed-file.ts";
import { ProtocolError } from "../../../sidecar/protocol/errors.ts";
import { SnapshotFormat } from "../../../sidecar/protocol/gen/resilver.ts";
import { RateLimiter } from "../../../sidecar/snapshot/rate-limiter.ts";
import {
  CURRENT_FILE,
  dropOldStates,
  openCurrent,
  readPointer,
} from "../../../sidecar/snapshot/state-pointer.ts";
import { meddledDisk } from "../../support/meddled-disk.ts";
import {
  BASE,
  CHUNK,
  OLD,
  STATE,
  Target,
  TestClock,
  attempt,
  contentOf,
  flipped,
  onChunks,
  preparedDisk,
  refused,
  sourceOf,
} from "./transfer-fixture.ts";

const CONTENT = contentOf(1042);
const CHUNKS = 11;

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

  it("lets the process breathe", async () => {
    const target = await Target.prepared();
    const clock = new TestClock();
    await attempt(target, sourceOf(CONTENT), { send: { clock } });
    assert.ok(clock.yields >= CHUNKS, `${clock.yields} yields`);
  });

  it("stops reading the source while the receiver takes nothing: memory is bounded", async () => {
    const target = await Target.prepared();
    const abort = new AbortController();
    const source = sourceOf(contentOf(100 * CHUNK), { pieceBytes: CHUNK });
    let read = 0;
    const counted = {
      ...source,
      async *chunks() {
        for await (const piece of source.chunks(SnapshotFormat.PAGES, CHUNK)) {
          read++;
          yield piece;
        }
      },
    };
    const idle = (async () => {
      for (let turn = 0; turn < 200; turn++) await new Promise((next) => setImmediate(next));
      abort.abort(new Error("enough seen"));
    })();
    await attempt(target, counted, {
      wire: { window: 3 },
      send: { signal: abort.signal },
      onPair: (pair) => {
        // The receiver takes the manifest and then stands still.
        const messages = pair.server.messages[Symbol.asyncIterator]();
        let taken = 0;
        const slow = {
          next: async () => {
            if (taken++ > 0) await idle;
            return messages.next();
          },
        };
        Object.assign(pair.server, { messages: { [Symbol.asyncIterator]: () => slow } });
      },
    });
    assert.ok(read <= 3 + 2, `${read} chunks read ahead`);
  });

  it("fails by the receiver's refusal even when the sender broke too (seed part 5)", async () => {
    const target = await Target.prepared();
    const refusal = new ProtocolError("NODE_IS_NOT_MEMBER", "not a member");
    let refuse = (): void => undefined;
    const source = {
      ...sourceOf(CONTENT),
      async *chunks() {
        yield CONTENT.slice(0, 300);
        refuse();
        throw new Error("the send side broke");
      },
    };
    const { sent } = await attempt(target, source, {
      onPair: (pair) => {
        refuse = () => pair.server.fail(refusal);
      },
    });
    assert.equal(sent, refusal);
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

  it("refuses a base that the log goes on from: the log is what is sent then (R12)", async () => {
    const target = await Target.prepared();
    target.holdsBase = true;
    const { sent, received } = await attempt(target, sourceOf(CONTENT));
    for (const error of [sent, received]) {
      assert.ok(error instanceof ProtocolError);
      assert.match(error.message, /is in this replica's log, which goes on from there/);
    }
    assert.equal(target.writers.opened.length, 0);
    assert.deepEqual(await target.state(), OLD);
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

  it("ends the process unless the old pointer is seen to stand after a failed commit (R14)", async () => {
    const busy = new DiskError("IO", STATE, "EMFILE: too many open files", { fatal: false });
    const pointer = `${STATE}/${CURRENT_FILE}`;
    for (const [what, fatal] of [
      ["sync", true],
      ["rename", false],
      ["rename and read", true],
      ["rename, though it was done", true],
    ] as const) {
      const disk = await preparedDisk();
      let renaming = false;
      const meddled = meddledDisk(disk, (act, path) => {
        const first = act === "rename" && path === pointer;
        renaming ||= first;
        if (what === "sync" ? act === "syncDir" && renaming : first) {
          if (what.endsWith("done")) void disk.rename(`${pointer}${ASIDE_SUFFIX}`, pointer);
          throw busy;
        }
        if (renaming && what.endsWith("read") && act === "readFile") throw busy;
      });
      const { received } = await attempt(Target.on(meddled), sourceOf(CONTENT));
      assert.ok(received instanceof DiskError, what);
      assert.equal(received.fatal, fatal, what);
      const names = fatal ? ["state-0", "state-1"] : ["state-0"];
      const states = (await disk.list(STATE)).filter((name) => name.startsWith("state-"));
      assert.deepEqual(states, names, what);
      const { dir } = await openCurrent(disk, STATE, "u1", { dropOld: false });
      const moved = what === "sync" || what.endsWith("done");
      assert.equal(dir, moved ? "state-1" : "state-0", what);
    }
  });

  it("removes the stage when the engine breaks, and starts over", async () => {
    const target = await Target.prepared();
    target.writers.failAppendAt = 5;
    const { received } = await attempt(target, sourceOf(CONTENT));
    assert.match((received as Error).message, /the engine is broken/);
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
    assert.match((shortSent as Error).message, /3 chunks and had said 11/);
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
