/** What drives the core, with one rule taken away: streams, cursors, snapshots, processes. */
import type { Effect } from "../../../sidecar/core/effect.ts";
import { QuorumAckTracker } from "../../../sidecar/core/quorum-ack-tracker.ts";
import type { Clock } from "../../../sidecar/lib/ports/clock.ts";
import type { DuplexCall } from "../../../sidecar/lib/ports/duplex-call.ts";
import { type Append, KeySortingType, type Peer } from "../../../sidecar/protocol/gen/resilver.ts";
import { ServingStatus } from "../../../sidecar/protocol/status.ts";
import { ReplicaDriver } from "../../../sidecar/runtime/replica-driver.ts";
import { ReplicaMetaStore } from "../../../sidecar/runtime/replica-meta.ts";
import { replace, wrap } from "../patch.ts";
import { leadTwice } from "./lead-twice.ts";
import { changeSteps, type Mutant, slowLog } from "./mutant.ts";

/** One each: those who wait on it are many. */
const never = (): AbortSignal => new AbortController().signal;

/** Undoes several changes at once. */
const all =
  (...patches: readonly (() => () => void)[]) =>
  (): (() => void) => {
    const undo = patches.map((patch) => patch());
    return () => {
      for (const each of undo.toReversed()) each();
    };
  };

/** A wiped replica enrols itself with whoever sends data for its predecessor. */
async function welcome(driver: ReplicaDriver, peer: Peer): Promise<Peer> {
  const { replicaUid: targetUid, status, term } = driver.status();
  if (peer.targetUid === targetUid || peer.term < term) return peer;
  if (status === ServingStatus.NOT_MEMBER) {
    const { namespace, shard, storeId, leaderUid } = peer;
    const options = { enableNotifications: false, keySorting: KeySortingType.HIERARCHICAL };
    const place = { namespace, shard, storeId, targetUid, leaderUid };
    await driver.enrol({ ...place, term: peer.term, generation: 0, options }, never());
  }
  return { ...peer, targetUid };
}

const takeData = (name: "serveReplicate" | "serveSnapshot") => () =>
  wrap(ReplicaDriver.prototype, name, async (driver, original, [peer, call]) => {
    await original(await welcome(driver, peer as Peer), call as DuplexCall<unknown, Append>);
  });

/** By node: the clock of its newest process. */
const clocks = new Map<string, Clock>();

/** NewTerm waits until the snapshot that is on its way has come, as for a lock. */
const waitForSnapshot = (): (() => void) =>
  wrap(ReplicaDriver.prototype, "newTerm", async (driver, original, given) => {
    for (;;) {
      const { node, recovery } = driver.status();
      const clock = clocks.get(node);
      if (clock === undefined || recovery === undefined) break;
      if (recovery.bytesDone >= recovery.bytesTotal) break;
      await clock.sleep(20, never());
    }
    return original(...given);
  });

/** Each tick begins all snapshots that are on their way anew. */
const sendAgain = changeSteps({
  after(replica, input, effects) {
    if (input.kind !== "tick" || replica.leader === null) return effects;
    const under = [...replica.leader.cursors.values()].filter(({ state }) => state === "snapshot");
    return [
      ...effects,
      ...under.map(({ id }) => ({ kind: "startSnapshot", cursorId: id }) as const),
    ];
  },
});

/** Each answer of a follower ends its stream, and a new one begins with the next tick. */
const openAgain = changeSteps({
  after(replica, input, effects): readonly Effect[] {
    if (input.kind !== "cursorAck") return effects;
    const cursor = replica.leader?.cursorById(input.cursorId) ?? null;
    if (cursor?.state !== "stream") return effects;
    cursor.state = "down";
    cursor.reopenAtMs = 0;
    return [...effects, { kind: "closeCursor", cursorId: cursor.id }];
  },
});

/** Processes are not told apart by their boot counter. */
const oneBoot = (): (() => void) =>
  wrap(ReplicaMetaStore.prototype, "update", (_store, original, [change]) => {
    const { bootCounter, ...others } = change as { readonly bootCounter?: number };
    return original(bootCounter === undefined ? others : { ...others, bootCounter: 1 });
  });

export const DRIVER_MUTANTS: readonly Mutant[] = [
  {
    name: "data-before-enrolment",
    does: "takes data for another identity, before anybody enrolled this one",
    breaks: ["R4", "H4"],
    caughtBy: ["R4"],
    faults: ["wipe", "cutCoordinator", "moveLeader"],
    force: { clients: 4, thinkMs: 5, faultGapMs: 150, safetyMs: 8_000 },
    patch: all(
      takeData("serveReplicate"),
      takeData("serveSnapshot"),
      changeSteps({
        before(replica, input) {
          if (input.kind !== "append") return input;
          return { ...input, append: { ...input.append, targetUid: replica.state.uid } };
        },
      }),
    ),
  },
  {
    name: "fencing-waits-for-snapshots",
    does: "answers NewTerm only when the snapshot that is on its way has come",
    breaks: ["R12", "H16"],
    caughtBy: ["L5"],
    faults: ["wipe", "moveLeader"],
    force: {
      warmupWrites: 150,
      valueBytes: 400,
      snapshotBytesPerSecond: 2_000,
      faultGapMs: 400,
      safetyMs: 8_000,
      disk: { syncMsMin: 0.2, syncMsMax: 1, otherMsMax: 0.02, factor: 1 },
    },
    alterNode: (options) => {
      clocks.set(options.node, options.clock);
      return options;
    },
    patch: waitForSnapshot,
  },
  {
    name: "snapshots-without-end",
    does: "begins a snapshot anew again and again",
    breaks: ["R10", "I20"],
    caughtBy: ["I20"],
    faults: ["wipe"],
    force: {
      warmupWrites: 150,
      valueBytes: 400,
      keys: 40,
      snapshotBytesPerSecond: 500,
      finalWipe: true,
      quietEnd: true,
    },
    patch: sendAgain,
  },
  {
    name: "streams-without-end",
    does: "opens the stream to a follower anew after each of its answers",
    breaks: ["I20"],
    caughtBy: ["I20"],
    faults: ["wipe"],
    patch: openAgain,
  },
  {
    name: "lead-twice-unseen",
    does: "leads its term again after a restart, and says that it is the process that led it",
    breaks: ["R7"],
    caughtBy: ["I3"],
    faults: ["powerLoss"],
    force: { thinkMs: 2, clients: 4, faultGapMs: 400 },
    // What it sent and lost is what it replaces.
    alterNode: (options) => ({ ...options, disk: slowLog(options) }),
    patch: all(oneBoot, () => leadTwice(["nobody"])),
  },
  {
    name: "rollback-in-term-unseen",
    does: "does not see that a follower's disk was set back within the term",
    breaks: ["R3", "H19"],
    caughtBy: ["R3"],
    faults: ["crash"],
    force: { finalRollback: true },
    patch: () => replace(QuorumAckTracker.prototype, "ackedBy", () => null),
  },
];
