/**
 * One election: save the raised term, fence everybody, tally, save the leader, make it lead. What
 * is decided is decided in `core/election.ts`; here are the calls and their timing.
 */
import { compareEntryIds, type EntryId } from "../../sidecar/protocol/entry.ts";
import type { NewTermResponse } from "../../sidecar/protocol/gen/resilver.ts";
import {
  entryText,
  hasQuorum,
  raiseTerm,
  standingOf,
  tally,
  withLeader,
  withRegressed,
  type ElectionChoice,
  type FenceReply,
  type Tally,
} from "../core/election.ts";
import type { ConfirmedSets, Observed } from "../core/observed.ts";
import { voterSetsText } from "../core/quorum.ts";
import { memberOn, voterSets, type RecordMember, type ShardRecord } from "../core/record.ts";
import {
  endpointOf,
  termFields,
  termOptions,
  wireMember,
  type ShardContext,
} from "./shard-context.ts";
import { childAbort } from "./wake.ts";

/** What an election is held for. */
export interface ElectionRequest {
  readonly choice: ElectionChoice;
  /** Positions known to be committed, from status reports: raise the floor (R6). */
  readonly committed: readonly EntryId[];
  /** Nodes known to be gone: no straggling reply is waited for. */
  readonly gone: ReadonlySet<string>;
}

/** What an election is held for, by what is observed now. */
export function electionRequest(
  record: ShardRecord,
  observed: Observed,
  choice: ElectionChoice,
): ElectionRequest {
  const gone = new Set<string>();
  const committed: EntryId[] = [];
  for (const seen of observed.nodes.values()) {
    if (seen.reach === "down" || seen.reach === "silent") gone.add(seen.node);
    const member = memberOn(record, seen.node);
    const known = member?.role === "voter" && member.replicaUid === seen.replica?.replicaUid;
    const commit = known ? seen.replica?.commit : undefined;
    if (commit !== undefined && compareEntryIds(commit, record.commitFloor) > 0) {
      committed.push(commit);
    }
  }
  return { choice, committed, gone };
}

/** How an election ended. */
export type ElectionOutcome =
  | {
      readonly kind: "elected";
      readonly leader: string;
      readonly confirmedSets: ConfirmedSets;
    }
  | { readonly kind: "failed"; readonly message: string }
  | {
      readonly kind: "belowFloor";
      readonly message: string;
      readonly best: Pick<FenceReply, "node" | "head">;
    };

/** Runs one election to its end. Throws what a save threw; failed calls are a failed election. */
export async function runElection(
  context: ShardContext,
  request: ElectionRequest,
  signal: AbortSignal,
): Promise<ElectionOutcome> {
  const { keeper } = context;
  const raised = await keeper.save(raiseTerm(keeper.record, request.committed), signal);
  const replies = await fence(context, raised, request, signal);
  signal.throwIfAborted();
  const result = tally(raised, replies, request.choice);
  if (result.kind !== "elected") await noteRegressed(context, result.regressed, signal);
  if (result.kind === "belowFloor") {
    const { node, head } = result.best;
    const message = `nobody holds what was committed; ${node} holds most, up to ${entryText(head)}`;
    return { kind: "belowFloor", message, best: { node, head } };
  }
  if (result.kind === "noQuorum") {
    const regressed =
      result.regressed.length === 0 ? "" : `; went back: ${result.regressed.join(", ")}`;
    const counted = result.counted.join(", ") || "none";
    return { kind: "failed", message: `no majority of voters answered: ${counted}${regressed}` };
  }
  const record = await keeper.save(withLeader(raised, result), signal);
  return lead(context, record, result, replies, signal);
}

/**
 * Records who went back even though nobody was elected: by its answer the replica promised this
 * term, so that in the next one it would look as if it had never lost anything (R3, H19).
 */
async function noteRegressed(
  context: ShardContext,
  nodes: readonly string[],
  signal: AbortSignal,
): Promise<void> {
  const { keeper } = context;
  const noted = nodes.reduce(withRegressed, keeper.record);
  if (noted !== keeper.record) await keeper.save(noted, signal);
}

async function lead(
  context: ShardContext,
  record: ShardRecord,
  result: Extract<Tally, { kind: "elected" }>,
  replies: readonly FenceReply[],
  signal: AbortSignal,
): Promise<ElectionOutcome> {
  const { leader } = result;
  const followers = fencedMembers(record, leader, replies);
  const sets = voterSets(record);
  const { barrier: committed = null } = await context.sidecars.becomeLeader(
    endpointOf(context, leader.node),
    {
      ...termFields(record),
      replicationFactor: record.ensemble.length,
      followerMaps: Object.fromEntries(
        followers.map(({ member, reply }) => [member.node, { ...reply.head }]),
      ),
      storeId: record.storeId,
      targetUid: leader.replicaUid,
      bootCounter: leader.bootCounter,
      members: followers.map(({ member, reply }) => wireMember(context, member, reply.head)),
      lossEpoch: record.lossEpoch,
      voterSets: sets.map((nodes) => ({ nodes: [...nodes] })),
    },
    { deadlineMs: context.timings.becomeLeaderDeadlineMs, signal },
  );
  // It answers when its barrier is committed (R7), under these voter sets.
  return {
    kind: "elected",
    leader: leader.node,
    confirmedSets: { term: record.term, sets: voterSetsText(sets), committed },
  };
}

interface Fenced {
  readonly member: RecordMember;
  readonly reply: FenceReply;
}

/**
 * Whom the leader feeds from the start: fenced voters. Late ones and learners are added one by one.
 */
function fencedMembers(
  record: ShardRecord,
  leader: FenceReply,
  replies: readonly FenceReply[],
): readonly Fenced[] {
  const fenced: Fenced[] = [];
  for (const reply of replies) {
    const member = memberOn(record, reply.node);
    if (member === undefined || reply.node === leader.node) continue;
    if (member.role === "voter" && member.replicaUid === reply.replicaUid)
      fenced.push({ member, reply });
  }
  return fenced;
}

/**
 * NewTerm to every member at once. Ends when all have answered or failed, or `electionGraceMs`
 * after the replies elect somebody: a quorum may have answered of which nobody may lead, for
 * instance since the newest is left out. Late replies are lost: those nodes are attached later.
 */
async function fence(
  context: ShardContext,
  record: ShardRecord,
  { choice, gone }: ElectionRequest,
  signal: AbortSignal,
): Promise<readonly FenceReply[]> {
  const { clock, timings } = context;
  const { controller, unlink } = childAbort(signal);
  const replies: FenceReply[] = [];
  const outstanding = new Set(record.members.map((member) => member.node));
  try {
    await new Promise<void>((resolve) => {
      let grace: { cancel(): void } | null = null;
      const settled = (node: string): void => {
        outstanding.delete(node);
        const awaited = [...outstanding].filter((other) => awaits(record, gone, other));
        if (outstanding.size === 0 || (awaited.length === 0 && hasQuorum(record, replies))) {
          grace?.cancel();
          resolve();
        } else if (grace === null && tally(record, replies, choice).kind === "elected") {
          grace = clock.timer(timings.electionGraceMs, resolve);
        }
      };
      for (const member of record.members) {
        void callNewTerm(context, record, member, controller.signal)
          .then((reply) => {
            if (!controller.signal.aborted) replies.push(reply);
          })
          .catch(() => undefined)
          .then(() => {
            settled(member.node);
          });
      }
    });
  } finally {
    unlink();
    controller.abort(new Error("fencing ended"));
  }
  return replies;
}

/** Only voters that may still answer are worth a grace. */
function awaits(record: ShardRecord, gone: ReadonlySet<string>, node: string): boolean {
  return !gone.has(node) && memberOn(record, node)?.role === "voter";
}

/** Fences one member in the record's term. */
export async function callNewTerm(
  context: ShardContext,
  record: ShardRecord,
  member: RecordMember,
  signal: AbortSignal,
): Promise<FenceReply> {
  const response: NewTermResponse = await context.sidecars.newTerm(
    endpointOf(context, member.node),
    {
      ...termFields(record),
      options: { ...termOptions(record) },
      storeId: record.storeId,
      targetUid: member.replicaUid,
      // Only a voter that never acknowledged any term can still be as the bootstrap found it (R11).
      bootstrap: member.role === "voter" && member.ackedTerm === -1,
      // The replica itself notes durably that it is below it: its answer may be lost (R3).
      ackedTerm: member.ackedTerm,
    },
    { deadlineMs: context.timings.newTermDeadlineMs, signal },
  );
  return {
    node: member.node,
    replicaUid: response.replicaUid,
    bootCounter: response.bootCounter,
    head: response.headEntryId ?? { term: -1, offset: -1 },
    previousTerm: response.previousTerm,
  };
}

/** True when a late reply shows that the replica's durable state went back (R3). */
export function wentBack(record: ShardRecord, reply: FenceReply): boolean {
  return standingOf(record, reply) === "regressed";
}
