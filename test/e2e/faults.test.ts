import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { closeSync, cpSync, existsSync, mkdirSync, openSync, rmSync, writeSync } from "node:fs";
import { mkdtemp, readFile, watch } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { SidecarClient } from "../../operator/controller/ports.ts";
import { acknowledgement } from "../../operator/core/force-quorum.ts";
import { StoreError } from "../../operator/sidecar-client/store-error.ts";
import { TestStore, type TestStoreOptions } from "../support/local-store.ts";
import { skip } from "../support/skip.ts";

const RECORDS = 200;
const RECORD_BYTES = 16 * 1024;
/** Slow enough to be met in the middle. */
const ONCE = { retryUnknown: false };
const SLOW = { snapshotBytesPerSecond: 1024 * 1024 };

/** Checksum, length and path of each file. */
function sumsBelow(...dirs: readonly string[]): readonly string[] {
  const sums = execFileSync("find", [...dirs, "-type", "f", "-exec", "cksum", "{}", "+"]);
  return sums.toString().trim().split("\n").sort();
}

describe("Faults of real processes", function () {
  this.timeout(180_000);
  let test: TestStore;

  afterEach(async () => {
    await test.close();
  });

  async function start(options: TestStoreOptions = {}): Promise<void> {
    test = await TestStore.start(options);
    await test.load(RECORDS, RECORD_BYTES);
  }

  /** Calls `hook` before the coordinator's next call of this name, once. */
  function beforeCall<Name extends keyof SidecarClient>(
    name: Name,
    hook: (node: string) => Promise<void>,
  ): { readonly wrapSidecars: (sidecars: SidecarClient) => SidecarClient; arm(): void } {
    let armed = false;
    return {
      arm: () => {
        armed = true;
      },
      wrapSidecars: (sidecars) =>
        new Proxy(sidecars, {
          get: (target, property) => {
            const value: unknown = Reflect.get(target, property, target);
            if (typeof value !== "function") return value;
            const call = value.bind(target) as (...args: unknown[]) => unknown;
            if (property !== name) return call;
            return async (...args: unknown[]) => {
              if (armed) {
                armed = false;
                await hook((args[0] as { node: string }).node);
              }
              return await call(...args);
            };
          },
        }),
    };
  }

  it("wiped during NewTerm", async () => {
    const hooked = beforeCall("newTerm", async (node) => {
      await test.store.platform.wipe(node, "all");
    });
    await start(hooked);
    test.startWriting();
    const uids = new Map(test.view().replicas.map(({ node, uid }) => [node, uid]));
    hooked.arm();
    await test.store.platform.kill(test.leader());
    for (const { name, state } of test.store.platform.statuses()) {
      if (state === "stopped") test.store.platform.pod(name).start();
    }
    await test.until("one has a new uid", () =>
      test
        .view()
        .replicas.some(({ node, uid, role }) => uid !== uids.get(node) && role !== "wiped"),
    );
    await test.store.whole(60_000);
    await test.written(50);
    await test.proveNothingLost();
  });

  it("wiped between install and promotion", async () => {
    let victim = "";
    let armed = false;
    await start({
      wrapRecords: (records) => ({
        read: (key, signal) => records.read(key, signal),
        create: (record, signal) => records.create(record, signal),
        replace: async (record, version, signal) => {
          const role = record.members.find(({ node }) => node === victim)?.role;
          if (role === "learner") armed = true;
          if (armed && role === "voter") {
            armed = false;
            // The promotion is saved after all: it names a replica that is no more.
            await test.store.platform.wipe(victim, "all");
            victim = "";
          }
          return await records.replace(record, version, signal);
        },
      }),
    });
    test.startWriting();
    const node = test.follower();
    const { uid } = test.replica(node);
    victim = node;
    const completed = test.event((e) => e.kind === "recoveryCompleted" && e.node === node);
    await test.store.platform.wipe(node, "all");
    const first = await completed;
    assert.ok(first.kind === "recoveryCompleted");
    assert.notEqual(first.uid, uid);
    await test.rebuilt(node, first.uid);
    await test.proveNothingLost(node);
  });

  it("leader killed during the transfer: the new leader sends its own snapshot from the start", async () => {
    await start({ sidecar: SLOW });
    test.startWriting();
    const victim = test.follower();
    const { uid } = test.replica(victim);
    await test.store.platform.wipe(victim, "all");
    await test.until("bytes arrive", () => test.replica(victim).bytesDone > 0);
    const begun = (await test.sidecarStatus(victim)).recovery?.snapshotId;
    assert.ok(begun !== undefined && begun !== "");
    const leader = test.leader();
    await test.store.platform.kill(leader);
    test.store.platform.pod(leader).start();
    await test.rebuilt(victim, uid);
    const installed = (await test.sidecarStatus(victim)).recovery?.snapshotId;
    assert.ok(installed !== undefined && installed !== "");
    assert.notEqual(installed, begun);
    await test.proveNothingLost(victim);
  });

  it("two of three wiped, the leader intact: both are rebuilt without a human", async () => {
    await start();
    test.startWriting();
    const victims = test.followers().map((node) => ({ node, uid: test.replica(node).uid }));
    await Promise.all(victims.map(({ node }) => test.store.platform.wipe(node, "all")));
    for (const { node, uid } of victims) await test.rebuilt(node, uid);
    await test.proveNothingLost(victims[0]?.node);
  });

  it("two of three wiped, the leader among them: stops, and a forced quorum keeps what the third holds", async () => {
    await start();
    await test.until("all hold the same", () =>
      test.view().replicas.every((r) => r.lagEntries === 0),
    );
    const [victim = "", survivor = ""] = test.followers();
    const leader = test.leader();
    const { platform } = test.store;
    await Promise.all([platform.kill(leader), platform.kill(victim)]);
    await Promise.all([platform.wipe(leader, "all"), platform.wipe(victim, "all")]);
    await test.until("stops", () => test.view().stop?.reason === "QuorumLost");

    const head = test.replica(survivor).headOffset;
    const key = { namespace: "default", shard: 0 };
    const order = {
      survivor,
      acknowledgeDataLoss: acknowledgement({ term: 0, offset: head }),
    };
    // Not while the others could still acknowledge something.
    await assert.rejects(test.store.forceQuorum(key, order), RangeError);
    await Promise.all([platform.kill(leader), platform.kill(victim)]);
    const wrong = { survivor, acknowledgeDataLoss: "yes" };
    await assert.rejects(test.store.forceQuorum(key, wrong), /lose everything after offset/);
    await test.store.forceQuorum(key, order);
    for (const node of [leader, victim]) platform.pod(node).start();
    await test.store.whole(60_000);
    assert.equal(test.view().lossEpoch, 1);
    await test.proveNothingLost(victim);
  });

  it("all restarted at once, while writing", async () => {
    await start();
    test.startWriting();
    await test.written(50);
    await test.store.platform.killAll();
    test.store.platform.startAll();
    await test.written(50);
    await test.proveNothingLost();
  });

  it("the leader restarted between its fencing and BecomeLeader: the term is raised again", async () => {
    const hooked = beforeCall("becomeLeader", async (node) => {
      await test.store.platform.kill(node);
      test.store.platform.pod(node).start();
      // Until its process is another one, the call would reach nobody.
      await test.store.until(
        "it answers again",
        () => (test.store.platform.pod(node).status().state === "running" ? true : null),
        10_000,
      );
    });
    await start(hooked);
    test.startWriting();
    const { term } = test.view();
    hooked.arm();
    await test.store.moveLeader(test.view(), test.follower(), 60_000);
    await test.store.whole(60_000);
    assert.ok(test.view().term >= term + 2, `term ${term} became ${test.view().term}`);
    await test.written(50);
    await test.proveNothingLost();
  });

  for (const swapped of [["wal"], ["state"], ["wal", "state"]] as const) {
    it(`${swapped.join(" and ")} swapped for another store's: refused, untouched, and rebuilt once empty`, async () => {
      await start();
      const other = await TestStore.start();
      await other.load(10, 1024);
      const victim = test.follower();
      const { platform } = test.store;
      const { uid } = test.replica(victim);
      const theirs = other.store.platform.paths(victim);
      const ours = platform.paths(victim);
      await other.store.platform.kill(victim);
      await platform.kill(victim);
      for (const dir of swapped) {
        rmSync(ours[dir], { recursive: true });
        cpSync(theirs[dir], ours[dir], { recursive: true });
      }
      const untouched = sumsBelow(ours.wal, ours.state);
      assert.ok(untouched.length > 4, untouched.join("\n"));
      platform.pod(victim).start();
      test.startWriting();
      const refused = /storeId is .*, allowed: .*; these are another replica's directories/u;
      await test.until("it says so", () => refused.test(test.replica(victim).fault));
      await test.written(200);
      assert.equal(test.replica(victim).status, "unknown");
      // It is there, and tells: what else it serves goes on.
      assert.equal(platform.pod(victim).status().restarts, 0);
      assert.equal(test.view().stop, null);
      await platform.kill(victim);
      assert.deepEqual(sumsBelow(ours.wal, ours.state), untouched);
      await other.close();
      await platform.wipe(victim, "all");
      await test.rebuilt(victim, uid);
      await test.proveNothingLost(victim);
    });
  }

  it("a follower stopped in its tracks: writes go on, it catches up", async () => {
    await start();
    test.startWriting();
    const victim = test.follower();
    const pod = test.store.platform.pod(victim);
    pod.pause();
    await test.until("it is seen as silent", () => test.replica(victim).reach !== "up");
    await test.written(200);
    pod.resume();
    await test.proveNothingLost(victim);
  });

  it("a leader stopped in its tracks comes back when another one leads", async () => {
    await start();
    test.startWriting();
    const old = test.leader();
    const pod = test.store.platform.pod(old);
    pod.pause();
    await test.until("another one leads", () => test.ledByAnother(old));
    await test.written(100);
    pod.resume();
    await test.proveNothingLost(old);
  });

  for (const mode of ["cut", "frozen"] as const) {
    it(`an old leader comes back after a partition (${mode})`, async () => {
      await start({ proxied: true });
      test.startWriting();
      await test.written(50);
      const old = test.leader();
      test.network(old, mode);
      await test.until("another one leads", () => test.ledByAnother(old));
      await test.written(100);
      test.network(old, "open");
      await test.proveNothingLost(old);
    });
  }

  it("a damaged log: never cut, rebuilt", async () => {
    await start();
    const victim = test.follower();
    const { uid } = test.replica(victim);
    await test.store.platform.corrupt(victim);
    await test.rebuilt(victim, uid);
    assert.ok(test.events.some((e) => e.kind === "recoveryStarted" && e.reason === "Corrupt"));
    await test.proveNothingLost(victim);
  });

  describe("on small disks", () => {
    const mounts: string[] = [];

    function mountSmall(dir: string, mebibytes: number): void {
      mkdirSync(dir, { recursive: true });
      execFileSync("mount", ["-t", "tmpfs", "-o", `size=${mebibytes}m`, "tmpfs", dir]);
      mounts.push(dir);
    }

    before(function (this: Mocha.Context) {
      const probe = join(tmpdir(), `resilver-mount-${process.pid}`);
      try {
        mountSmall(probe, 1);
        execFileSync("umount", [probe]);
        mounts.pop();
        rmSync(probe, { recursive: true });
      } catch {
        skip(this, "needs the right to mount a small file system");
      }
    });

    afterEach(() => {
      for (const dir of mounts.splice(0)) if (existsSync(dir)) execFileSync("umount", ["-l", dir]);
    });

    it("disk full on the target: said so, the others serve, rebuilt once there is room", async () => {
      await start();
      await test.load(100, 256 * 1024, "much");
      test.startWriting();
      const victim = test.follower();
      const { platform } = test.store;
      const { uid } = test.replica(victim);
      await platform.kill(victim);
      const paths = platform.paths(victim);
      rmSync(paths.wal, { recursive: true });
      rmSync(paths.state, { recursive: true });
      mountSmall(paths.state, 8);
      platform.pod(victim).start();
      await test.until(
        "it says what is wrong",
        () => test.replica(victim).phase === "Deferred(NotEnoughSpace)",
      );
      await test.written(50);
      assert.notEqual(test.replica(victim).role, "voter");
      execFileSync("mount", ["-o", "remount,size=512m", paths.state]);
      await test.rebuilt(victim, uid);
      await test.proveNothingLost(victim);
      await platform.kill(victim);
    });

    it("disk full on the leader: writes are refused clearly, reads served, writes go on once there is room", async () => {
      const dir = await mkdtemp(join(tmpdir(), "resilver-full-"));
      for (const node of ["resilver-0", "resilver-1", "resilver-2"]) {
        // Free space that is kept for what must always be possible, and some to fill.
        mountSmall(join(dir, node, "wal"), 100);
      }
      test = await TestStore.start({ dir, sidecar: { segmentBytes: 8 * 1024 * 1024 } });
      await test.load(20, 1024);
      // The volumes fill up alike, and no write is left without an answer.
      const noSpace = (error: unknown): boolean => {
        assert.ok(error instanceof StoreError);
        assert.match(error.message, /NO_SPACE/);
        return true;
      };
      await assert.rejects(fill(), noSpace);
      await assert.rejects(test.client.put("one/more", Buffer.alloc(10), ONCE), noSpace);
      assert.notEqual(await test.client.get("load/000000"), null);
      for (const mount of mounts) execFileSync("mount", ["-o", "remount,size=512m", mount]);
      await test.load(20, 1024, "after");
      await test.proveNothingLost();
      await test.store.platform.killAll();
    });

    it("volumes full to the last byte: a leader is elected, reads served, nobody restarts", async () => {
      const dir = await mkdtemp(join(tmpdir(), "resilver-full-"));
      const nodes = ["resilver-0", "resilver-1", "resilver-2"];
      for (const node of nodes) mountSmall(join(dir, node, "wal"), 100);
      test = await TestStore.start({ dir, sidecar: { segmentBytes: 8 * 1024 * 1024 } });
      await test.load(20, 1024);
      const { platform } = test.store;
      for (const mount of mounts) fillUp(join(mount, "filler"));
      for (const node of nodes) await logged(node, "volume nearly full");
      await assert.rejects(fill(), (error: unknown) => {
        assert.ok(error instanceof StoreError);
        assert.match(error.message, /space|free/i);
        return true;
      });
      const pids = (): readonly string[] =>
        platform.statuses().map(({ name, pid, state }) => `${name} ${pid} ${state}`);
      const before = pids();
      // Two elections: promises and barriers find space though nothing else does.
      for (const next of [test.follower(), test.leader()]) {
        await test.store.moveLeader(test.view(), next, 30_000);
        assert.equal(test.leader(), next);
        assert.notEqual(await test.client.get("load/000000"), null);
      }
      assert.deepEqual(pids(), before);
      for (const mount of mounts) rmSync(join(mount, "filler"));
      await test.load(20, 1024, "after");
      assert.deepEqual(pids(), before);
      await test.proveNothingLost();
      await platform.killAll();
    });

    it("state volume full under a leader: writes are refused clearly, reads served, writes go on once there is room", async () => {
      const dir = await mkdtemp(join(tmpdir(), "resilver-full-"));
      for (const node of ["resilver-0", "resilver-1", "resilver-2"]) {
        mountSmall(join(dir, node, "state"), 192);
      }
      test = await TestStore.start({ dir });
      await test.load(20, 1024);
      const { platform } = test.store;
      const leader = test.leader();
      const { state } = platform.paths(leader);
      fillUp(join(state, "filler"));
      await logged(leader, "volume nearly full");
      await assert.rejects(
        test.client.put("one/more", Buffer.alloc(10), ONCE),
        (error: unknown) => {
          assert.ok(error instanceof StoreError);
          assert.match(error.message, /NO_SPACE/);
          assert.ok(error.message.includes(state), error.message);
          return true;
        },
      );
      assert.notEqual(await test.client.get("load/000000"), null);
      // A restart finds the volume as it was left, and comes up all the same.
      await platform.kill(leader);
      await test.until("it is missed", () => !test.replica(leader).voting);
      platform.pod(leader).start();
      await test.until("it votes again", () => test.replica(leader).voting);
      assert.notEqual(await test.client.get("load/000000"), null);
      rmSync(join(state, "filler"));
      await test.load(20, 1024, "after");
      await test.proveNothingLost(leader);
      await platform.killAll();
    });

    async function logged(node: string, text: string): Promise<void> {
      const { log } = test.store.platform.paths(node);
      const enough = new AbortController();
      const signal = AbortSignal.any([enough.signal, AbortSignal.timeout(20_000)]);
      const changes = watch(log, { signal })[Symbol.asyncIterator]();
      // Watched before it is read: a line that is written meanwhile is not missed.
      let changed = changes.next();
      while (!(await readFile(log, "utf8")).includes(text)) {
        await changed;
        changed = changes.next();
      }
      // Not by `return`, which waits for the next change.
      enough.abort();
      await changed.catch(() => undefined);
    }

    /** Writes until there is no space left at all. */
    function fillUp(path: string): void {
      const file = openSync(path, "w");
      try {
        for (let bytes = 1024 * 1024; bytes >= 1; bytes = Math.floor(bytes / 4)) {
          try {
            for (;;) writeSync(file, Buffer.alloc(bytes));
          } catch (error) {
            assert.equal((error as NodeJS.ErrnoException).code, "ENOSPC");
          }
        }
      } finally {
        closeSync(file);
      }
    }

    async function fill(): Promise<void> {
      const client = test.client;
      for (let n = 0; n < 200; n += 1) {
        const abort = AbortSignal.timeout(5_000);
        await client.put(`fill/${n}`, Buffer.alloc(1024 * 1024, n), {
          signal: abort,
          retryUnknown: false,
        });
      }
    }
  });
});
