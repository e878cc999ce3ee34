import assert from "node:assert/strict";
import { SILENT_LOGGER } from "../../../sidecar/lib/ports/logger.ts";
import { LogKeeper, type LogKeeperOptions } from "../../../sidecar/runtime/log-keeper.ts";
import { DEFAULT_REPLICA_OPTIONS } from "../../../sidecar/runtime/replica-options.ts";
import { Wal } from "../../../sidecar/wal/wal.ts";
import { SimDisk } from "../../sim/sim-disk.ts";
import { meddledDisk } from "../../support/meddled-disk.ts";
import { EntryMaker, StillClock } from "../wal/log-fixture.ts";

const DIR = "/data/log";

describe("log keeper", () => {
  it("spends a sync on the commit offset when it rests, and none while writes go on", async () => {
    const sim = new SimDisk({ seed: 1 });
    await sim.makeDir("/data");
    let syncs = 0;
    let looks = 0;
    const disk = meddledDisk(sim, (act, path) => {
      if (act === "sync" && path === `${DIR}/marks`) syncs += 1;
    });
    const clock = new StillClock();
    const wal = await Wal.open({ disk, dir: DIR, segmentBytes: 65_536, clock });
    const stop = new AbortController();
    const keeper = new LogKeeper({
      wal,
      dir: DIR,
      stateDir: "/data",
      state: {
        stats: { bytes: 0 },
        durable: { offset: -1 },
        checkpointDue: () => false,
        closeOldViews: () => {
          looks += 1;
        },
      } as unknown as LogKeeperOptions["state"],
      disk,
      clock,
      logger: SILENT_LOGGER,
      options: DEFAULT_REPLICA_OPTIONS,
      signal: stop.signal,
      transferFloor: () => -1,
      dropTransfers: async () => undefined,
      trimmed: () => undefined,
      short: false,
      space: () => undefined,
      reserve: { keep: async () => undefined } as unknown as LogKeeperOptions["reserve"],
    });
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
});
