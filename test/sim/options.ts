import type { ReplicaOptions } from "../../sidecar/runtime/replica-options.ts";
import { Chance } from "./chance.ts";
import type { DiskSpeed } from "./process-disk.ts";
import type { NetworkSpeed } from "./sim-network.ts";
import type { KubeSpeed } from "./sim-kube.ts";
import type { RecordFaults } from "./sim-record-store.ts";

/** Every kind of fault the nemesis knows. */
const FAULTS = [
  "crash",
  "powerLoss",
  "crashAtDiskOperation",
  "allRestart",
  "wipe",
  "wipeDuringRecovery",
  "corrupt",
  "syncError",
  "slowDisk",
  "pause",
  "isolate",
  "oneWay",
  "cutPair",
  "cutCoordinator",
  "sever",
  "coordinatorCrash",
  "coordinatorCrashAtStep",
  "secondCoordinator",
  "moveLeader",
] as const;
/**
 * Faults that came later: drawn apart, so that the seeds of old findings still draw what they
 * drew.
 */
const LATER_FAULTS = ["rollback", "changeEnsemble", "fillDisk", "jumpClock"] as const;
/** Faults of disks and links that came last, drawn from a stream of their own again. */
export const NEWEST_FAULTS = [
  "bitRot",
  "lostWrite",
  "misdirectedWrite",
  "readError",
  "slowLink",
  "lossyLink",
  "repeatedCalls",
] as const;
/** Faults of one shard beside others on the same disk, drawn where there are several. */
export const SHARD_FAULTS = ["wipeShard"] as const;
/** Every kind of fault that can be asked for of any run. */
export const ALL_FAULTS = [...FAULTS, ...LATER_FAULTS, ...NEWEST_FAULTS, ...SHARD_FAULTS] as const;
/** Faults of runs that have a Kubernetes: to pods, claims, the Lease and the record. */
export const KUBE_FAULTS = [
  "podRecreated",
  "claimReplaced",
  "claimTerminating",
  "claimRestored",
  "leaseStolen",
  "recordSetBack",
  "recordLost",
] as const;
export type KubeFault = (typeof KUBE_FAULTS)[number];
export type Fault = (typeof ALL_FAULTS)[number] | KubeFault;

export function isKubeFault(fault: Fault): fault is KubeFault {
  return (KUBE_FAULTS as readonly Fault[]).includes(fault);
}

/**
 * A long time after the busy one in which clients hardly ask for anything and faults are few and
 * last: what is left is heartbeats, time-outs, retention and back-offs.
 */
export interface QuietTime {
  readonly ms: number;
  /** Of one client, at most. */
  readonly thinkMs: number;
  readonly faultGapMs: number;
  /** Whatever is down, cut off or slow is so this many times longer. */
  readonly stretch: number;
  /** Part of it, from its beginning, for which no coordinator runs, as after a failed upgrade. */
  readonly unwatched: number;
  /** How replicas run from the start, for such a time to show anything. */
  readonly replica: Pick<ReplicaOptions, "heartbeatMs" | "walRetentionMs">;
}

/** How a node that is not healed is: down, stopped (SIGSTOP), or cut off, in whole or in part. */
export const LASTING_KINDS = [
  "down",
  "stopped",
  "cutOff",
  "cutFromNodes",
  "cutFromCoordinator",
] as const;

/** A minority that stays dead while everything else is healed. */
export interface LastingHarm {
  /** At most: those who are left have to be a majority of every voter set, with their data. */
  readonly nodes: number;
  readonly kind: (typeof LASTING_KINDS)[number];
  /** They come back in the end, and then everything is owed to them too. */
  readonly returns: boolean;
}

/** How the store is placed on pods and claims, of which coordinators are told late. */
export interface KubeOptions extends KubeSpeed {
  /** Part of the reads of a record that give what was there some time ago. */
  readonly staleReads: number;
  /** In the end the record is lost, or set back to an older copy, until a person helps. */
  readonly finalRecord: "kept" | "setBack" | "lost";
  /** And then all replicas but one, until a person orders a forced quorum. */
  readonly finalForce: boolean;
}

/** Runs with several shards: they cost as many times as much. */
const SHARDS_SHARE = 0.25;
/** Runs that have a Kubernetes. */
const KUBE_SHARE = 0.4;
/** Runs in which not all is healed. */
const LASTING_SHARE = 0.4;
/** Runs that have a quiet time. */
const QUIET_SHARE = 0.75;
const MINUTE_MS = 60_000;

/** One run, drawn from its seed: which faults, how often, how fast everything is. */
export interface SimOptions {
  /** How many shards each namespace has. */
  readonly namespaces: readonly number[];
  /** Replicas of each shard when it starts. */
  readonly nodes: number;
  /** Nodes beside those, to which replicas may move. */
  readonly spares: number;
  readonly network: NetworkSpeed;
  readonly disk: Readonly<DiskSpeed>;
  readonly record: RecordFaults;
  readonly replica: Partial<ReplicaOptions>;
  readonly snapshotBytesPerSecond: number;
  readonly clients: number;
  readonly keys: number;
  readonly thinkMs: number;
  readonly valueBytes: number;
  /** Writes before the first fault, to all shards, so that there is something to lose. */
  readonly warmupWrites: number;
  readonly faults: readonly Fault[];
  readonly faultGapMs: number;
  /** How long faults go on; only for a moment before a quiet time. */
  readonly safetyMs: number;
  /** Null: there is none. */
  readonly quiet: QuietTime | null;
  /** The clients stop with the faults: recovery has to work with no writes at all (H10). */
  readonly quietEnd: boolean;
  /** After everything healed, all nodes lose power at once. */
  readonly finalPowerLoss: boolean;
  /** And then all followers their disks, while the leader goes on (R16). */
  readonly finalWipe: boolean;
  /** After which the leader goes, so that one of those who were rebuilt leads (R5). */
  readonly finalElection: boolean;
  /** Damage hits the newest record of the log, which nothing valid follows (R14). */
  readonly corruptNewest: boolean;
  /** Null: everything is healed in the end. */
  readonly lasting: LastingHarm | null;
  /** Null: nodes are processes on machines, as in local mode; {@link KUBE_FAULTS} do not happen. */
  readonly kube: KubeOptions | null;
  /** Checkpoints go to the engine in slices of so many keys; 0: all that a few keys need is one. */
  readonly sliceKeys: number;
  /** After everything healed, a follower's disk is set back within the term (R3). */
  readonly finalRollback: boolean;
}

/** What a seed's run is like. `chance` is the seed's own stream, which goes on after it. */
export function optionsOf(seed: number, chance: Chance): SimOptions {
  // Any fixed numbers: other streams than the seed's own.
  const drawn = drawOptions(chance, new Chance((seed ^ 0x5eed_1a7e) >>> 0));
  const lasting = lastingHarm(new Chance((seed ^ 0x1a57_de4d) >>> 0));
  const { kube, faults } = kubernetes(new Chance((seed ^ 0x0c1a_1435) >>> 0));
  const newest = drawNewest(new Chance((seed ^ 0x1057_b17e) >>> 0));
  const shards = drawShards(new Chance((seed ^ 0x05a2_d5ed) >>> 0));
  return {
    ...drawn,
    ...newest,
    ...shards,
    lasting,
    kube,
    faults: [...drawn.faults, ...faults, ...newest.faults, ...shards.faults],
  };
}

/** Most seeds have one shard, as all had once, and go as they always went. */
function drawShards(chance: Chance): Pick<SimOptions, "namespaces" | "faults"> {
  if (!chance.happens(SHARDS_SHARE)) return { namespaces: [1], faults: [] };
  const layouts = [[2], [2], [1, 1], [3], [1, 2]] as const;
  const namespaces = layouts[chance.below(layouts.length)] ?? layouts[0];
  return { namespaces, faults: SHARD_FAULTS.filter(() => chance.happens(0.5)) };
}

/** What came last, from one more stream: seeds of which it draws nothing go as they always went. */
function drawNewest(chance: Chance): Pick<SimOptions, "faults" | "sliceKeys" | "finalRollback"> {
  return {
    faults: NEWEST_FAULTS.filter(() => chance.happens(0.15)),
    sliceKeys: chance.happens(0.4) ? 1 + chance.below(3) : 0,
    finalRollback: chance.happens(0.2),
  };
}

type Drawn = Omit<SimOptions, "namespaces" | "sliceKeys" | "finalRollback" | "lasting" | "kube">;

/** Draws the options of a run. `later` draws what was added since. */
function drawOptions(chance: Chance, later: Chance): Drawn {
  const one = <T>(...choices: readonly T[]): T => choices[chance.below(choices.length)] as T;
  const faults: Fault[] = FAULTS.filter(() => chance.happens(0.45));
  if (faults.length === 0) faults.push("wipe");
  const spares = [0, 0, 1, 2][later.below(4)] ?? 0;
  const finalElection = later.happens(0.5);
  const corruptNewest = later.happens(0.3);
  const added = LATER_FAULTS.filter(() => later.happens(0.3));
  const quiet = later.happens(QUIET_SHARE) ? quietTime(later) : null;
  return {
    spares,
    finalElection,
    corruptNewest,
    quiet,
    nodes: one(3, 3, 3, 3, 5),
    network: {
      latencyMsMin: 0.05,
      latencyMsMax: one(0.5, 2, 10),
      slowOneIn: one(0, 20, 300),
      slowMs: one(20, 300),
    },
    disk: { syncMsMin: 0.2, syncMsMax: one(1, 4, 12), otherMsMax: one(0.02, 0.2), factor: 1 },
    record: one(
      { failBefore: 0, failAfter: 0 },
      { failBefore: 0.02, failAfter: 0.02 },
      { failBefore: 0.1, failAfter: 0.1 },
    ),
    replica: {
      segmentBytes: one(4096, 16_384, 262_144),
      walRetentionMs: one(0, 0, 3_600_000),
      walRetentionBytes: one(0, 8192, 1 << 30),
      snapshotChunkBytes: one(256, 1024, 8192),
      checkpointIntervalMs: one(100, 500, 2_000),
      entryCacheBytes: one(2048, 1 << 20),
      tailEntriesMax: one(8, 64, 100_000),
      clientFreeBytesMin: 0,
      freeBytesMin: 0,
      clientStateFreeBytesMin: 0,
      stateFreeBytesMin: 0,
    },
    snapshotBytesPerSecond: one(0, 0, 2_000, 10_000),
    clients: one(1, 2, 4),
    keys: one(4, 16, 40),
    thinkMs: one(5, 30, 120),
    valueBytes: one(8, 60, 400),
    warmupWrites: one(0, 5, 40, 150),
    faults: [...faults, ...added.filter((fault) => fault !== "changeEnsemble" || spares > 0)],
    faultGapMs: one(150, 400, 900),
    safetyMs: one(2_000, 4_000, 8_000),
    quietEnd: chance.happens(0.5),
    finalPowerLoss: chance.happens(0.5),
    finalWipe: chance.happens(0.2),
  };
}

function lastingHarm(chance: Chance): LastingHarm | null {
  if (!chance.happens(LASTING_SHARE)) return null;
  return {
    nodes: 1 + chance.below(2),
    kind: LASTING_KINDS[chance.below(LASTING_KINDS.length)] ?? "down",
    returns: chance.happens(0.3),
  };
}

function kubernetes(chance: Chance): {
  readonly kube: KubeOptions | null;
  readonly faults: readonly Fault[];
} {
  if (!chance.happens(KUBE_SHARE)) return { kube: null, faults: [] };
  const one = <T>(...choices: readonly T[]): T => choices[chance.below(choices.length)] as T;
  const kube = {
    watchLagMsMax: one(5, 100, 1_000),
    lostOneIn: one(0, 5, 20),
    repeatedOneIn: one(0, 3),
    staleReads: one(0, 0, 0.05, 0.2),
    finalRecord: one("kept", "kept", "setBack", "lost"),
    finalForce: chance.happens(0.3),
  } as const;
  return { kube, faults: KUBE_FAULTS.filter(() => chance.happens(0.4)) };
}

function quietTime(chance: Chance): QuietTime {
  const one = <T>(...choices: readonly T[]): T => choices[chance.below(choices.length)] as T;
  const long = chance.happens(0.05);
  return {
    // Some are longer than a log is kept by default.
    ms: (long ? 70 : one(2, 3, 5, 7)) * MINUTE_MS,
    thinkMs: one(60_000, 300_000),
    faultGapMs: one(30_000, 90_000, 200_000),
    stretch: one(5, 20, 60),
    unwatched: one(0, 0.75),
    replica: {
      heartbeatMs: one(500, 1_000, 1_000, 1_000),
      walRetentionMs: one(0, 20_000, 120_000, 3_600_000),
    },
  };
}
