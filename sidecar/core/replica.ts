import { assert, unreachable } from "../lib/assert.ts";
import type {
  AddFollowerRequest,
  BecomeLeaderRequest,
  EnrolRequest,
  NewTermRequest,
  PromoteRequest,
  RemoveFollowerRequest,
  TruncateRequest,
  UpdateEnsembleRequest,
} from "../protocol/gen/resilver.ts";
import { ServingStatus } from "../protocol/status.ts";
import {
  notMember,
  raisesGeneration,
  refuseAddressee,
  refuseTerm,
  refuseUnlessLeader,
} from "./admission.ts";
import type { Effect, PromisedState, Refusal, Reply } from "./effect.ts";
import { Follower } from "./follower.ts";
import type { Input, RequestId } from "./input.ts";
import { Leader } from "./leader.ts";
import { refusal, ReplicaState } from "./replica-state.ts";
import type { CoreOptions, InitialState } from "./replica-state.ts";

/** An order that is answered once the promise and the log are durable (R8). */
interface DurableAnswer {
  readonly id: RequestId;
  readonly token: number;
  readonly kind: "newTerm" | "enrol" | "done";
  readonly previousTerm: number;
  reply: Reply | null;
}

/**
 * One replica's replication: pure and synchronous. The driver feeds inputs, performs the effects in
 * order, and reports completions as further inputs. No clock, no I/O, no randomness in here.
 */
export class Replica {
  readonly state: ReplicaState;
  readonly follower: Follower;
  #leader: Leader | null = null;
  /** The term that this process was fenced for and may lead once (R7). */
  #mayLead: number | null = null;
  #fence: DurableAnswer | null = null;
  #answers: DurableAnswer[] = [];
  #persisted = 0;
  /** The token of the last enrolment: it may be unsaved though nobody waits for the answer. */
  #enrolment = 0;
  #nextCursorId = 1;

  constructor(initial: InitialState, options: CoreOptions) {
    this.state = new ReplicaState(initial, options);
    this.follower = new Follower(this.state);
  }

  get leader(): Leader | null {
    return this.#leader;
  }

  /** A term or an enrolment is promised and not saved yet: no data of its leader is taken (R8). */
  get #isPromising(): boolean {
    return this.#fence !== null || this.#enrolment > this.#persisted;
  }

  /** Takes one input; the returned effects must be performed, in order, before the next step. */
  step(input: Input): readonly Effect[] {
    this.#dispatch(input);
    this.#settle();
    assert(this.state.synced <= this.state.log.last.offset, "synced beyond the log's head");
    return this.state.takeEffects();
  }

  #dispatch(input: Input): void {
    switch (input.kind) {
      case "newTerm":
        return this.#newTerm(input.id, input.request);
      case "becomeLeader":
        return this.#becomeLeader(input.id, input.request, input.nowMs);
      case "addFollower":
        return this.#addFollower(input.id, input.request);
      case "removeFollower":
        return this.#removeFollower(input.id, input.request);
      case "promote":
        return this.#promote(input.id, input.request);
      case "updateEnsemble":
        return this.#updateEnsemble(input.id, input.request, input.nowMs);
      case "enrol":
        return this.#enrol(input.id, input.request);
      case "truncate":
        return this.#truncate(input.id, input.request);
      case "streamOpened":
        return this.follower.streamOpened(input.streamId, input.peer, this.#isPromising);
      case "append":
        return this.follower.append(input.streamId, input.append);
      case "streamClosed":
        return this.follower.streamClosed(input.streamId);
      case "installBegin":
        return this.follower.installBegin(input.streamId, input.peer, this.#isPromising);
      case "installed":
        return this.follower.installed(input.streamId, input.base);
      case "installEnded":
        return this.follower.installEnded(input.streamId);
      default:
        return this.#dispatchLocal(input);
    }
  }

  #dispatchLocal(input: Exclude<Input, { kind: "newTerm" | "append" }>): void {
    switch (input.kind) {
      case "propose":
        return this.#propose(input.id, input.value, input.nowMs);
      case "read":
        return this.#read(input.id);
      case "cancelled":
        this.#answers = this.#answers.filter(({ id }) => id !== input.id);
        return this.#leader?.cancel(input.id);
      case "synced":
        return this.#synced(input.offset, input.logEpoch);
      case "metaPersisted":
        this.#persisted = Math.max(this.#persisted, input.token);
        return;
      case "applied":
        // A report from before a snapshot was installed may come after it.
        this.state.applied = Math.max(this.state.applied, input.offset);
        return;
      case "trimmed":
        return this.state.log.trim(input.offset);
      case "logFull":
        return this.#logFull();
      case "space":
        this.state.noSpace = input.short;
        return;
      case "tick":
        return this.#leader?.tick(input.nowMs);
      case "cursorOpened":
      case "cursorAck":
      case "cursorClosed":
      case "cursorBehind":
      case "snapshotPinned":
      case "snapshotDone":
      case "snapshotFailed":
        return this.#leader?.flow.step(input);
      case "becomeLeader":
      case "addFollower":
      case "removeFollower":
      case "promote":
      case "updateEnsemble":
      case "enrol":
      case "truncate":
      case "streamOpened":
      case "streamClosed":
      case "installBegin":
      case "installed":
      case "installEnded":
        return;
      default:
        return unreachable(input);
    }
  }

  /**
   * Fences: promises the term, stops all streams, drains and syncs the log, then reports the head
   * (R8).
   */
  #newTerm(id: RequestId, request: NewTermRequest): void {
    const { state } = this;
    const fresh = request.bootstrap && !state.formattedBefore;
    const refused =
      refuseAddressee(state, request) ??
      (state.promised.member || fresh ? null : notMember(state, request.targetUid)) ??
      refuseTerm(state, request.term, false) ??
      (this.#leader !== null && request.term === state.promised.term
        ? refusal("INVALID_STATUS", `this replica leads term ${request.term}`)
        : null);
    if (refused !== null) return state.refuse(id, refused);
    this.#stepDown();
    const why = refusal("INVALID_TERM", `term ${request.term} began`, { term: request.term });
    this.follower.reset(why);
    if (this.#fence !== null) state.refuse(this.#fence.id, why);
    const { rolledBack, previousTerm } = this.#history(request.ackedTerm);
    this.#mayLead = null;
    const token = this.#promise({
      term: request.term,
      previousTerm,
      rolledBack,
      generation: Math.max(state.promised.generation, request.generation),
      member: true,
      enrolled: null,
    });
    state.status = ServingStatus.FENCED;
    state.syncLog();
    this.#fence = { id, token, kind: "newTerm", previousTerm, reply: null };
  }

  /**
   * What this promise must not hide (R3): by promising a term, a replica that was set back looks in
   * the next one as if it had never lost anything, and the answer that shows its old term may get
   * lost. So the evidence is saved with the promise and reported each time, until Enrol, or until
   * the record holds this uid to no promise (-1): a learner, or what a forced quorum left.
   */
  #history(ackedTerm: number | undefined): Pick<PromisedState, "rolledBack" | "previousTerm"> {
    const { term, previousTerm, rolledBack } = this.state.promised;
    if (ackedTerm === -1) return { rolledBack: false, previousTerm: term };
    const setBack = ackedTerm !== undefined && term < ackedTerm;
    return {
      rolledBack: rolledBack || setBack,
      previousTerm: rolledBack ? Math.min(previousTerm, term) : term,
    };
  }

  #becomeLeader(id: RequestId, request: BecomeLeaderRequest, nowMs: number): void {
    const { state } = this;
    const refused =
      refuseAddressee(state, request) ??
      (state.promised.member ? null : notMember(state, request.targetUid)) ??
      refuseTerm(state, request.term, true) ??
      (this.#mayLead !== request.term || request.bootCounter !== state.bootCounter
        ? refusal(
            "INVALID_STATUS",
            `boot_counter ${request.bootCounter}: this process (boot ${state.bootCounter}) was not fenced ` +
              `for term ${request.term}, or led it already; a new term is needed (R7)`,
          )
        : null) ??
      (state.promised.rolledBack
        ? refusal("INVALID_STATUS", "this replica lost a promise; it learns before it leads (R3)")
        : null) ??
      (request.voterSets.some((set) => set.nodes.includes(state.node))
        ? null
        : refusal("INVALID_ARGUMENT", `voter_sets must name this node, ${state.node}`, {
            field: "voter_sets",
            value: request.voterSets.map((set) => set.nodes.join(",")).join("/"),
            allowed: `ensembles with ${state.node}`,
          }));
    if (refused !== null) return state.refuse(id, refused);
    this.#mayLead = null;
    state.status = ServingStatus.LEADER;
    if (request.lossEpoch > state.promised.lossEpoch)
      this.#promise({ lossEpoch: request.lossEpoch });
    this.#leader = new Leader(state, id, request, nowMs, () => this.#nextCursorId++);
  }

  #addFollower(id: RequestId, request: AddFollowerRequest): void {
    const leader = this.#leadership(id, request);
    if (leader === null) return;
    const { member } = request;
    if (member === undefined || member.node === "" || member.node === leader.node) {
      const text = "member must name a node that is not the leader";
      return this.state.refuse(id, refusal("INVALID_ARGUMENT", text, { field: "member" }));
    }
    leader.attach(member);
    this.#done(id);
  }

  #removeFollower(id: RequestId, request: RemoveFollowerRequest): void {
    const leader = this.#leadership(id, request);
    if (leader === null) return;
    const cursor = leader.cursors.get(request.node);
    if (cursor?.uid === request.replicaUid) leader.detach(cursor);
    const response = { lastAppended: this.state.log.last };
    this.#whenDurable(id, { kind: "removeFollower", response });
  }

  #promote(id: RequestId, request: PromoteRequest): void {
    const leader = this.#leadership(id, request);
    if (leader === null) return;
    const refused = leader.promote(request.node, request.replicaUid);
    if (refused !== null) return this.state.refuse(id, refused);
    this.#done(id);
  }

  #updateEnsemble(id: RequestId, request: UpdateEnsembleRequest, nowMs: number): void {
    const leader = this.#leadership(id, request);
    if (leader === null) return;
    if (request.voterSets.length === 0 || request.voterSets.some((set) => set.nodes.length === 0)) {
      const text = "voter_sets must name at least one ensemble, none of them empty";
      return this.state.refuse(id, refusal("INVALID_ARGUMENT", text, { field: "voter_sets" }));
    }
    leader.updateEnsemble(id, request.voterSets, this.state.promised.lossEpoch, nowMs);
  }

  /**
   * The coordinator recorded this replica as a learner of the term: data of its leader is welcome
   * (R4).
   */
  #enrol(id: RequestId, request: EnrolRequest): void {
    const { state } = this;
    const refused =
      refuseAddressee(state, request) ??
      refuseTerm(state, request.term, false) ??
      (this.#leader !== null
        ? refusal("INVALID_STATUS", `this replica leads term ${state.promised.term}`)
        : null) ??
      (request.leaderUid === ""
        ? refusal("INVALID_ARGUMENT", "leader_uid must name the leader", { field: "leader_uid" })
        : null);
    if (refused !== null) return state.refuse(id, refused);
    const { term, leaderUid } = request;
    const before = state.promised;
    const same = before.enrolled?.term === term && before.enrolled.leaderUid === leaderUid;
    if (!same) {
      this.follower.reset(refusal("INVALID_TERM", `enrolled anew in term ${term}`, { term }));
      if (this.#fence !== null) {
        state.refuse(this.#fence.id, refusal("INVALID_TERM", `enrolled in term ${term}`, { term }));
        this.#fence = null;
      }
    }
    this.#mayLead = null;
    const token = this.#promise(
      {
        term,
        // What it had promised before is no longer owed: it votes only once it holds its target.
        previousTerm: term,
        rolledBack: false,
        generation: Math.max(before.generation, request.generation),
        member: true,
        enrolled: { term, leaderUid },
      },
      !before.member,
    );
    this.#enrolment = token;
    const previousTerm = before.term;
    this.#answers.push({ id, token, kind: "enrol", previousTerm, reply: null });
  }

  /** Kept for Oxia's protocol; appends cut by themselves (R9). */
  #truncate(id: RequestId, request: TruncateRequest): void {
    const { state } = this;
    const refused = this.#refuseTruncate(request);
    if (refused !== null) return state.refuse(id, refused);
    const offset = request.headEntryId?.offset ?? state.log.last.offset;
    state.log.truncate(offset);
    state.logEpoch += 1;
    state.synced = Math.min(state.synced, offset);
    state.emit({ kind: "truncateLog", lastOffset: offset, logEpoch: state.logEpoch });
    state.status = ServingStatus.FOLLOWER;
    const response = { headEntryId: { term: state.log.last.term, offset } };
    state.emit({ kind: "reply", id, reply: { kind: "truncate", response } });
  }

  #refuseTruncate(request: TruncateRequest): Refusal | null {
    const { state } = this;
    const refused =
      refuseAddressee(state, { targetUid: request.peer?.targetUid ?? "" }) ??
      refuseTerm(state, request.term, true);
    if (refused !== null) return refused;
    if (state.status !== ServingStatus.FENCED || this.#fence !== null) {
      return refusal("INVALID_STATUS", "only a fenced replica is truncated");
    }
    const wanted = request.headEntryId;
    const own = wanted === undefined ? null : state.log.positionAt(wanted.offset);
    if (own !== null && own.term === wanted?.term && own.offset >= state.commit) return null;
    const text = "head_entry_id must name an entry of this log at or above its commit offset";
    return refusal("INVALID_ARGUMENT", text, {
      field: "head_entry_id",
      value: `${wanted?.term}:${wanted?.offset}`,
      allowed: `${state.commit}..${state.log.last.offset}`,
    });
  }

  #propose(id: RequestId, value: Uint8Array, nowMs: number): void {
    const leader = this.#leader;
    if (leader === null) return this.state.refuse(id, this.#notLeader());
    if (!leader.serving) return this.state.refuse(id, this.#notReady());
    const full = leader.flow.withoutSpace();
    if (full !== null) {
      const text = `too few replicas have room on their volumes; without: ${full}`;
      return this.state.refuse(id, refusal("NO_SPACE", text, { field: "free bytes", value: full }));
    }
    leader.propose(id, value, nowMs);
  }

  #read(id: RequestId): void {
    const leader = this.#leader;
    if (leader === null) return this.state.refuse(id, this.#notLeader());
    if (!leader.serving) return this.state.refuse(id, this.#notReady());
    if (leader.reads.pending >= this.state.options.pendingReadsMax) {
      return this.state.refuse(id, refusal("RESOURCE_UNAVAILABLE", "too many reads wait already"));
    }
    leader.read(id);
  }

  #synced(offset: number, logEpoch: number): void {
    const { state } = this;
    if (logEpoch !== state.logEpoch || offset <= state.synced) {
      // Even without progress a duplicate's ack may be owed.
      if (logEpoch === state.logEpoch) this.follower.ownSynced();
      return;
    }
    state.synced = Math.min(offset, state.log.last.offset);
    if (this.#leader !== null) this.#leader.ownSynced();
    else this.follower.ownSynced();
  }

  /**
   * Fencing waits for the log to be durable, a full volume for room: what nobody was told of goes,
   * as in a crash, so that the replica can promise and vote (R8, R17).
   */
  #logFull(): void {
    const { state } = this;
    if (this.#fence === null || state.synced === state.log.last.offset) return;
    state.log.truncate(state.synced);
    state.logEpoch += 1;
    state.emit({ kind: "truncateLog", lastOffset: state.synced, logEpoch: state.logEpoch });
  }

  /** Sends answers whose promise and log are durable by now. */
  #settle(): void {
    const fence = this.#fence;
    const { state } = this;
    const drained = state.synced === state.log.last.offset && !this.follower.installing;
    if (fence !== null && fence.token <= this.#persisted && drained) {
      this.#fence = null;
      this.#mayLead = state.promised.term;
      this.#reply(fence);
    }
    const ready = this.#answers.filter((answer) => answer.token <= this.#persisted);
    if (ready.length === 0) return;
    this.#answers = this.#answers.filter((answer) => answer.token > this.#persisted);
    for (const answer of ready) this.#reply(answer);
  }

  #reply(answer: DurableAnswer): void {
    const { state } = this;
    const { last } = state.log;
    const headEntryId = { term: last.term, offset: last.offset };
    const { id } = answer;
    if (answer.reply !== null) {
      state.emit({ kind: "reply", id, reply: answer.reply });
    } else if (answer.kind === "enrol") {
      state.emit({ kind: "reply", id, reply: { kind: "enrol", response: { headEntryId } } });
    } else {
      const response = {
        headEntryId,
        replicaUid: state.uid,
        bootCounter: state.bootCounter,
        previousTerm: answer.previousTerm,
        headCrc: last.crc,
        commitOffset: state.commit,
        learner: false,
      };
      state.emit({ kind: "reply", id, reply: { kind: "newTerm", response } });
    }
  }

  /** The present leadership, or null after refusing the order. Raises the generation seen. */
  #leadership(
    id: RequestId,
    request: { readonly targetUid: string; readonly generation: number; readonly term: number },
  ): Leader | null {
    const { state } = this;
    const refused = refuseAddressee(state, request) ?? refuseUnlessLeader(state, request.term);
    if (refused !== null) {
      state.refuse(id, refused);
      return null;
    }
    if (raisesGeneration(state, request.generation))
      this.#promise({ generation: request.generation });
    return this.#leader;
  }

  #done(id: RequestId): void {
    this.#whenDurable(id, { kind: "done" });
  }

  /** Answers once every promise made so far is persisted (R18). */
  #whenDurable(id: RequestId, reply: Reply): void {
    const token = this.#lastToken;
    this.#answers.push({ id, token, kind: "done", previousTerm: -1, reply });
  }

  #lastToken = 0;

  #promise(change: Partial<PromisedState>, setAside = false): number {
    this.#lastToken = this.state.promise({ ...this.state.promised, ...change }, setAside);
    return this.#lastToken;
  }

  #stepDown(): void {
    this.#leader?.stop();
    this.#leader = null;
  }

  #notLeader(): ReturnType<typeof refusal> {
    if (this.state.status === ServingStatus.NOT_MEMBER) return notMember(this.state, "");
    return refusal("NODE_IS_NOT_LEADER", "this replica does not lead the shard");
  }

  #notReady(): ReturnType<typeof refusal> {
    return refusal("NOT_INITIALIZED", "the leader has not committed an entry of its term yet");
  }
}
