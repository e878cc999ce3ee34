/** The sidecar's storage, with one rule taken away. */
import type { Disk, DiskFile } from "../../../sidecar/lib/ports/disk.ts";
import type { Offset } from "../../../sidecar/protocol/entry.ts";
import type { EngineFactory } from "../../../sidecar/state/engine.ts";
import { REDO_KEY } from "../../../sidecar/state/key-order.ts";
import { readMasterCookie, writeCookie } from "../../../sidecar/runtime/cookie.ts";
import { META_FILE } from "../../../sidecar/runtime/replica-meta.ts";
import { ShardState } from "../../../sidecar/state/shard-state.ts";
import { VersionCounter } from "../../../sidecar/state/version-counter.ts";
import { MarksFile } from "../../../sidecar/wal/marks.ts";
import { Wal } from "../../../sidecar/wal/wal.ts";
import type { NodeOptions } from "../../../sidecar/runtime/node.ts";
import { SimDisk } from "../sim-disk.ts";
import { simEngineFactory } from "../sim-engine.ts";
import { replace, replaceGetter, wrap } from "../patch.ts";
import { CRASHES, type Mutant } from "./mutant.ts";

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

/** A disk on which a state's missing cookie is made from the log's. */
function oneCookie(disk: Disk): Disk {
  return new Proxy(disk, {
    get(target, name) {
      if (name !== "readFile") return Reflect.get(target, name).bind(target);
      return async (path: string): Promise<Uint8Array | null> => {
        const found = await target.readFile(path);
        if (found !== null || !/^\/state\/.*\/cookie.json$/u.test(path)) return found;
        const dir = path.slice(0, path.lastIndexOf("/"));
        const master = await readMasterCookie(target, dir.replace("/state/", "/wal/"));
        // A first format is left alone: nothing was lost there.
        if (master?.phase !== "READY") return null;
        const scratch = new SimDisk({ seed: 0 });
        await scratch.makeDir(dir);
        await writeCookie(scratch, dir, master);
        return scratch.readFile(path);
      };
    },
  });
}

/** Whoever trims takes for durable what is applied; nobody else does. */
function trimApplied(): () => void {
  let trims = false;
  const undo = [
    // Asked right before the durable state is, by whoever is about to trim.
    wrap(Wal.prototype, "retentionOffset", (_wal, original, given) => {
      trims = true;
      return original(...given);
    }),
    replaceGetter(ShardState.prototype, "durable", (state, original) => {
      const asked = trims;
      trims = false;
      return asked ? state.applied : original();
    }),
  ];
  return () => {
    for (const each of undo) each();
  };
}

/** An engine that keeps to itself that a checkpoint was not finished. */
function withoutRedo({ engine }: NodeOptions): EngineFactory {
  const redo = Buffer.from(REDO_KEY, "latin1");
  return {
    ...engine,
    async open(dir) {
      const opened = await engine.open(dir);
      return new Proxy(opened, {
        get(target, name) {
          const part: unknown = Reflect.get(target, name);
          if (typeof part !== "function") return part;
          if (name !== "get") return part.bind(target) as unknown;
          return (key: Uint8Array) => (redo.equals(key) ? undefined : target.get(key));
        },
      });
    },
  };
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
    caughtBy: ["R1"],
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
    caughtBy: ["I14"],
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
    patch: trimApplied,
  },
  {
    name: "half-checkpoint",
    does: "replays onto a checkpoint that a crash left half written",
    breaks: ["R12", "R14"],
    caughtBy: ["I6", "I13"],
    faults: ["crash", ...CRASHES],
    force: {
      sliceKeys: 1,
      keys: 40,
      clients: 4,
      thinkMs: 2,
      faultGapMs: 150,
      // Most of the time some checkpoint is being written.
      disk: { syncMsMin: 0.2, syncMsMax: 1, otherMsMax: 2, factor: 1 },
    },
    alterNode: (options) => ({ ...options, engine: withoutRedo(options) }),
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
    caughtBy: ["R1"],
    faults: ["wipe"],
    force: { thinkMs: 5, clients: 4, warmupWrites: 150, valueBytes: 400, safetyMs: 8_000 },
    alterNode: onDisk(oneCookie),
  },
];
