import assert from "node:assert/strict";
import { DiskError } from "../../../sidecar/lib/ports/disk.ts";
import { TransportError } from "../../../sidecar/lib/ports/duplex-call.ts";
import { ProtocolError } from "../../../sidecar/protocol/errors.ts";
import { SnapshotFormat } from "../../../sidecar/protocol/gen/resilver.ts";
import { readProgress, writeProgress } from "../../../sidecar/snapshot/stage-files.ts";
import {
  BASE,
  OLD,
  STATE,
  TERM,
  Target,
  attempt,
  contentOf,
  onChunks,
  sourceOf,
} from "./transfer-fixture.ts";

const CONTENT = contentOf(1042);
const CHUNKS = 11;

describe("snapshot transfer", () => {
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

    it("not on the stage of another replica", async () => {
      const target = await Target.prepared();
      await attempt(target, sourceOf(CONTENT), { wire: cut(8) });
      await target.receiver.close();
      const progress = await readProgress(target.disk, STATE, "snap-1");
      assert.ok(progress);
      await writeProgress(target.disk, STATE, { ...progress, uid: "u0" });
      await target.restart();
      assert.deepEqual((await attempt(target, sourceOf(CONTENT))).sent, BASE);
      assert.equal(target.writers.opened.at(-1)?.resumeBytes, 0);
    });

    it("never in a directory with files nobody vouches for", async () => {
      const target = await Target.prepared();
      await target.disk.makeDir(`${STATE}/staging-snap-1`);
      await target.disk.open(`${STATE}/staging-snap-1/data`, { create: true });
      assert.deepEqual((await attempt(target, sourceOf(CONTENT))).sent, BASE);
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

    it("not with another snapshot after a failed sync, which ends the process (R14)", async () => {
      for (const end of ["replaced", "closed"] as const) {
        const target = await Target.prepared();
        const error = new DiskError("IO", "staging-snap-1", "lost", { fatal: true });
        target.disk.failOn = { match: /^sync .*staging-snap-1\/data/u, error };
        // The third chunk starts the sync, and none comes after it to hear how that went.
        const first = await attempt(target, sourceOf(CONTENT), { wire: cut(3) });
        assert.ok(first.received instanceof TransportError);
        target.disk.failOn = null;
        if (end === "closed") {
          await assert.rejects(target.receiver.close(), error);
          continue;
        }
        const send = { snapshotId: "snap-2" };
        const { received } = await attempt(target, sourceOf(contentOf(500, 7)), { send });
        assert.equal(received, error);
      }
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
});
