/**
 * What the coordinator may do next. What it decides is decided by the code that ships
 * (`operator/core`); when it does it is left open: any time at which its calls could be answered.
 */
import { MemberRole } from "../../../sidecar/protocol/gen/resilver.ts";
import type { Member } from "../../../sidecar/protocol/gen/resilver.ts";
import {
  type FenceReply,
  hasQuorum,
  raiseTerm,
  standingOf,
  tally,
  withAckedTerm,
  withLeader,
  withRegressed,
} from "../../../operator/core/election.ts";
import { withoutJoint } from "../../../operator/core/ensemble.ts";
import { DEFAULT_RECOVERY_POLICY } from "../../../operator/core/gates.ts";
import { withLearner, withPromoted } from "../../../operator/core/membership.ts";
import { memberOn, type RecordMember, voterSets } from "../../../operator/core/record.ts";
import { voterSetsText } from "../../../operator/core/quorum.ts";
import type { Draft } from "./draft.ts";
import type { NodeState } from "./node-state.ts";
import type { Move } from "./move.ts";
import type { Conduct } from "./rules.ts";
import { committedBy, nodeOf, steadyLeader, type World } from "./world.ts";

const SHARD = { namespace: "default", shard: 0 };
const STORE_ID = "store";
const NOTHING = { term: -1, offset: -1, crc: 0 };
/** Answers are told apart by what was asked: see `Draft`. */
const IDS = { lead: 1_000, enrol: 2_000, add: 3_000, remove: 4_000, promote: 5_000 } as const;

/** All that it may do, but for changes of the ensemble. */
export function coordinatorMoves(world: World, conduct: Conduct): readonly Move[] {
  const moves: Move[] = [...electionMoves(world, conduct)];
  const leader = steadyLeader(world);
  if (leader !== null) {
    moves.push(...memberMoves(world, leader, conduct));
  }
  return moves;
}

function electionMoves(world: World, conduct: Conduct): readonly Move[] {
  const { record, election, order, left } = world;
  const moves: Move[] = [];
  if (left.terms > 0) {
    moves.push({ name: `raise the term to ${record.term + 1}`, make: raise });
    // Another coordinator, or this one after a crash, which knows of nothing that was not saved.
    if (conduct.raisesUnsaved && record.term > 0) {
      moves.push({ name: `raise the term to ${record.term} again`, make: raiseAgain });
    }
  }
  for (const node of election?.asked ?? []) {
    if (election?.replies.some((reply) => reply.node === node) === true) continue;
    moves.push({ name: `NewTerm to ${node}`, make: (draft) => fence(draft, node, conduct) });
  }
  if (election !== null && hasQuorum(record, counted(world, conduct))) {
    moves.push({ name: "tally", make: (draft) => elect(draft, conduct) });
  }
  if (order !== null) {
    const { node, input } = order;
    const make = (draft: Draft): void => {
      draft.world.order = null;
      draft.call(node, input);
    };
    moves.push({ name: `BecomeLeader to ${node}`, make });
  }
  return moves;
}

function raise(draft: Draft): void {
  draft.spend("terms");
  const raised = raiseTerm(draft.world.record, []);
  draft.save(raised);
  draft.world.election = { asked: raised.members.map(({ node }) => node), replies: [] };
  draft.world.ensembleAsked = null;
  draft.world.confirmed = null;
}

/** The same number once more: the answers of the one before are not known. */
function raiseAgain(draft: Draft): void {
  draft.spend("terms");
  const { record } = draft.world;
  draft.save({ ...record, leader: null });
  draft.world.election = { asked: record.members.map(({ node }) => node), replies: [] };
}

function fence(draft: Draft, node: string, conduct: Conduct): void {
  const { record } = draft.world;
  const member = memberOn(record, node);
  if (member !== undefined) callNewTerm(draft, member, conduct);
}

/** As `election-run.ts` does. */
function callNewTerm(draft: Draft, member: RecordMember, conduct: Conduct) {
  const { record } = draft.world;
  const { view } = draft.node(member.node);
  const any = conduct.countsAnyIdentity;
  const ackedTerm = conduct.ignoresRegression ? {} : { ackedTerm: member.ackedTerm };
  const request = {
    ...SHARD,
    term: record.term,
    generation: record.generation,
    options: undefined,
    storeId: STORE_ID,
    targetUid: any ? view.uid : member.replicaUid,
    bootstrap: any || (member.role === "voter" && member.ackedTerm === -1),
    ...ackedTerm,
  };
  return draft.call(member.node, { kind: "newTerm", id: record.term, request });
}

/** The answers as the election takes them: rules that are taken away change them. */
function counted({ record, election }: World, conduct: Conduct): readonly FenceReply[] {
  return (election?.replies ?? []).map((reply) => {
    const member = memberOn(record, reply.node);
    if (member === undefined) return reply;
    const known = conduct.countsAnyIdentity ? { replicaUid: member.replicaUid } : {};
    const whole =
      conduct.countsAnyIdentity || conduct.ignoresRegression
        ? { previousTerm: record.term, bootCounter: Number.MAX_SAFE_INTEGER }
        : {};
    return { ...reply, ...known, ...whole };
  });
}

function elect(draft: Draft, conduct: Conduct): void {
  const { world } = draft;
  const { record, election } = world;
  const replies = heads(world, counted(world, conduct), conduct);
  world.election = null;
  const choice = { leaderships: new Map(), prefer: null, exclude: new Set<string>() };
  const result = tally(record, replies, choice);
  if (result.kind !== "elected") {
    draft.save(result.regressed.reduce(withRegressed, record));
    return;
  }
  const own = election?.replies.find(({ node }) => node === result.leader.node) ?? result.leader;
  draft.save(withLeader(record, result));
  const now = world.record;
  const members = replies
    .filter(({ node }) => node !== own.node)
    .flatMap(({ node, replicaUid }) => {
      const member = memberOn(now, node);
      const fed = member?.role === "voter" && member.replicaUid === replicaUid;
      const real = draft.node(node).view.uid;
      if (member === undefined || !fed) return [];
      return [
        wireMember(conduct.countsAnyIdentity ? { ...member, replicaUid: real } : member, conduct),
      ];
    });
  const request = {
    ...SHARD,
    term: now.term,
    generation: now.generation,
    replicationFactor: now.ensemble.length,
    followerMaps: {},
    storeId: STORE_ID,
    targetUid: own.replicaUid,
    bootCounter: own.bootCounter,
    members,
    lossEpoch: now.lossEpoch,
    voterSets: voterSets(now).map((nodes) => ({ nodes: [...nodes] })),
  };
  world.ensembleAsked = { term: now.term, sets: voterSetsText(voterSets(now)) };
  world.order = {
    node: own.node,
    input: { kind: "becomeLeader", id: IDS.lead + now.term, request, nowMs: 0 },
  };
}

function heads(
  world: World,
  replies: readonly FenceReply[],
  { forgetsBase }: Conduct,
): readonly FenceReply[] {
  if (!forgetsBase) return replies;
  return replies.map((reply) => {
    const { view } = nodeOf(world, reply.node);
    // Whoever was lost since has answered by what it held.
    const empty = view.entries.length === 0 && view.uid === reply.replicaUid;
    return empty ? { ...reply, head: { term: -1, offset: -1 } } : reply;
  });
}

function memberMoves(world: World, leader: NodeState, conduct: Conduct): readonly Move[] {
  const moves: Move[] = [];
  for (const member of world.record.members) {
    const { node, replicaUid, role } = member;
    if (node === leader.node || role === "leaving") continue;
    const { view } = nodeOf(world, node);
    const cursor = leader.view.leading?.cursors.find((one) => one.node === node);
    const fed = cursor?.uid === replicaUid && cursor.state !== "notMember";
    if (view.uid !== replicaUid || (role === "learner" && member.enrolTerm !== world.record.term)) {
      moves.push({
        name: `record ${view.uid} of ${node} as a learner`,
        make: (d) => learns(d, node),
      });
    } else if (role === "learner") {
      if (view.promised.enrolled?.term !== world.record.term || !fed) {
        moves.push({ name: `enrol ${node}`, make: (d) => enrol(d, node, conduct) });
      } else if (cursor.reachedTarget || conduct.promotesEarly) {
        moves.push({ name: `record ${node} as a voter`, make: (d) => promote(d, node, conduct) });
      }
    } else if (!fed || (cursor.state === "down" && view.promised.term < world.record.term)) {
      moves.push({ name: `attach ${node}`, make: (d) => attach(d, node, conduct) });
    } else if (!cursor.voter) {
      moves.push({ name: `tell the leader that ${node} votes`, make: (d) => tell(d, node) });
    }
  }
  return moves;
}

/** What every call says of the record. */
export const fieldsOf = ({
  term,
  generation,
}: {
  readonly term: number;
  readonly generation: number;
}) => {
  return { ...SHARD, term, generation };
};

/** The old identity dies at the leader, and the record names the new one. */
export function learns(draft: Draft, node: string): void {
  const { world } = draft;
  const leader = steadyLeader(world);
  if (leader === null) return;
  const oldUid = memberOn(world.record, node)?.replicaUid ?? "";
  const newUid = draft.node(node).view.uid;
  const targetUid = leader.view.uid;
  const answer = draft.call(leader.node, {
    kind: "removeFollower",
    id: IDS.remove,
    request: { ...fieldsOf(world.record), targetUid, node, replicaUid: oldUid || newUid },
  });
  if (answer === null || !("reply" in answer) || answer.reply.kind !== "removeFollower") return;
  const target = answer.reply.response.lastAppended ?? NOTHING;
  const reason = "VolumeEmpty" as const;
  const step = { kind: "recover", node, oldUid, newUid, reason, counted: true } as const;
  draft.save(withLearner(world.record, step, target, DEFAULT_RECOVERY_POLICY, 0));
}

function enrol(draft: Draft, node: string, conduct: Conduct): void {
  const { world } = draft;
  const leaderUid = world.record.leader?.uid ?? "";
  const targetUid = memberOn(world.record, node)?.replicaUid ?? "";
  const request = {
    ...fieldsOf(world.record),
    storeId: STORE_ID,
    targetUid,
    leaderUid,
    options: undefined,
  };
  const answer = draft.call(node, { kind: "enrol", id: IDS.enrol + world.record.term, request });
  if (answer !== null && "reply" in answer) addFollower(draft, node, conduct);
}

function addFollower(draft: Draft, node: string, conduct: Conduct): void {
  const { record: now } = draft.world;
  const member = memberOn(now, node);
  const { leader } = now;
  if (member === undefined || leader === null) return;
  const request = {
    ...fieldsOf(now),
    followerName: node,
    followerHeadEntryId: undefined,
    targetUid: leader.uid,
    member: wireMember(member, conduct),
  };
  draft.call(leader.node, { kind: "addFollower", id: IDS.add, request });
}

function attach(draft: Draft, node: string, conduct: Conduct): void {
  const { world } = draft;
  const member = memberOn(world.record, node);
  if (member === undefined) return;
  const answer = callNewTerm(draft, member, conduct);
  if (answer === null || !("reply" in answer) || answer.reply.kind !== "newTerm") return;
  const { response } = answer.reply;
  const head = response.headEntryId ?? { term: -1, offset: -1 };
  const reply: FenceReply = { ...response, node, head };
  if (!conduct.ignoresRegression && standingOf(world.record, reply) === "regressed") {
    draft.save(withRegressed(world.record, node));
    return;
  }
  draft.save(withAckedTerm(world.record, reply));
  addFollower(draft, node, conduct);
}

function promote(draft: Draft, node: string, conduct: Conduct): void {
  const { world } = draft;
  const uid = draft.node(node).view.uid;
  const leader = steadyLeader(world);
  if (leader === null) return;
  const committed = conduct.ignoresFloor ? null : committedBy(leader);
  const voter = withPromoted(world.record, node, uid, committed);
  if (voter === null) return;
  // With R13 taken away the new set alone counts from now on.
  draft.save((conduct.skipsJoint ? withoutJoint(voter, committed) : null) ?? voter);
}

function tell(draft: Draft, node: string): void {
  const { record: now } = draft.world;
  if (now.leader === null) return;
  const replicaUid = memberOn(now, node)?.replicaUid ?? "";
  const request = { ...fieldsOf(now), targetUid: now.leader.uid, node, replicaUid };
  draft.call(now.leader.node, { kind: "promote", id: IDS.promote, request });
}

function wireMember(member: RecordMember, conduct: Conduct): Member {
  const votes = member.role === "voter" || conduct.countsLearners;
  const { target } = member;
  return {
    node: member.node,
    replicaUid: member.replicaUid,
    role: votes ? MemberRole.VOTER : MemberRole.LEARNER,
    internalAddress: member.node,
    publicAddress: member.node,
    head: undefined,
    target: target === undefined ? undefined : { ...target },
  };
}
