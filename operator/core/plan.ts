/**
 * The plan: record and observation in, a few things to do out. Pure and level-based: it knows
 * nothing of what was done before, so a coordinator killed at any step goes on where the record
 * says.
 */
import type { EntryId } from "../../sidecar/protocol/entry.ts";
import { MemberRole, type ReplicaStatus } from "../../sidecar/protocol/gen/resilver.ts";
import { ServingStatus } from "../../sidecar/protocol/status.ts";
import { planEnsemble, type EnsembleAction } from "./ensemble.ts";
import type { RecoveryPolicy } from "./gates.ts";
import {
  closedGate,
  deferAll,
  planMembers,
  type Deferral,
  type MemberAction,
} from "./membership.ts";
import {
  cannotCommit,
  currentReplica,
  followerAt,
  isSuspect,
  judgeLeader,
  shardNodes,
  voterReach,
  type ClaimUids,
  type LeaderLoss,
  type Observed,
} from "./observed.ts";
import { isQuorum } from "./quorum.ts";
import { voterSets, type ShardRecord } from "./record.ts";
import { belowFloor, lostQuorum, lostRecord, staleRecord, type Stop } from "./stops.ts";

/** A voter and the claims that its data is on. */
export interface MemberClaims {
  readonly node: string;
  readonly uid: string;
  readonly claims: ClaimUids;
}

/** One thing to do; the executor saves the record before it acts on it. */
export type Action =
  /** Name the shard to the node, which formats its directories when they hold no cookie. */
  | { readonly kind: "openShard"; readonly node: string }
  /** Save all replicas as voters: once in a shard's life (R11). */
  | {
      readonly kind: "bootstrap";
      readonly members: readonly { readonly node: string; readonly uid: string }[];
    }
  /** Raise the term and elect. */
  | { readonly kind: "elect"; readonly why: LeaderLoss; readonly exclude: string | null }
  /**
   * Save that the leader's barrier is committed: nobody without it may ever lead again (R6, R7).
   */
  | { readonly kind: "raiseFloor"; readonly floor: EntryId }
  /** Save that a voter was set back, so that nobody counts on it (R3). */
  | { readonly kind: "demote"; readonly node: string; readonly uid: string }
  /** RemoveFollower at the leader, which still counts a replica that has no vote by the record. */
  | { readonly kind: "tellDemoted"; readonly node: string; readonly uid: string }
  /** Save which claims these voters' data is on, so that another one is noticed (R3). */
  | { readonly kind: "noteClaims"; readonly claims: readonly MemberClaims[] }
  | MemberAction
  | Exclude<EnsembleAction, { kind: "moveLeader" }>;

export interface Plan {
  /** In the order to do them; each is judged anew after the one before it. */
  readonly actions: readonly Action[];
  readonly stop: Stop | null;
  readonly deferrals: readonly Deferral[];
  /** What is waited for when there is nothing to do and no steady leader; for people. */
  readonly waiting: string | null;
}

/** Most actions of one plan: several per node at the very most. */
const PLAN_ACTIONS_MAX = 32;

/** What to do next about one shard. */
export function plan(record: ShardRecord, observed: Observed, policy: RecoveryPolicy): Plan {
  // A lost record is also an old one; its own name helps more.
  const stop = lostRecord(record, observed) ?? staleRecord(record, observed);
  if (stop !== null) return { actions: [], stop, deferrals: [], waiting: null };
  const opens = planOpens(record, observed);
  const rest = record.initialized
    ? planInitialized(record, observed, policy)
    : planBootstrap(record, observed);
  return { ...rest, actions: [...opens, ...rest.actions].slice(0, PLAN_ACTIONS_MAX) };
}

/** Nothing is to be done, waited for or endured. */
export function isQuiet(record: ShardRecord, planned: Plan, observed: Observed): boolean {
  if (planned.actions.length + planned.deferrals.length > 0) return false;
  if (planned.stop !== null || planned.waiting !== null) return false;
  // Whoever is cut off can commit nothing either.
  return !observed.leaderSettling && !cannotCommit(record, observed);
}

function planOpens(record: ShardRecord, observed: Observed): readonly Action[] {
  // A new shard waits for every node anyway; a replica that lies open until then makes its pod not
  // ready, which may serve other shards.
  const all = [...observed.nodes.values()];
  if (!record.initialized && all.some(({ reach }) => reach !== "up")) return [];
  return shardNodes(record)
    .filter((node) => {
      const seen = observed.nodes.get(node);
      return seen?.reach === "up" && seen.replica === null;
    })
    .map((node) => ({ kind: "openShard", node }));
}

function planBootstrap(record: ShardRecord, observed: Observed): Plan {
  const members: { node: string; uid: string }[] = [];
  const missing: string[] = [];
  for (const node of record.ensemble) {
    const replica = currentReplica(observed, node);
    // lostRecord has stopped already at any replica that was formatted before.
    const fit = replica !== null && replica.status === ServingStatus.NOT_MEMBER;
    if (fit && replica.replicaUid !== "") members.push({ node, uid: replica.replicaUid });
    else missing.push(node);
  }
  if (missing.length > 0) {
    return quiet(`a new shard starts when all its nodes are there; missing: ${missing.join(", ")}`);
  }
  // Its data may be where the shard was before: with the record, where that was is lost (R11).
  const unheard = [...observed.nodes.values()]
    .filter(({ node, reach }) => !record.ensemble.includes(node) && reach !== "up")
    .map(({ node }) => node);
  if (unheard.length > 0) {
    return quiet(
      "a new shard starts when every node of the store has said that it holds nothing of it; " +
        `not heard: ${unheard.join(", ")}`,
    );
  }
  return { actions: [{ kind: "bootstrap", members }], stop: null, deferrals: [], waiting: null };
}

function planInitialized(record: ShardRecord, observed: Observed, policy: RecoveryPolicy): Plan {
  const judged = judgeLeader(record, observed);
  if (judged.state === "steady") return planSteady(record, observed, policy, judged.replica);
  if (judged.state === "waiting") return quiet("waits for the leader's report");
  return planElection(record, observed, policy, judged.why);
}

function planSteady(
  record: ShardRecord,
  observed: Observed,
  policy: RecoveryPolicy,
  leader: ReplicaStatus,
): Plan {
  const members = planMembers(record, observed, leader, policy);
  const demotions = planDemotions(record, observed, leader);
  const actions: Action[] = [
    ...demotions,
    ...planTellDemoted(record, leader),
    ...planFloor(record, leader),
    ...members.actions,
  ];
  const deferrals = [...members.deferrals];
  for (const action of planEnsemble(record, observed, leader)) {
    if (action.kind === "moveLeader") {
      actions.push({ kind: "elect", why: "LeaderLeaving", exclude: action.from });
      continue;
    }
    const closed =
      action.kind === "recover" ? closedGate(record, observed, policy, action, true) : null;
    if (closed === null) actions.push(action);
    else deferrals.push(closed);
  }
  const claims = claimsToNote(record, observed);
  if (claims.length > 0) actions.push({ kind: "noteClaims", claims });
  return { actions, stop: null, deferrals, waiting: null };
}

/**
 * Whoever was set back loses its vote at once, with or without a leader, whatever gate its rebuild
 * waits for: what shows it may be gone before that gate opens, and the vote would count again (R3).
 */
function planDemotions(
  record: ShardRecord,
  observed: Observed,
  steady: ReplicaStatus | null,
): readonly Action[] {
  return record.members
    .filter(
      (member) => member.replicaUid !== steady?.replicaUid && isSuspect(record, observed, member),
    )
    .map(({ node, replicaUid: uid }) => ({ kind: "demote", node, uid }));
}

/**
 * What the leader commits with a replica that votes no more is on fewer voters than the record asks
 * for (I5, I11): an election still meets it, a forced quorum may give it up. So it is told at once,
 * and again while it shows such a vote: the rebuild, which tells it too, may wait for its gate.
 */
function planTellDemoted(record: ShardRecord, leader: ReplicaStatus): readonly Action[] {
  return record.members
    .filter((member) => member.role === "learner" && member.enrolTerm !== record.term)
    .filter((member) => followerAt(leader, member)?.role === MemberRole.VOTER)
    .map(({ node, replicaUid: uid }) => ({ kind: "tellDemoted", node, uid }));
}

/** Only while it votes and is here: then what it acknowledged is on these claims. */
function claimsToNote(record: ShardRecord, observed: Observed): readonly MemberClaims[] {
  return record.members.flatMap(({ node, replicaUid: uid, role, pvcUids }) => {
    const claims = observed.nodes.get(node)?.claims ?? null;
    const here = currentReplica(observed, node)?.replicaUid === uid;
    if (role !== "voter" || pvcUids !== undefined || claims === null || !here) return [];
    return [{ node, uid, claims }];
  });
}

function planFloor(record: ShardRecord, leader: ReplicaStatus): readonly Action[] {
  const { commit } = leader;
  // Once a term is enough: the floor guards against whole logs lost, not against a short tail.
  if (!leader.serving || commit?.term !== record.term || record.commitFloor.term === record.term) {
    return [];
  }
  return [{ kind: "raiseFloor", floor: { term: commit.term, offset: commit.offset } }];
}

function planElection(
  record: ShardRecord,
  observed: Observed,
  policy: RecoveryPolicy,
  why: LeaderLoss,
): Plan {
  const deferrals = deferAll(record, observed, policy);
  const demotions = planDemotions(record, observed, null);
  if (demotions.length > 0) return { actions: demotions, stop: null, deferrals, waiting: null };
  const stop = lostQuorum(record, observed) ?? belowFloor(record, observed);
  if (stop !== null) return { actions: [], stop, deferrals, waiting: null };
  const { reachable } = voterReach(record, observed);
  if (!isQuorum(voterSets(record), reachable)) {
    // Raising the term now would only fence those who still serve.
    const waiting = `no leader (${why}) and too few voters reachable: ${[...reachable].join(", ")}`;
    return { actions: [], stop: null, deferrals, waiting };
  }
  // It answers, and has the newest log: it would win, and be as cut off as before.
  const exclude = why === "LeaderIsolated" ? (record.leader?.node ?? null) : null;
  return { actions: [{ kind: "elect", why, exclude }], stop: null, deferrals, waiting: null };
}

function quiet(waiting: string): Plan {
  return { actions: [], stop: null, deferrals: [], waiting };
}

/** The record to save when claims are noted; members that are others by now are left alone. */
export function withClaims(record: ShardRecord, noted: readonly MemberClaims[]): ShardRecord {
  const members = record.members.map((member) => {
    const found = noted.find(({ uid }) => uid === member.replicaUid);
    return found === undefined ? member : { ...member, pvcUids: found.claims };
  });
  return { ...record, members };
}

/**
 * The record to save at the bootstrap: all replicas vote, and the shard is initialized for ever
 * (R11).
 */
export function withBootstrap(
  record: ShardRecord,
  members: readonly { readonly node: string; readonly uid: string }[],
): ShardRecord {
  return {
    ...record,
    initialized: true,
    members: members.map(({ node, uid }) => ({
      node,
      replicaUid: uid,
      role: "voter",
      ackedTerm: -1,
    })),
  };
}
