/** The coordinator, with one rule taken away: by what it is told, or by how its record is kept. */
import type { CoordinatorOptions } from "../../../operator/controller/coordinator.ts";
import {
  type RecordStore,
  RecordConflict,
  type SidecarClient,
} from "../../../operator/controller/ports.ts";
import type { ShardRecord } from "../../../operator/core/record.ts";
import { ProtocolError } from "../../../sidecar/protocol/errors.ts";
import type { NodeStatus, ReplicaStatus } from "../../../sidecar/protocol/gen/resilver.ts";
import { ServingStatus } from "../../../sidecar/protocol/status.ts";
import type { Mutant } from "./mutant.ts";

function withSidecars(change: (real: SidecarClient) => Partial<SidecarClient>) {
  return (options: CoordinatorOptions): CoordinatorOptions => ({
    ...options,
    sidecars: { ...options.sidecars, ...change(options.sidecars) },
  });
}

function withRecords(change: (real: RecordStore) => Partial<RecordStore>) {
  return (options: CoordinatorOptions): CoordinatorOptions => ({
    ...options,
    records: { ...options.records, ...change(options.records) },
  });
}

/** Reports of replicas, each changed before the coordinator sees it. */
async function* changed(
  reports: AsyncIterable<NodeStatus>,
  change: (status: ReplicaStatus) => ReplicaStatus,
): AsyncGenerator<NodeStatus> {
  for await (const report of reports) {
    yield { ...report, replicas: report.replicas.map(change) };
  }
}

/** Knows replicas by their node alone: whoever answers there is the one that was there first. */
function namesOnly(options: CoordinatorOptions): CoordinatorOptions {
  const first = new Map<string, string>();
  const now = new Map<string, string>();
  const real = options.sidecars;
  const meant = <T extends { readonly targetUid: string }>(node: string, request: T): T => ({
    ...request,
    targetUid: now.get(node) ?? request.targetUid,
  });
  const seen = (node: string, status: ReplicaStatus): ReplicaStatus => {
    if (status.replicaUid === "") return status;
    now.set(node, status.replicaUid);
    if (!first.has(node)) first.set(node, status.replicaUid);
    return { ...status, replicaUid: first.get(node) ?? status.replicaUid, rolledBack: false };
  };
  const sidecars: SidecarClient = {
    ...real,
    async newTerm(to, request, call) {
      const asked = { ...meant(to.node, request), bootstrap: true };
      const answer = await real.newTerm(to, asked, call);
      const previousTerm = Math.max(answer.previousTerm, request.ackedTerm ?? -1);
      return { ...answer, replicaUid: request.targetUid, previousTerm };
    },
    becomeLeader: (to, request, call) =>
      real.becomeLeader(
        to,
        {
          ...meant(to.node, request),
          members: request.members.map((member) => ({
            ...member,
            replicaUid: now.get(member.node) ?? member.replicaUid,
          })),
        },
        call,
      ),
    async openShard(to, request, call) {
      return seen(to.node, await real.openShard(to, request, call));
    },
    watchStatus: (to, request, signal) =>
      changed(real.watchStatus(to, request, signal), (status) => seen(to.node, status)),
  };
  return { ...options, sidecars };
}

/** Nobody is asked what it had promised. */
const noHistory = withSidecars((real) => ({
  async newTerm(to, request, call) {
    const { ackedTerm, ...forgetful } = request;
    const answer = await real.newTerm(to, forgetful, call);
    return { ...answer, previousTerm: Math.max(answer.previousTerm, ackedTerm ?? -1) };
  },
  watchStatus: (to, request, signal) =>
    changed(real.watchStatus(to, request, signal), (status) => ({
      ...status,
      rolledBack: false,
      bootCounter: status.status === ServingStatus.LEADER ? status.bootCounter : 0,
    })),
}));

/** Saves over whatever is there. */
const lastOneWins = withRecords((real) => ({
  async replace(record, version, signal) {
    try {
      return await real.replace(record, version, signal);
    } catch (error) {
      if (!(error instanceof RecordConflict)) throw error;
      const there = await real.read(record, signal);
      return real.replace(record, there?.version ?? version, signal);
    }
  },
}));

/** Saves of the run, in order. */
let saved: ShardRecord[] = [];

/** The record that a coordinator finds when it starts was restored from a backup, unnoticed. */
function oldRecord(options: CoordinatorOptions): CoordinatorOptions {
  let restored: ShardRecord | null = null;
  /** Version of the record that it was restored over. */
  let over = "";
  const known = <T extends { readonly term: number }>(status: T): T => ({
    ...status,
    term: Math.min(status.term, restored?.term ?? status.term),
    generation: -1,
  });
  const { records, sidecars } = options;
  return {
    ...options,
    records: {
      ...records,
      async read(key, signal) {
        const there = await records.read(key, signal);
        if (there === null) return there;
        // One of an election that was going on: whoever finds it goes on with it.
        const older = saved.find(({ leader, initialized }) => leader === null && initialized);
        if (restored === null && older !== undefined && older.term < there.record.term) {
          restored = older;
          over = there.version;
        }
        return there.version === over && restored !== null ? { ...there, record: restored } : there;
      },
      async replace(record, version, signal) {
        const stored = await records.replace(record, version, signal);
        saved.push(stored.record);
        return stored;
      },
    },
    sidecars: {
      ...sidecars,
      openShard: async (to, request, call) => known(await sidecars.openShard(to, request, call)),
      watchStatus: (to, request, signal) =>
        changed(sidecars.watchStatus(to, request, signal), known),
    },
  };
}

function withoutJointState(record: ShardRecord): ShardRecord {
  const { next, ...kept } = record;
  if (next?.joint !== true) return record;
  const members = kept.members.map((member) =>
    next.ensemble.includes(member.node) ? member : { ...member, role: "leaving" as const },
  );
  return { ...kept, members, ensemble: next.ensemble };
}

export const COORDINATOR_MUTANTS: readonly Mutant[] = [
  {
    name: "names-only",
    does: "knows a replica by its node's name, not by its identity",
    breaks: ["R1", "R2", "H3"],
    caughtBy: ["I4", "I7", "I15", "I2", "I1", "I11", "L1", "L2"],
    faults: ["wipe", "crash", "isolate", "cutCoordinator"],
    force: { thinkMs: 2, clients: 4, warmupWrites: 5, safetyMs: 8_000, faultGapMs: 150 },
    alterCoordinator: namesOnly,
  },
  {
    name: "rollback-unseen",
    first: 2_008,
    does: "does not see that a disk was set back",
    breaks: ["R3", "H19"],
    caughtBy: ["I4", "I7", "I15", "I11", "I12", "L1", "I18"],
    faults: ["rollback", "crash", "moveLeader", "isolate", "coordinatorCrash"],
    force: { thinkMs: 2, clients: 4, safetyMs: 8_000, faultGapMs: 150 },
    alterCoordinator: noHistory,
  },
  {
    name: "target-too-low",
    does: "promotes a learner that holds nothing",
    breaks: ["R16", "H5"],
    caughtBy: ["R16", "I4", "I7", "I11", "I15"],
    faults: ["wipe", "crash", "isolate", "moveLeader"],
    force: { thinkMs: 2, clients: 4, warmupWrites: 150 },
    alterCoordinator: withSidecars((real) => ({
      async removeFollower(to, request, call) {
        const answer = await real.removeFollower(to, request, call);
        return { ...answer, lastAppended: { term: -1, offset: -1, crc: 0 } };
      },
    })),
  },
  {
    name: "floor-of-the-appended",
    does: "raises the floor to what a leader appended, committed or not",
    breaks: ["R6"],
    caughtBy: ["I15", "L1", "L2"],
    faults: ["crash", "moveLeader", "isolate", "cutPair"],
    force: { thinkMs: 2, clients: 4 },
    alterCoordinator: withSidecars((real) => ({
      watchStatus: (to, request, signal) =>
        changed(real.watchStatus(to, request, signal), (status) => ({
          ...status,
          commit: status.head,
        })),
    })),
  },
  {
    name: "last-one-wins",
    does: "saves the record over whatever another coordinator saved",
    breaks: ["R18"],
    caughtBy: ["I1", "I2", "I7", "I15", "I17", "broken"],
    faults: ["secondCoordinator", "crash", "moveLeader", "wipe"],
    alterCoordinator: lastOneWins,
  },
  {
    name: "old-record-restored",
    does: "goes on with a record that was restored from a backup, though replicas know better",
    breaks: ["R18", "R6"],
    caughtBy: ["I2"],
    faults: ["coordinatorCrash", "moveLeader", "wipe"],
    patch: () => {
      saved = [];
      return () => undefined;
    },
    alterCoordinator: oldRecord,
  },
  {
    name: "joint-state-left-early",
    does: "leaves a joint state before anything was committed under it",
    breaks: ["R13", "H8"],
    caughtBy: ["I17", "I4", "I7", "L1"],
    faults: ["changeEnsemble", "crash", "isolate"],
    force: { spares: 2 },
    alterCoordinator: withSidecars(() => ({
      updateEnsemble: async () => ({ committed: undefined }),
    })),
  },
  {
    name: "joint-state-skipped",
    does: "changes the voter set at once",
    breaks: ["R13", "H9"],
    caughtBy: ["I17", "I4", "I7"],
    faults: ["changeEnsemble", "crash", "isolate"],
    force: { spares: 2 },
    alterCoordinator: withRecords((real) => ({
      replace: (record, version, signal) =>
        real.replace(withoutJointState(record), version, signal),
    })),
  },
  {
    name: "learners-stay-learners",
    first: 9,
    does: "never tells a leader that a learner votes now",
    breaks: ["R10", "R16"],
    caughtBy: ["L1", "L2"],
    faults: ["wipe"],
    alterCoordinator: withSidecars(() => ({
      promote: () => Promise.reject(new ProtocolError("INVALID_STATUS", "not this time")),
    })),
  },
];
