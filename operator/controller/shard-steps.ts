/**
 * Carries out one action of a plan. Every step may be repeated: a crash between any two calls is
 * harmless.
 */
import type { EntryId } from "../../sidecar/protocol/entry.ts";
import { ProtocolError } from "../../sidecar/protocol/errors.ts";
import type { RemoveFollowerResponse, ReplicaStatus } from "../../sidecar/protocol/gen/resilver.ts";
import { type FenceReply, withAckedTerm, withFloor, withRegressed } from "../core/election.ts";
import { withJoint, withNext, withoutJoint, withoutMember, withoutNext } from "../core/ensemble.ts";
import { withLearner, withPromoted, type MemberAction } from "../core/membership.ts";
import type { ConfirmedSets } from "../core/observed.ts";
import { withBootstrap, withClaims, type Action } from "../core/plan.ts";
import { voterSetsText } from "../core/quorum.ts";
import { memberOn, voterSets, type RecordMember, type ShardRecord } from "../core/record.ts";
import { callNewTerm, wentBack } from "./election-run.ts";
import { RecordConflict } from "./ports.ts";
import {
  endpointOf,
  leaderOf,
  ordinaryCall,
  termFields,
  termOptions,
  wireMember,
  type ShardContext,
} from "./shard-context.ts";

/** An action that is not an election. */
export type Step = Exclude<Action, { kind: "elect" }>;

/** What a step found out, for the loop to remember. */
export interface StepResult {
  readonly opened?: { readonly node: string; readonly replica: ReplicaStatus };
  readonly confirmedSets?: ConfirmedSets;
  readonly retired?: string;
}

/** What the loop knows and steps need. */
export interface StepInput {
  /** What the steady leader has committed; null without one. */
  readonly committed: EntryId | null;
  readonly nowMs: number;
}

/** Throws RecordConflict, ProtocolError or CallFailed; the plan then decides anew. */
export async function runStep(
  context: ShardContext,
  step: Step,
  input: StepInput,
  signal: AbortSignal,
): Promise<StepResult> {
  const { keeper } = context;
  const { committed } = input;
  switch (step.kind) {
    case "openShard":
      return openShard(context, step.node, signal);
    case "bootstrap":
      await keeper.save(withBootstrap(keeper.record, step.members), signal);
      return {};
    case "raiseFloor":
      await keeper.save(withFloor(keeper.record, step.floor), signal);
      return {};
    case "noteClaims":
      await keeper.save(withClaims(keeper.record, step.claims), signal);
      return {};
    case "demote":
      await keeper.save(withRegressed(keeper.record, step.node), signal);
      return {};
    case "tellDemoted":
      await removeFollower(context, step.node, step.uid, signal);
      return {};
    case "attach":
    case "recover":
    case "enrol":
    case "promote":
    case "tellPromoted":
      await runMemberStep(context, step, input, signal);
      return {};
    case "beginChange":
      await keeper.save(withNext(keeper.record, step.ensemble), signal);
      return {};
    case "cancelChange":
      await keeper.save(orConflict(withoutNext(keeper.record)), signal);
      return {};
    case "startJoint":
      await keeper.save(orConflict(withJoint(keeper.record, committed)), signal);
      return {};
    case "leaveJoint":
      await keeper.save(orConflict(withoutJoint(keeper.record, committed)), signal);
      context.events.emit({
        kind: "ensembleChanged",
        ...context.key,
        ensemble: keeper.record.ensemble,
      });
      return {};
    case "updateEnsemble":
      return updateEnsemble(context, signal);
    case "retire":
      return retire(context, step.node, signal);
  }
}

async function runMemberStep(
  context: ShardContext,
  step: MemberAction,
  input: StepInput,
  signal: AbortSignal,
): Promise<void> {
  switch (step.kind) {
    case "attach":
      return attach(context, step.node, signal);
    case "recover":
      return recover(context, step, input.nowMs, signal);
    case "enrol":
      return enrol(context, step.node, signal);
    case "promote":
      return promote(context, step, input, signal);
    case "tellPromoted":
      return tellPromoted(context, step, signal);
  }
}

async function openShard(
  context: ShardContext,
  node: string,
  signal: AbortSignal,
): Promise<StepResult> {
  const { record } = context.keeper;
  const replica = await context.sidecars.openShard(
    endpointOf(context, node),
    { ...context.key, storeId: record.storeId, options: { ...termOptions(record) } },
    { deadlineMs: context.timings.openShardDeadlineMs, signal },
  );
  return { opened: { node, replica } };
}

/**
 * A voter that came late: fence it in the present term, note that it was, let the leader feed it.
 */
async function attach(context: ShardContext, node: string, signal: AbortSignal): Promise<void> {
  const { keeper } = context;
  const member = memberOn(keeper.record, node);
  if (member === undefined) return;
  const reply = await fencedOrLost(context, member, signal);
  if (reply === null || wentBack(keeper.record, reply)) {
    await keeper.save(withRegressed(keeper.record, node), signal);
    return;
  }
  const acked = withAckedTerm(keeper.record, reply);
  if (acked !== keeper.record) await keeper.save(acked, signal);
  await addFollower(context, keeper.record, node, reply.head, signal);
}

/**
 * The answer to NewTerm; null when the recorded replica itself says that it is no member: a voter
 * was one, so that its disk was set back to before that (R3).
 */
async function fencedOrLost(
  context: ShardContext,
  member: RecordMember,
  signal: AbortSignal,
): Promise<FenceReply | null> {
  try {
    return await callNewTerm(context, context.keeper.record, member, signal);
  } catch (error) {
    const says = error instanceof ProtocolError && error.reason === "NODE_IS_NOT_MEMBER";
    if (says && error.metadata["observedUid"] === member.replicaUid) return null;
    throw error;
  }
}

async function addFollower(
  context: ShardContext,
  record: ShardRecord,
  node: string,
  head: { readonly term: number; readonly offset: number } | undefined,
  signal: AbortSignal,
): Promise<void> {
  const member = memberOn(record, node);
  if (member === undefined) return;
  const leader = leaderOf(context, record);
  await context.sidecars.addFollower(
    leader.to,
    {
      ...termFields(record),
      followerName: node,
      followerHeadEntryId: head === undefined ? undefined : { ...head },
      targetUid: leader.uid,
      member: wireMember(context, member, head),
    },
    ordinaryCall(context, signal),
  );
}

/** Ends this uid at the leader: nothing it acknowledged counts any more (R4). */
function removeFollower(
  context: ShardContext,
  node: string,
  replicaUid: string,
  signal: AbortSignal,
): Promise<RemoveFollowerResponse> {
  const { record } = context.keeper;
  const leader = leaderOf(context, record);
  return context.sidecars.removeFollower(
    leader.to,
    { ...termFields(record), targetUid: leader.uid, node, replicaUid },
    ordinaryCall(context, signal),
  );
}

/**
 * SAFETY 2.0, steps 2 and 3: the old uid dies at the leader, the record names the learner, then it
 * is enrolled.
 */
async function recover(
  context: ShardContext,
  step: Extract<MemberAction, { kind: "recover" }>,
  nowMs: number,
  signal: AbortSignal,
): Promise<void> {
  const { keeper, policy } = context;
  const uid = step.oldUid === "" ? step.newUid : step.oldUid;
  const { lastAppended } = await removeFollower(context, step.node, uid, signal);
  const target = lastAppended ?? { term: -1, offset: -1, crc: 0 };
  await keeper.save(withLearner(keeper.record, step, target, policy, nowMs), signal);
  await enrol(context, step.node, signal);
}

async function enrol(context: ShardContext, node: string, signal: AbortSignal): Promise<void> {
  const { record } = context.keeper;
  const member = memberOn(record, node);
  if (member === undefined) return;
  const leader = leaderOf(context, record);
  await context.sidecars.enrol(
    endpointOf(context, node),
    {
      ...termFields(record),
      storeId: record.storeId,
      targetUid: member.replicaUid,
      leaderUid: leader.uid,
      options: { ...termOptions(record) },
    },
    ordinaryCall(context, signal),
  );
  await addFollower(context, record, node, undefined, signal);
}

async function promote(
  context: ShardContext,
  step: Extract<MemberAction, { kind: "promote" }>,
  input: StepInput,
  signal: AbortSignal,
): Promise<void> {
  const { keeper } = context;
  const promoted = withPromoted(keeper.record, step.node, step.uid, input.committed);
  await keeper.save(orConflict(promoted), signal);
  await tellPromoted(context, step, signal);
}

async function tellPromoted(
  context: ShardContext,
  step: { readonly node: string; readonly uid: string },
  signal: AbortSignal,
): Promise<void> {
  const { record } = context.keeper;
  const leader = leaderOf(context, record);
  await context.sidecars.promote(
    leader.to,
    { ...termFields(record), targetUid: leader.uid, node: step.node, replicaUid: step.uid },
    ordinaryCall(context, signal),
  );
}

async function updateEnsemble(context: ShardContext, signal: AbortSignal): Promise<StepResult> {
  const { record } = context.keeper;
  const leader = leaderOf(context, record);
  const sets = voterSets(record);
  const { committed = null } = await context.sidecars.updateEnsemble(
    leader.to,
    {
      ...termFields(record),
      targetUid: leader.uid,
      voterSets: sets.map((nodes) => ({ nodes: [...nodes] })),
    },
    { deadlineMs: context.timings.updateEnsembleDeadlineMs, signal },
  );
  return { confirmedSets: { term: record.term, sets: voterSetsText(sets), committed } };
}

/**
 * Only after its data is durably gone is a member forgotten: till then it is fenced with the others
 * (R13).
 */
async function retire(
  context: ShardContext,
  node: string,
  signal: AbortSignal,
): Promise<StepResult> {
  const { keeper, sidecars } = context;
  const { record } = keeper;
  const member = memberOn(record, node);
  if (member === undefined) return {};
  await removeFollower(context, node, member.replicaUid, signal);
  await sidecars
    .deleteShard(
      endpointOf(context, node),
      { ...termFields(record), storeId: record.storeId },
      { deadlineMs: context.timings.deleteShardDeadlineMs, signal },
    )
    .catch((error: unknown) => {
      const gone = error instanceof ProtocolError && error.reason === "SHARD_NOT_FOUND";
      if (!gone) throw error;
    });
  await keeper.save(withoutMember(record, node), signal);
  return { retired: node };
}

function orConflict(record: ShardRecord | null): ShardRecord {
  if (record === null) throw new RecordConflict("the record is not what the step was planned for");
  return record;
}
