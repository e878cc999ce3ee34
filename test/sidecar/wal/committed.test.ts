/** What a log knows of its commit offset after a restart (I9). */
import assert from "node:assert/strict";
import { LogIndex } from "../../../sidecar/core/log-index.ts";
import { Replica } from "../../../sidecar/core/replica.ts";
import type { CoreOptions } from "../../../sidecar/core/replica-state.ts";
import { LOG_START } from "../../../sidecar/protocol/entry.ts";
import { Wal } from "../../../sidecar/wal/wal.ts";
import { SimDisk } from "../../sim/sim-disk.ts";
import { EntryMaker, StillClock } from "./log-fixture.ts";

const SEEDS = Array.from({ length: 20 }, (_, seed) => seed);

function open(disk: SimDisk): Promise<Wal> {
  return Wal.open({ disk, dir: "/data/log", segmentBytes: 4096, clock: new StillClock() });
}

async function fresh(seed = 1): Promise<{ disk: SimDisk; wal: Wal; maker: EntryMaker }> {
  const disk = new SimDisk({ seed });
  await disk.makeDir("/data");
  await disk.syncDir("/");
  return { disk, wal: await open(disk), maker: new EntryMaker() };
}

async function afterPowerLoss(disk: SimDisk): Promise<number> {
  disk.powerOff();
  disk.restart();
  return (await open(disk)).recovered.commit;
}

describe("committed entries of a log", () => {
  it("are known by the batch that was written after them, over any power loss", async () => {
    for (const seed of SEEDS) {
      const { disk, wal, maker } = await fresh(seed);
      wal.append(maker.batch(10, 300));
      await wal.sync();
      wal.noteCommitted(7);
      wal.append(maker.batch(10, 300));
      await wal.sync();
      assert.equal(await afterPowerLoss(disk), 7);
    }
  });

  it("are known once they were saved, when nothing is written after them", async () => {
    for (const seed of SEEDS) {
      const { disk, wal, maker } = await fresh(seed);
      wal.append(maker.batch(3));
      await wal.sync();
      wal.noteCommitted(2);
      await wal.saveCommitted();
      const { operations } = disk;
      await wal.saveCommitted();
      assert.equal(disk.operations, operations, "nothing new, nothing written");
      assert.equal(await afterPowerLoss(disk), 2);
    }
  });

  it("are those before a cut, and none but the base of a log that was reset", async () => {
    const { disk, wal, maker } = await fresh();
    wal.append(maker.batch(10));
    await wal.sync();
    wal.noteCommitted(4);
    await wal.truncate(6);
    await wal.close();
    const cut = await open(disk);
    assert.equal(cut.recovered.commit, 4);
    const base = { term: 3, offset: 100, crc: 5 };
    await cut.reset(base);
    await cut.close();
    assert.equal((await open(disk)).recovered.commit, 100);
  });

  it("are none in a log that never heard of any", async () => {
    const { disk, wal, maker } = await fresh();
    wal.append(maker.batch(3));
    await wal.close();
    assert.equal((await open(disk)).recovered.commit, LOG_START.offset);
  });

  it("are not cut by a leader that does not hold them, though they were not applied (R9)", () => {
    const promised = {
      term: 2,
      previousTerm: 2,
      rolledBack: false,
      generation: 0,
      lossEpoch: 0,
      member: true,
      enrolled: { term: 2, leaderUid: "c1" },
    };
    const core = new Replica(
      {
        node: "b",
        storeId: "store",
        uid: "b1",
        bootCounter: 2,
        formattedBefore: true,
        promised,
        log: new LogIndex(undefined, Uint32Array.of(1, 2, 3, 4), [{ term: 1, offset: 0 }]),
        applied: 0,
        commit: 2,
      },
      {} as CoreOptions,
    );
    const names = { namespace: "default", shard: 0, storeId: "store", generation: 0 };
    const peer = { ...names, term: 2, leaderUid: "c1", targetUid: "b1", majorityHolds: true };
    core.step({ kind: "streamOpened", streamId: 1, peer });
    const maker = new EntryMaker({ term: 1, offset: 1, crc: 2 });
    maker.term = 2;
    const entry = maker.next(new Uint8Array(0));
    const effects = core.step({
      kind: "append",
      streamId: 1,
      append: {
        term: 2,
        entry: { ...entry, timestamp: entry.timestampMs },
        commitOffset: 1,
        cumulativeAcksSupported: true,
        leaderUid: "c1",
        targetUid: "b1",
        previous: { term: 1, offset: 1, crc: 2 },
        entryCrc: entry.crc,
        round: 0,
        targetVotes: false,
      },
    });
    assert.deepEqual(
      effects.map(({ kind }) => kind),
      ["fault", "closeStream"],
    );
    assert.equal(core.state.log.last.offset, 3);
  });
});
