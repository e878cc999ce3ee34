/**
 * The loop of one shard: observe, plan, do the first thing of the plan, again. One thing at a time,
 * so that each is judged against what the one before it left; an election overtakes anything else.
 */
import { judgeForceQuorum, type ForceQuorumOrder } from "../core/force-quorum.ts";
import { withDesired } from "../core/ensemble.ts";
import { isAtRest } from "../core/leader-balance.ts";
import { wishedElection, type LeaderWish } from "../core/leader-wish.ts";
import {
  cannotCommit,
  committedEntry,
  couldElect,
  isCutOff,
  judgeLeader,
  voterEvidence,
  voterReach,
  type ConfirmedSets,
  type Observed,
} from "../core/observed.ts";
import { isQuiet, plan, type Action, type Plan } from "../core/plan.ts";
import { RecordInvalid, type ShardRecord } from "../core/record.ts";
import { shardView, type ShardView } from "../core/status.ts";
import { distrustsRecord, type StopReason } from "../core/stops.ts";
import { electionRequest, runElection, type ElectionRequest } from "./election-run.ts";
import { Lasting } from "./lasting.ts";
import { LeftOut } from "./left-out.ts";
import { OrderQueue } from "./order-queue.ts";
import { RecordConflict } from "./ports.ts";
import { RecoveryTracker } from "./recovery-tracker.ts";
import { RetryBook } from "./retry-book.ts";
import type { ShardContext } from "./shard-context.ts";
import { runStep, type Step, type StepResult } from "./shard-steps.ts";
import { leaderAnswers, stepName, type ElectAction } from "./step-names.ts";
import { childAbort, pause, Wake } from "./wake.ts";

/** What the coordinator knows beyond one shard. */
export interface Surroundings {
  /** The parts of {@link Observed} that come from nodes and from other shards. */
  observe(): Pick<Observed, "nodes" | "recoveringNodes" | "orderedUids">;
  leaderships(): ReadonlyMap<string, number>;
  /** A replica's status that came as the answer to a call. */
  learned(result: StepResult): void;
  /** A node would not open the shard. */
  refused(node: string, error: unknown): void;
  /** Called when the record was read first and after it changed: assignments may have, too. */
  recordKnown(): void;
  /**
   * Which of these nodes still are the processes that were heard of last; asks them now, and no
   * longer than until those that answered are enough.
   */
  confirm(
    nodes: ReadonlySet<string>,
    enough: (there: ReadonlySet<string>) => boolean,
    signal: AbortSignal,
  ): Promise<ReadonlySet<string>>;
  /** Until the returned function is called, this node counts as recovering. */
  claimRecovery(node: string): () => void;
}

/** Thrown into a step that an election overtakes, and into an election whose candidate is gone. */
class Overtaken extends Error {
  override readonly name = "Overtaken";
}

export class ShardLoop {
  readonly context: ShardContext;
  readonly #surroundings: Surroundings;
  readonly #wake: Wake;
  readonly #retries: RetryBook;
  readonly #tracker: RecoveryTracker;
  /**
   * True once the record was asked for: from then on a change of it is another coordinator's, or a
   * person's.
   */
  #loaded = false;
  /** True once that succeeded. */
  #known = false;
  #settledAtMs = 0;
  /** When the record is read anew even though nothing calls for it. */
  #readAgainAtMs = 0;
  /**
   * A leader that answered BecomeLeader while its watch, whose stream is not open again yet, still
   * says down: too early to judge it, and giving it up would end R16 for nothing.
   */
  #answeredThoughDown: string | null = null;
  #confirmedSets: ConfirmedSets | null = null;
  #belowFloor: Observed["belowFloor"] = null;
  /** The leader reaches too few voters, or sends entries to too few. */
  readonly #cutOff = new Lasting();
  readonly #idle = new Lasting();
  #ordered: LeaderWish | null = null;
  readonly #leftOut = new LeftOut();
  #stop: StopReason | null = null;
  #invalid: string | null = null;
  /** The step that is running, unless it is an election. */
  #running: AbortController | null = null;
  /** The election that is running. */
  #electing: AbortController | null = null;
  /** People's changes of the record wait for their turn with the loop's own. */
  readonly #orders: OrderQueue;

  constructor(context: ShardContext, surroundings: Surroundings) {
    this.context = context;
    this.#surroundings = surroundings;
    this.#wake = new Wake(context.clock);
    this.#retries = new RetryBook(context.timings);
    this.#tracker = new RecoveryTracker(context.key, context.events);
    this.#orders = new OrderQueue(context.clock, context.timings.orderDeadlineMs, this.#wake);
  }

  get record(): ShardRecord {
    return this.context.keeper.record;
  }

  /** It has been told that the record is not to be believed. */
  get distrustsRecord(): boolean {
    return this.#stop !== null && distrustsRecord({ reason: this.#stop });
  }

  /** The platform saw the record in this version: one that is not believed is read. */
  sawRecord(version: string): void {
    if (!this.#known || version === this.context.keeper.version) return;
    this.#readAgainAtMs = 0;
    this.#wake.notify();
  }

  /** To be called after anything that is observed changed. */
  notify(): void {
    this.#wake.notify();
    if (!this.context.keeper.fresh) return;
    if (this.#electing !== null && this.#candidateGone()) {
      // BecomeLeader would wait for its deadline, the shard with it.
      this.#electing.abort(new Overtaken("the candidate is gone"));
    }
    if (this.#running === null) return;
    const urgent = this.#plan().actions.some(
      (action) => action.kind === "elect" && action.why !== "LeaderLeaving",
    );
    if (urgent) this.#running.abort(new Overtaken("an election overtook this step"));
  }

  #candidateGone(): boolean {
    const { leader } = this.record;
    if (leader === null) return false;
    const reach = this.#surroundings.observe().nodes.get(leader.node)?.reach;
    return reach === "down" || reach === "silent";
  }

  view(): ShardView {
    const observed = this.#observe();
    const view = shardView(this.record, observed, this.#planFor(observed));
    if (this.#invalid === null) return view;
    return { ...view, stop: { reason: "RecordInvalid", message: this.#invalid } };
  }

  /** Elects anew, as is wished. How it went is in the view. */
  preferLeader(wish: LeaderWish): void {
    this.#ordered = wish;
    this.#wake.notify();
  }

  /** Nothing goes on here, and any replica could lead at once. */
  get isAtRest(): boolean {
    const observed = this.#observe();
    const atRest = isAtRest(this.record, observed, this.#planFor(observed));
    return atRest && this.#ordered === null && this.#invalid === null;
  }

  /**
   * Saves the wish for another ensemble; the plan gets there. Throws RangeError or RecordConflict.
   */
  changeEnsemble(desired: readonly string[], signal: AbortSignal): Promise<void> {
    return this.#orders.add(signal, async (bounded) => {
      for (const node of desired) {
        if (this.context.endpoint(node) === null) {
          throw new RangeError(`ensemble: ${node} is not a node of this store`);
        }
      }
      this.#refuseIfDistrusted();
      await this.context.keeper.save(withDesired(this.record, desired), bounded);
    });
  }

  /**
   * Forces a quorum of one survivor. Throws a RangeError that says why it is rejected. Who is
   * stopped is asked when the order's turn comes: it may have waited, and a pod may be back by
   * then.
   */
  forceQuorum(
    order: ForceQuorumOrder,
    isStopped: (node: string, signal: AbortSignal) => Promise<boolean>,
    signal: AbortSignal,
  ): Promise<void> {
    return this.#orders.add(signal, async (bounded) => {
      this.#refuseIfDistrusted();
      const stopped = new Set<string>();
      for (const { node } of this.record.members) {
        if (await isStopped(node, bounded)) stopped.add(node);
      }
      const verdict = judgeForceQuorum(this.record, this.#observe(), stopped, order);
      if (verdict.kind === "rejected") throw new RangeError(verdict.message);
      await this.context.keeper.save(verdict.record, bounded);
      this.#belowFloor = null;
    });
  }

  /** Throws a RangeError while the record is not to be believed: no order may change it then. */
  #refuseIfDistrusted(): void {
    const { stop } = this.#plan();
    if (stop !== null && distrustsRecord(stop)) {
      throw new RangeError(`${stop.reason}: ${stop.message}`);
    }
  }

  /** Runs until `signal` aborts; rejects only for a broken invariant. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, keeper, timings } = this.context;
    while (!signal.aborted) {
      if (!keeper.fresh && !(await this.#refresh(signal))) {
        await pause(clock, timings.retryMaxMs, signal);
        continue;
      }
      const order = this.#orders.take();
      if (order !== null) {
        await order();
        this.#surroundings.recordKnown();
        continue;
      }
      const waitMs = await this.#turn(signal);
      if (waitMs > 0) await this.#wake.wait(waitMs, signal);
      // A quiet belief may be an old one: another coordinator, or a person, changed the record.
      if (clock.monotonicMs() >= this.#readAgainAtMs) await this.#refresh(signal);
    }
  }

  /** One turn: milliseconds to wait for the next unless told of something. */
  async #turn(signal: AbortSignal): Promise<number> {
    const { clock, timings } = this.context;
    const observed = this.#observe();
    const planned = this.#planFor(observed);
    if (await this.#tellStop(planned, signal)) return 0;
    if (planned.stop !== null) {
      // A person may have put another record in place.
      if (!(await this.#refresh(signal))) return timings.resyncMs;
      const again = this.#plan();
      // All that is done under a stop is to open the shard: by what nobody has seen of a node no
      // order could be judged.
      return again.stop === null ? 0 : this.#runDue(again.actions, signal);
    }
    this.#tracker.see(this.record, observed, planned.deferrals, clock.monotonicMs());
    // It could not be met at once, and was meant for a shard at rest: what is uneven is seen again.
    if (this.#ordered?.why === "LeadersUneven" && !isAtRest(this.record, observed, planned)) {
      this.#ordered = null;
    }
    // Nothing that only time changes: with a thousand shards, plans that find nothing are what
    // most of a process would do.
    if (isQuiet(this.record, planned, observed) && this.#ordered === null) {
      return Math.max(1, this.#readAgainAtMs - clock.monotonicMs());
    }
    return this.#runDue(this.#withOrdered(planned), signal);
  }

  /** Does the first of these that is not to wait; milliseconds until the next turn. */
  async #runDue(actions: readonly Action[], signal: AbortSignal): Promise<number> {
    const { clock, timings } = this.context;
    let waitMs = timings.resyncMs;
    for (const action of actions) {
      const left = this.#retries.waitMs(stepName(this.record, action), clock.monotonicMs());
      if (left === 0) {
        await this.#run(action, signal);
        return 0;
      }
      waitMs = Math.min(waitMs, left);
    }
    return waitMs;
  }

  /** A person's wish for another leader is an election like any other, once the shard is steady. */
  #withOrdered(planned: Plan): readonly Action[] {
    if (this.#ordered === null || planned.stop !== null) return planned.actions;
    if (planned.actions.some((action) => action.kind === "elect")) return planned.actions;
    if (judgeLeader(this.record, this.#observe()).state !== "steady") return planned.actions;
    const election = wishedElection(this.record, this.#observe(), this.#ordered);
    return [election, ...planned.actions];
  }

  async #run(action: Action, signal: AbortSignal): Promise<void> {
    const { clock, events, key } = this.context;
    const name = stepName(this.record, action);
    try {
      const succeeded = await this.#perform(action, signal);
      // The settling of a new leader is judged by the plan; its loss must be acted upon at once.
      if (succeeded && action.kind === "elect") this.#retries.forget(name);
      else if (succeeded) this.#retries.succeeded(name, clock.monotonicMs());
      else this.#retries.failed(name, clock.monotonicMs());
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof RecordConflict) {
        // Somebody else is at work: let it finish, or both would only undo each other.
        this.#retries.failed(name, clock.monotonicMs());
        events.emit({ kind: "recordConflict", ...key });
      } else if (!(error instanceof Overtaken)) {
        this.#retries.failed(name, clock.monotonicMs());
        if (action.kind === "openShard") this.#surroundings.refused(action.node, error);
        events.emit({ kind: "stepFailed", ...key, step: name, message: messageOf(error) });
      }
    }
    this.#surroundings.recordKnown();
  }

  async #perform(action: Action, signal: AbortSignal): Promise<boolean> {
    if (action.kind !== "elect") return this.#step(action, signal);
    if (leaderAnswers(action) && !(await this.#couldReplaceLeader(action, signal))) return false;
    return this.#elect(action, signal);
  }

  /**
   * A leader that still holds everything is given up only for a majority that is there, asked just
   * now: a follower wiped a moment ago is not known to be. The wish stays (R16).
   */
  async #couldReplaceLeader(action: ElectAction, signal: AbortSignal): Promise<boolean> {
    const { reachable } = voterReach(this.record, this.#observe());
    const enough = (there: ReadonlySet<string>): boolean =>
      couldElect(this.record, there, new Set(action.exclude === null ? [] : [action.exclude]));
    if (!enough(reachable)) return false;
    return enough(await this.#surroundings.confirm(reachable, enough, signal));
  }

  async #step(action: Step, signal: AbortSignal): Promise<boolean> {
    const { clock, keeper } = this.context;
    const { controller, unlink } = childAbort(signal);
    this.#running = controller;
    const release =
      action.kind === "recover" ? this.#surroundings.claimRecovery(action.node) : () => undefined;
    const committed = committedEntry(keeper.record, this.#observe());
    try {
      const input = { committed, nowMs: clock.nowMs() };
      const result = await runStep(this.context, action, input, controller.signal);
      if (result.confirmedSets !== undefined) this.#confirmedSets = result.confirmedSets;
      this.#surroundings.learned(result);
    } finally {
      this.#running = null;
      release();
      unlink();
    }
    return true;
  }

  async #elect(action: ElectAction, signal: AbortSignal): Promise<boolean> {
    const { clock, events, key } = this.context;
    const beganMs = clock.monotonicMs();
    const prefer = this.#ordered?.prefer ?? null;
    this.#ordered = null;
    const term = this.record.term + 1;
    const { exclude: named, why } = action;
    const isolated = why === "LeaderIsolated";
    const [record, observed] = [this.record, this.#observe()];
    const exclude = this.#leftOut.next({ record, observed, named, isolated, prefer });
    events.emit({ kind: "electionStarted", ...key, term, why: action.why });
    const failed = (message: string): false => {
      const durationMs = clock.monotonicMs() - beganMs;
      events.emit({ kind: "electionFailed", ...key, term, message, durationMs });
      return false;
    };
    const { controller, unlink } = childAbort(signal);
    this.#electing = controller;
    try {
      const request = this.#electionRequest(exclude, prefer);
      const outcome = await runElection(this.context, request, controller.signal);
      if (outcome.kind === "belowFloor") {
        const evidence = voterEvidence(this.record, this.#observe());
        this.#belowFloor = { evidence, best: outcome.best };
      }
      if (outcome.kind !== "elected") return failed(outcome.message);
      this.#electionWon(outcome, term, beganMs);
      return true;
    } catch (error) {
      if (!signal.aborted) failed(messageOf(error));
      throw error;
    } finally {
      this.#electing = null;
      unlink();
    }
  }

  #electionWon(
    outcome: { readonly leader: string; readonly confirmedSets: ConfirmedSets },
    term: number,
    beganMs: number,
  ): void {
    const { clock, events, key } = this.context;
    this.#settle();
    this.#answeredThoughDown = outcome.leader;
    this.#confirmedSets = outcome.confirmedSets;
    this.#belowFloor = null;
    this.#leftOut.won();
    const durationMs = clock.monotonicMs() - beganMs;
    events.emit({ kind: "electionCompleted", ...key, term, leader: outcome.leader, durationMs });
  }

  #electionRequest(exclude: ReadonlySet<string>, prefer: string | null): ElectionRequest {
    const choice = { leaderships: this.#surroundings.leaderships(), prefer, exclude };
    return electionRequest(this.record, this.#observe(), choice);
  }

  #settle(): void {
    this.#settledAtMs = this.context.clock.monotonicMs() + this.context.timings.settleMs;
  }

  /** Tells of a stop and of its end. True when the record turned out to be another: plan anew. */
  async #tellStop(planned: Plan, signal: AbortSignal): Promise<boolean> {
    const { events, key } = this.context;
    const reason = planned.stop?.reason ?? null;
    if (reason === this.#stop) return false;
    // Before such a word is given, the record is read uncached: it may be our belief that is old
    // (R18).
    if (planned.stop !== null) {
      if (!(await this.#refresh(signal))) return true;
      const again = this.#plan().stop;
      if (again?.reason !== reason) return true;
      events.emit({ kind: "stopped", ...key, reason: again.reason, message: again.message });
    } else if (this.#stop !== null) {
      events.emit({ kind: "resumed", ...key, reason: this.#stop });
    }
    this.#stop = reason;
    this.#surroundings.recordKnown();
    return false;
  }

  /** Reads the record again; false when it could not be read or believed. */
  async #refresh(signal: AbortSignal): Promise<boolean> {
    const { clock, events, keeper, key, timings } = this.context;
    this.#readAgainAtMs = clock.monotonicMs() + timings.recordResyncMs;
    try {
      const again = this.#loaded;
      this.#loaded = true;
      const changed = await keeper.refresh(signal);
      // Whoever saved it may be about to tell the leader.
      if (changed && again) this.#settle();
      // That there is none is news, too.
      if (changed || !this.#known) this.#surroundings.recordKnown();
      this.#known = true;
      this.#invalid = null;
      return true;
    } catch (error) {
      if (signal.aborted) return false;
      const message = messageOf(error);
      if (!(error instanceof RecordInvalid)) {
        events.emit({ kind: "stepFailed", ...key, step: "readRecord", message });
      } else if (this.#invalid !== message) {
        this.#invalid = message;
        events.emit({ kind: "stopped", ...key, reason: "RecordInvalid", message });
      }
      return false;
    }
  }

  #plan(): Plan {
    return this.#planFor(this.#observe());
  }

  #planFor(observed: Observed): Plan {
    return plan(this.record, observed, this.context.policy);
  }

  #observe(): Observed {
    const { clock } = this.context;
    const { record } = this;
    const nowMs = clock.monotonicMs();
    const leaderSettling = nowMs < this.#settledAtMs;
    const seen = this.#surroundings.observe();
    const leader = seen.nodes.get(this.#answeredThoughDown ?? "");
    if (!leaderSettling || leader?.reach !== "down") this.#answeredThoughDown = null;
    const nodes =
      this.#answeredThoughDown === null || leader === undefined
        ? seen.nodes
        : new Map([...seen.nodes, [leader.node, { ...leader, reach: "unknown" as const }]]);
    const idle = cannotCommit(record, { nodes });
    // Whoever is cut off can commit nothing either.
    const cutOff = idle && isCutOff(record, { nodes });
    return {
      nodes,
      recoveringNodes: seen.recoveringNodes,
      orderedUids: seen.orderedUids,
      nowMs: clock.nowMs(),
      leaderSettling,
      leaderCutOffMs: this.#cutOff.see(cutOff, record.term, nowMs),
      leaderIdleMs: this.#idle.see(idle, record.term, nowMs),
      confirmedSets: this.#confirmedSets,
      belowFloor: this.#belowFloor,
    };
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
