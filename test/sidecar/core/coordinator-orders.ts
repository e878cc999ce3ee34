import type { Effect } from "../../../sidecar/core/effect.ts";
import type { CoordinationInput } from "../../../sidecar/core/input.ts";
import type { Replica } from "../../../sidecar/core/replica.ts";
import { MemberRole } from "../../../sidecar/protocol/gen/resilver.ts";
import type { Member } from "../../../sidecar/protocol/gen/resilver.ts";
import { followingReplica, type FollowingOptions } from "./following-replica.ts";

/** An order of the coordinator to replica `b1`, of generation 3 unless told otherwise. */
export function order(
  core: Replica,
  kind: CoordinationInput["kind"],
  request: Readonly<Record<string, unknown>>,
  id = 1,
): readonly Effect[] {
  const to = { namespace: "default", shard: 0, storeId: "store", targetUid: "b1", generation: 3 };
  const input = { kind, id, nowMs: 0, request: { ...to, ...request } };
  return core.step(input as unknown as CoordinationInput);
}

/** A member of the leader's ensemble. */
export function member(
  node: string,
  role: MemberRole = MemberRole.VOTER,
  change: Partial<Member> = {},
): Member {
  return {
    node,
    replicaUid: `${node}1`,
    role,
    internalAddress: node,
    publicAddress: node,
    head: undefined,
    target: undefined,
    ...change,
  };
}

/** Everything that was to be saved so far is. */
export function persist(core: Replica, effects: readonly Effect[]): readonly Effect[] {
  return effects.flatMap((effect) =>
    effect.kind === "persistMeta" ? core.step({ kind: "metaPersisted", token: effect.token }) : [],
  );
}

/** Says that all it appended is durable. */
export function sync(core: Replica): readonly Effect[] {
  const { log, logEpoch } = core.state;
  return core.step({ kind: "synced", offset: log.last.offset, logEpoch });
}

/** Replica `b1`, fenced for term 3. */
export function fenced(options: FollowingOptions = {}): Replica {
  const core = followingReplica(options);
  persist(core, order(core, "newTerm", { term: 3 }));
  return core;
}

/** A BecomeLeader for term 3 that is right. */
export const LEAD = {
  term: 3,
  bootCounter: 1,
  members: [member("a"), member("c")],
  lossEpoch: 0,
  voterSets: [{ nodes: ["a", "b", "c"] }],
};

/** Replica `b1`, which begins to lead term 3 over `a1` (cursor 1) and `c1` (cursor 2). */
export function leading(options: FollowingOptions = {}, change: object = {}): Replica {
  const core = fenced(options);
  order(core, "becomeLeader", { ...LEAD, ...change }, 2);
  return core;
}

/** What the follower of a cursor answers. */
export function answer(core: Replica, cursorId: number, change: object = {}): readonly Effect[] {
  return core.step({
    kind: "cursorAck",
    cursorId,
    ackOffset: -1,
    synced: false,
    round: 0,
    mismatch: null,
    noSpace: false,
    entriesRefused: false,
    ...change,
  });
}

/** The follower holds everything durably, as the leader does: the barrier is committed. */
export function serving(options: FollowingOptions = {}, change: object = {}): Replica {
  const core = leading(options, change);
  sync(core);
  for (const cursorId of [1, 2]) {
    core.step({ kind: "cursorOpened", cursorId });
    answer(core, cursorId, { ackOffset: core.state.log.last.offset, synced: true });
  }
  return core;
}
