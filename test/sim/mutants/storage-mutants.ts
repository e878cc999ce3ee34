/** The sidecar's storage, with one rule taken away. */
import type { Disk, DiskFile } from "../../../sidecar/lib/ports/disk.ts";
import type { Offset } from "../../../sidecar/protocol/entry.ts";
import { META_FILE } from "../../../sidecar/runtime/replica-meta.ts";
import { ShardState } from "../../../sidecar/state/shard-state.ts";
import { VersionCounter } from "../../../sidecar/state/version-counter.ts";
import { MarksFile } from "../../../sidecar/wal/marks.ts";
import { Wal } from "../../../sidecar/wal/wal.ts";
import type { NodeOptions } from "../../../sidecar/runtime/node.ts";
import { simEngineFactory } from "../sim-engine.ts";
import { CRASHES, type Mutant, replace, replaceGetter, wrap } from "./mutant.ts";

/** A disk that says that it has synced, where the path is one of `which`. */
function lying(disk: Disk, which: RegExp): Disk {
  return new Proxy(disk, {
    get(target, name) {
      if (name === "syncDir") {
        return (path: string): Promise<void> =>
          which.test(path) ? Promise.resolve() : target.syncDir(path);
      }
      if (name !== "open") return Reflect.get(target, name).bind(target);
      return async (path: string, options: { readonly create: boolean }): Promise<DiskFile> => {
        const file = await target.open(path, options);
        return which.test(path) ? { ...file, sync: async () => undefined } : file;
      };
    },
  });
}

/** A disk whose failed syncs are taken for good ones. */
function ignoring(disk: Disk): Disk {
  return new Proxy(disk, {
    get(target, name) {
      if (name !== "open") return Reflect.get(target, name).bind(target);
      return async (path: string, options: { readonly create: boolean }): Promise<DiskFile> => {
        const file = await target.open(path, options);
        return { ...file, sync: () => file.sync().catch(() => undefined) };
      };
    },
  });
}

/** A disk on which the state's missing cookie looks like the log's. */
function oneCookie(disk: Disk): Disk {
  return new Proxy(disk, {
    get(target, name) {
      if (name !== "readFile") return Reflect.get(target, name).bind(target);
      return async (path: string): Promise<Uint8Array | null> => {
        const found = await target.readFile(path);
        if (found !== null || !/^\/state\/.*cookie/u.test(path)) return found;
        const master = await target.readFile(path.replace("/state/", "/wal/"));
        return master;
      };
    },
  });
}

/** The node with a disk like that, below its engine too. */
function onDisk(change: (disk: Disk) => Disk): (options: NodeOptions) => NodeOptions {
  return (options) => {
    const disk = change(options.disk);
    return { ...options, disk, engine: simEngineFactory(disk) };
  };
}

export const STORAGE_MUTANTS: readonly Mutant[] = [
  {
    name: "lying-disk",
    does: "acknowledges before it has synced",
    breaks: ["R8", "R14", "H14"],
    caughtBy: ["I2", "I5", "I10", "I13", "I14"],
    faults: CRASHES,
    alterNode: onDisk((disk) => lying(disk, /./u)),
  },
  {
    name: "ignore-failed-syncs",
    does: "goes on after a failed sync as if it had been a good one",
    breaks: ["R14", "H14"],
    caughtBy: ["I2", "I5", "I10", "I13", "I14", "I6"],
    faults: [...CRASHES, "syncError"],
    force: { faultGapMs: 150, safetyMs: 8_000 },
    alterNode: onDisk(ignoring),
  },
  {
    name: "same-identity-after-a-wipe",
    does: "is the same replica after its disk was wiped",
    breaks: ["R1", "H3"],
    caughtBy: ["I2", "I5", "I10"],
    faults: ["wipe"],
    alterNode: (options) => {
      const uid = `same-${options.node}`.padEnd(26, "x");
      return { ...options, random: { unit: () => options.random.unit(), uid: () => uid } };
    },
  },
  {
    name: "unsynced-stage",
    does: "installs a snapshot that is not durable",
    breaks: ["R12", "H11"],
    caughtBy: ["I5", "I6", "I13", "I14", "L1", "broken"],
    faults: ["wipe", "wipeDuringRecovery", ...CRASHES],
    force: { warmupWrites: 150, valueBytes: 400, finalWipe: true, finalPowerLoss: true },
    alterNode: onDisk((disk) => lying(disk, /staging-|sim-engine/u)),
  },
  {
    name: "unsynced-promises",
    does: "forgets the term it promised when power is lost",
    breaks: ["R3", "I2"],
    caughtBy: ["I2", "I1", "I5", "I10", "I12", "I13"],
    faults: [...CRASHES, "moveLeader", "coordinatorCrash"],
    alterNode: onDisk((disk) => lying(disk, new RegExp(`${META_FILE}|/wal/default/0$`, "u"))),
  },
  {
    name: "trim-to-what-is-in-memory",
    does: "trims its log to what it has applied, durable or not",
    breaks: ["R17"],
    caughtBy: ["I5", "I13", "I14", "I6", "broken"],
    faults: CRASHES,
    force: {
      thinkMs: 5,
      clients: 4,
      replica: {
        segmentBytes: 4096,
        walRetentionMs: 0,
        walRetentionBytes: 0,
        snapshotChunkBytes: 1024,
        checkpointIntervalMs: 600_000,
        entryCacheBytes: 1 << 20,
        tailEntriesMax: 64,
        clientFreeBytesMin: 0,
        freeBytesMin: 0,
        clientStateFreeBytesMin: 0,
        stateFreeBytesMin: 0,
      },
    },
    patch: () => replaceGetter(ShardState.prototype, "durable", (self) => self.applied),
  },
  {
    name: "no-acknowledged-mark",
    does: "keeps no mark of what it acknowledged, so that damage looks like a torn write",
    breaks: ["R14", "H13"],
    caughtBy: ["I19", "I5", "I10"],
    faults: ["corrupt"],
    force: { faultGapMs: 150, safetyMs: 8_000, corruptNewest: true },
    patch: () => {
      const undo = [
        replace(MarksFile.prototype, "writeMark", async () => undefined),
        replace(Wal.prototype, "markAcked", (_offset: Offset) => undefined),
      ];
      return () => {
        for (const each of undo) each();
      };
    },
  },
  {
    name: "versions-of-a-process",
    does: "counts versions anew in each process",
    breaks: ["R6", "H20", "I16"],
    caughtBy: ["I16", "I6"],
    faults: ["crash", "moveLeader"],
    patch: () => {
      const counts = new WeakMap<VersionCounter, number>();
      return replace(VersionCounter.prototype, "take", function take(this: VersionCounter) {
        const next = counts.get(this) ?? 0;
        counts.set(this, next + 1);
        return next;
      });
    },
  },
  {
    name: "apply-by-chance",
    does: "makes of one entry something else on each replica",
    breaks: ["I6"],
    caughtBy: ["I6", "I16", "I5", "I18"],
    faults: ["crash"],
    patch: () => {
      let calls = 0;
      return wrap(VersionCounter.prototype, "take", (counter, original, [wanted]) => {
        calls += 1;
        return original(wanted ?? counter.next + (calls % 7));
      });
    },
  },
  {
    name: "one-cookie",
    does: "asks only one of its directories who it is",
    breaks: ["R1", "H18"],
    caughtBy: ["I13", "I14", "I5", "I6", "L1", "broken"],
    faults: ["wipe"],
    force: { thinkMs: 5, clients: 4, warmupWrites: 150, valueBytes: 400, safetyMs: 8_000 },
    alterNode: onDisk(oneCookie),
  },
];
