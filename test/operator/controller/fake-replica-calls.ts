/** What a fake replica answers to calls. Refusals are thrown as ProtocolError. */
import { ProtocolError } from "../../../sidecar/protocol/errors.ts";
import type {
  AddFollowerRequest,
  BecomeLeaderRequest,
  EnrolRequest,
  NewTermRequest,
  NewTermResponse,
  PromoteRequest,
  RemoveFollowerRequest,
  RemoveFollowerResponse,
  UpdateEnsembleRequest,
} from "../../../sidecar/protocol/gen/resilver.ts";
import { MemberRole, ServingStatus } from "../../../sidecar/protocol/gen/resilver.ts";
import type { FakeReplica } from "./fake-replica.ts";

export function answerNewTerm(replica: FakeReplica, request: NewTermRequest): NewTermResponse {
  replica.check(request.targetUid, request.generation);
  replica.newTerm(request.term, request.bootstrap, request.ackedTerm);
  return {
    headEntryId: { ...replica.head },
    replicaUid: replica.uid,
    bootCounter: replica.bootCounter,
    previousTerm: replica.previousTerm,
    headCrc: 0,
    commitOffset: replica.commit,
    learner: false,
  };
}

/** Returns the offset of the barrier; the call's answer waits until that is committed. */
export function beginToLead(replica: FakeReplica, request: BecomeLeaderRequest): number {
  replica.check(request.targetUid, request.generation);
  replica.lossEpoch = request.lossEpoch;
  const sets = request.voterSets.map((set) => set.nodes);
  replica.lead(request.term, request.bootCounter, request.members, sets);
  return replica.log.length - 1;
}

export function answerAddFollower(replica: FakeReplica, request: AddFollowerRequest): void {
  asLeader(replica, request);
  const { member } = request;
  if (member === undefined) throw new ProtocolError("INVALID_ARGUMENT", "member");
  const before = replica.fed.get(member.node);
  const demoted = before?.role === MemberRole.VOTER && member.role === MemberRole.LEARNER;
  if (before?.uid !== member.replicaUid || demoted) replica.feed(member);
}

export function answerRemoveFollower(
  replica: FakeReplica,
  request: RemoveFollowerRequest,
): RemoveFollowerResponse {
  asLeader(replica, request);
  if (replica.fed.get(request.node)?.uid === request.replicaUid) replica.fed.delete(request.node);
  return { lastAppended: { ...replica.head, crc: 7 } };
}

export function answerPromote(replica: FakeReplica, request: PromoteRequest): void {
  asLeader(replica, request);
  const fed = replica.fed.get(request.node);
  if (fed?.uid === request.replicaUid) fed.role = MemberRole.VOTER;
}

/** Returns the offset of the entry that names the sets; the answer waits until it is committed. */
export function changeSets(replica: FakeReplica, request: UpdateEnsembleRequest): number {
  asLeader(replica, request);
  replica.voterSets = request.voterSets.map((set) => set.nodes);
  return replica.log.push({ term: replica.term, value: "sets" }) - 1;
}

export function answerEnrol(replica: FakeReplica, request: EnrolRequest): void {
  replica.check(request.targetUid, request.generation);
  if (request.term < replica.term) throw new ProtocolError("INVALID_TERM", "older");
  replica.term = request.term;
  replica.enrolledTerm = request.term;
  replica.previousTerm = request.term;
  replica.rolledBack = false;
  replica.formattedBefore = true;
  replica.status = ServingStatus.FENCED;
  replica.leaderUid = request.leaderUid;
}

function asLeader(
  replica: FakeReplica,
  request: { readonly targetUid: string; readonly generation: number; readonly term: number },
): void {
  replica.check(request.targetUid, request.generation);
  if (replica.status !== ServingStatus.LEADER || replica.term !== request.term) {
    throw new ProtocolError("NODE_IS_NOT_LEADER", "not leading that term");
  }
}
