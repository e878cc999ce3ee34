import assert from "node:assert/strict";
import { SILENT_LOGGER } from "../../../sidecar/lib/ports/logger.ts";
import { LogKeeper, type LogKeeperOptions } from "../../../sidecar/runtime/log-keeper.ts";
import { DEFAULT_REPLICA_OPTIONS } from "../../../sidecar/runtime/replica-options.ts";
import { Wal } from "../../../sidecar/wal/wal.ts";
import { SimDisk } from "../../sim/sim-disk.ts";
import { meddledDisk } from "../../support/meddled-disk.ts";
import { EntryMaker, StillClock } from "../wal/log-fixture.ts";

const DIR = "/data/log";

const MIB = 1024 * 1024;

async function makeDisk(): Promise<SimDisk> {
  const disk = new SimDisk({ seed: 1 });
  await disk.makeDir("/data");
  return disk;
}

/** A keeper of a log; it has nothing else to look after unless told of it. */
function keeperOf(
  given: Pick<LogKeeperOptions, "disk" | "clock" | "wal" | "signal"> & Partial<LogKeeperOptions>,
  state: object,
): LogKeeper {
  return new LogKeeper({
    dir: DIR,
    stateDir: "/data",
    state: {
      stats: { bytes: 0 },
      durable: { offset: -1 },
      checkpointDue: () => false,
      closeOldViews: () => undefined,
      ...state,
    } as unknown as LogKeeperOptions["state"],
    logger: SILENT_LOGGER,
    options: DEFAULT_REPLICA_OPTIONS,
    transferFloor: () => -1,
    transferStateBytes: () => null,
    dropTransfers: async () => undefined,
    trimmed: () => undefined,
    short: false,
    space: () => undefined,
    reserve: { keep: async () => undefined } as unknown as LogKeeperOptions["reserve"],
    ...given,
  });
}

describe("log keeper", () => {
  it("spends a sync on the commit offset when it rests, and none while writes go on", async () => {
    const sim = await makeDisk();
    let syncs = 0;
    let looks = 0;
    const disk = meddledDisk(sim, (act, path) => {
      if (act === "sync" && path === `${DIR}/marks`) syncs += 1;
    });
    const clock = new StillClock();
    const wal = await Wal.open({ disk, dir: DIR, segmentBytes: 65_536, clock });
    const stop = new AbortController();
    const keeper = keeperOf(
      { wal, disk, clock, signal: stop.signal },
      {
        closeOldViews: () => {
          looks += 1;
        },
      },
    );
    const maker = new EntryMaker();
    syncs = 0;
    const seen: number[] = [];
    // It moves by what the keeper sleeps; meanwhile there is a write, for ten seconds.
    clock.sleep = async (durationMs = 0): Promise<void> => {
      seen.push(syncs);
      if (clock.at >= 20_000) stop.abort();
      if (clock.at < 10_000) {
        wal.append(maker.batch(1));
        await wal.sync();
        wal.noteCommitted(wal.last.offset);
      }
      clock.at += durationMs;
    };
    await keeper.run();
    assert.ok(seen.slice(0, 40).every((count) => count === 0));
    assert.equal(syncs, 1);
    assert.equal(looks, seen.length, "reads that take too long are ended though nothing is due");
    sim.powerOff();
    sim.restart();
    const again = await Wal.open({ disk, dir: DIR, segmentBytes: 65_536, clock });
    assert.equal(again.recovered.commit, again.last.offset);
  });

  it("lets go of snapshots whose pages fill the volume of the state, before clients are refused", async () => {
    const sim = await makeDisk();
    const clock = new StillClock();
    const wal = await Wal.open({ disk: sim, dir: DIR, segmentBytes: 65_536, clock });
    const options = { ...DEFAULT_REPLICA_OPTIONS, clientStateFreeBytesMin: 100 * MIB };
    const neededBytes = 164 * MIB;
    let freeBytes = 0;
    const disk = new Proxy(sim, {
      get: (target, name) => {
        if (name === "freeBytes") return async () => freeBytes;
        const method = Reflect.get(target, name) as (...args: unknown[]) => unknown;
        return method.bind(target);
      },
    });
    const state = { stats: { bytes: 0 } };
    let heldBytes: number | null = null;
    const drops: string[] = [];
    /** Two seconds with the volume and a snapshot like this; returns why that was dropped. */
    const look = async (room: number, grown: number, isHeld: boolean): Promise<string[]> => {
      freeBytes = room;
      state.stats.bytes = 1_000 * MIB + grown;
      heldBytes = isHeld ? 1_000 * MIB : null;
      const stop = new AbortController();
      const endMs = clock.at + 2_000;
      clock.sleep = async (durationMs = 0): Promise<void> => {
        clock.at += durationMs;
        if (clock.at >= endMs) stop.abort();
      };
      const keeper = keeperOf(
        {
          wal,
          disk,
          clock,
          options,
          signal: stop.signal,
          transferStateBytes: () => heldBytes,
          dropTransfers: async (reason) => {
            drops.push(reason);
            heldBytes = null;
          },
        },
        state,
      );
      await keeper.run();
      return drops.splice(0);
    };
    assert.deepEqual(await look(neededBytes, 500 * MIB, true), [], "there is room");
    assert.deepEqual(await look(neededBytes - 1, MIB, true), [], "it grew for other reasons");
    assert.deepEqual(await look(neededBytes - 1, 500 * MIB, false), [], "nothing is held");
    assert.deepEqual(await look(neededBytes - 1, 32 * MIB, true), [
      "dropped for the pages that are kept for it: " +
        `the volume of /data has ${neededBytes - 1} bytes free of ${neededBytes}`,
    ]);
  });
});
