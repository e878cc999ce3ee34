import assert from "node:assert/strict";
import { LOG_START } from "../../../sidecar/protocol/entry.ts";
import { ReplicaMetaStore } from "../../../sidecar/runtime/replica-meta.ts";
import { openDirectories } from "../../../sidecar/runtime/shard-directories.ts";
import { openCurrent } from "../../../sidecar/snapshot/state-pointer.ts";
import { SimDisk } from "../../sim/sim-disk.ts";
import {
  BASE,
  OLD,
  STATE,
  Target,
  attempt,
  contentOf,
  prepare,
  sourceOf,
} from "./transfer-fixture.ts";

const CONTENT = contentOf(2000);
const SEEDS = 6;

/**
 * Runs `work` on a copy of `disk` for each operation and seed, with a power loss there; gives the
 * disk after.
 */
async function* powerLosses(
  disk: SimDisk,
  work: (disk: SimDisk) => Promise<unknown>,
): AsyncGenerator<{ readonly disk: SimDisk; readonly finished: boolean; readonly point: string }> {
  const whole = disk.clone(1);
  const before = whole.operations;
  await work(whole);
  const count = whole.operations - before;
  for (let at = 1; at <= count; at++) {
    for (let seed = 1; seed <= SEEDS; seed++) {
      const copy = disk.clone(at * 1000 + seed);
      copy.crashAfter(at);
      let finished = true;
      await work(copy).catch(() => {
        finished = false;
      });
      copy.powerOff();
      copy.restart();
      yield { disk: copy, finished, point: `power loss at ${at} of ${count}, seed ${seed}` };
    }
  }
}

describe("on the simulator's disk, which keeps any part of what was not synced", () => {
  it("an install leaves the old state or the new one, whole (I13)", async () => {
    const prepared = new SimDisk({ seed: 1 });
    await prepare(prepared);
    const seen = { old: 0, new: 0 };
    const transfer = async (disk: SimDisk): Promise<void> => {
      const { received } = await attempt(Target.on(disk), sourceOf(CONTENT));
      if (received instanceof Error) throw received;
    };
    for await (const { disk, finished, point } of powerLosses(prepared, transfer)) {
      const pointer = await openCurrent(disk, STATE, "u1", { dropOld: true });
      const installed = pointer.snapshotId !== "";
      const data = await disk.readFile(`${STATE}/${pointer.dir}/data`);
      assert.deepEqual(data, installed ? CONTENT : OLD, point);
      assert.deepEqual(pointer.base, installed ? BASE : LOG_START, point);
      if (finished) assert.ok(installed, point);
      seen[installed ? "new" : "old"]++;
      await transfer(disk);
      const current = await openCurrent(disk, STATE, "u1", { dropOld: true });
      assert.deepEqual(await disk.readFile(`${STATE}/${current.dir}/data`), CONTENT, point);
    }
    assert.ok(seen.old > 100 && seen.new > 1, JSON.stringify(seen));
  });

  it("a replica that gives up its identity is the old one whole or a new one", async () => {
    const where = { walDir: "/data/wal", stateDir: "/data/state", namespace: "default", shard: 0 };
    const open = (disk: SimDisk, uid: string, replace?: "CORRUPT") => {
      const random = { unit: () => 0, uid: () => uid };
      const more = replace === undefined ? {} : { replace };
      return openDirectories({ disk, random, storeId: "store", ...where, ...more });
    };
    const prepared = new SimDisk({ seed: 2 });
    const first = await open(prepared, "u1");
    const meta = await ReplicaMetaStore.open(prepared, first.walDir, "u1");
    await meta.update({ term: 3, member: true });
    await prepare(prepared);
    const uids = new Set<string>();
    const giveUp = async (disk: SimDisk): Promise<void> => {
      await (await open(disk, "u2", "CORRUPT")).setAsideOldFiles();
    };
    for await (const { disk, point } of powerLosses(prepared, giveUp)) {
      const opened = await open(disk, "u3");
      uids.add(opened.uid);
      const found = await ReplicaMetaStore.open(disk, opened.walDir, opened.uid);
      assert.equal(found.current.term, opened.uid === "u1" ? 3 : -1, point);
      assert.equal(found.current.member, opened.uid === "u1", point);
      if (opened.uid === "u1") assert.equal(opened.setAsidePending, false, point);
      await opened.setAsideOldFiles();
      const old = opened.uid === "u1" ? STATE : `${STATE}/.replaced-${opened.uid}`;
      assert.deepEqual(await disk.readFile(`${old}/state-0/data`), OLD, point);
      disk.powerOff();
      disk.restart();
      assert.equal((await open(disk, "u4")).uid, opened.uid, point);
    }
    assert.deepEqual(
      [...uids].filter((uid) => uid !== "u3"),
      ["u1", "u2"],
    );
  });
});
