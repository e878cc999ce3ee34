/**
 * One replica as the model sees it: the core that ships, over a disk of a few entries. A core
 * cannot be copied, so a state is what it started from and what it was fed since; states that look
 * alike are one, and each step of a state is taken once.
 */
import type { Effect, PromisedState } from "../../../sidecar/core/effect.ts";
import type { Input } from "../../../sidecar/core/input.ts";
import { LogIndex, type TermStart } from "../../../sidecar/core/log-index.ts";
import { Replica } from "../../../sidecar/core/replica.ts";
import { LOG_START, type LogEntry, type LogPosition } from "../../../sidecar/protocol/entry.ts";
import { statusName } from "../../../sidecar/protocol/status.ts";

/** What a process starts from. */
export interface DurableState {
  readonly uid: string;
  readonly boot: number;
  readonly promised: PromisedState;
  /** Position before the first entry: that of a snapshot, or the log's start. */
  readonly base: LogPosition;
  readonly entries: readonly LogEntry[];
}

/** The leader's side of one follower. */
export interface CursorView {
  readonly id: number;
  readonly node: string;
  readonly uid: string;
  readonly voter: boolean;
  readonly state: string;
  readonly ackOffset: number;
  readonly reachedTarget: boolean;
}

/** All that is seen of a replica. */
export interface NodeView {
  readonly uid: string;
  readonly boot: number;
  readonly promised: PromisedState;
  readonly status: string;
  readonly base: LogPosition;
  readonly entries: readonly LogEntry[];
  /** Highest offset that survives a loss of power. */
  readonly durable: number;
  readonly commit: number;
  readonly applied: number;
  /** Epoch of the sync that is owed; null: none is. */
  readonly syncEpoch: number | null;
  readonly leading: {
    readonly term: number;
    readonly serving: boolean;
    readonly cursors: readonly CursorView[];
  } | null;
}

/** A state of one replica. */
export interface NodeState {
  readonly id: number;
  readonly node: string;
  readonly view: NodeView;
  readonly began: DurableState;
  readonly inputs: readonly Input[];
  readonly steps: Map<string, Stepped>;
}

/** What one input leads to. */
export interface Stepped {
  readonly state: NodeState;
  /** Those that others see; the disk's are done. */
  readonly effects: readonly Effect[];
}

/** How disks behave. */
export interface DiskHabits {
  /** Every sync is done at once: when matters only to those who can crash. */
  readonly syncsAtOnce: boolean;
  /** Says that the log is synced at once, and syncs it later. */
  readonly liesAboutSync: boolean;
  /** Says that a promise is saved, and forgets it at a crash. */
  readonly forgetsPromises: boolean;
}

const OPTIONS = {
  heartbeatMs: Number.POSITIVE_INFINITY,
  reconnectMinMs: 0,
  reconnectMaxMs: 0,
  snapshotRetryMinMs: 0,
  snapshotRetryMaxMs: 0,
  // Whoever is empty is sent a snapshot as soon as anything is committed.
  tailEntriesMax: 1,
  pendingReadsMax: 10,
};
const STORE = "store";
/** Nothing was ever promised. */
export const NO_PROMISE: PromisedState = {
  term: -1,
  previousTerm: -1,
  rolledBack: false,
  generation: 0,
  lossEpoch: 0,
  member: false,
  enrolled: null,
};

/** A core with its disk, replayed to one state. */
class Process {
  readonly replica: Replica;
  readonly #habits: DiskHabits;
  readonly #began: DurableState;
  promised: PromisedState;
  #promisedBefore: PromisedState;
  base: LogPosition;
  entries: LogEntry[];
  durable: number;
  syncEpoch: number | null = null;
  /** What the core keeps to itself, followed from outside: it belongs to the state. */
  readonly #hidden = {
    fenceOwed: false,
    mayLead: -1,
    streamId: -1,
    matched: -1,
    /** Voter sets that the leader counts by, and the control entries it owes an answer for. */
    sets: "",
    waiters: [] as readonly string[],
  };

  constructor(node: string, began: DurableState, habits: DiskHabits) {
    const { uid, boot, promised, base, entries } = began;
    this.#began = began;
    this.#habits = habits;
    this.promised = promised;
    this.#promisedBefore = promised;
    this.base = base;
    this.entries = [...entries];
    this.durable = entries.at(-1)?.offset ?? base.offset;
    const initial = {
      node,
      storeId: STORE,
      uid,
      bootCounter: boot,
      formattedBefore: false,
      promised,
      log: logIndex(base, entries),
      applied: base.offset,
    };
    this.replica = new Replica(initial, OPTIONS);
  }

  feed(input: Input): readonly Effect[] {
    const seen: Effect[] = [];
    const queue: Input[] = [input];
    for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
      if (next.kind === "synced") this.#sync();
      if (next.kind === "installed") this.#install(next.base);
      const effects = this.replica.step(next);
      this.#followFence(next, effects);
      this.#followLeader(next, effects);
      this.#followStream(next, effects);
      for (const effect of effects) this.#perform(effect, queue, seen);
    }
    return seen;
  }

  view(): NodeView {
    const { state, leader } = this.replica;
    const cursors = [...(leader?.cursors.values() ?? [])].map(
      ({ id, node, uid, voter, state: at, ackOffset, reachedTarget }): CursorView => {
        return { id, node, uid, voter, state: at, ackOffset, reachedTarget };
      },
    );
    return {
      uid: state.uid,
      boot: state.bootCounter,
      promised: this.promised,
      status: statusName(state.status),
      base: this.base,
      entries: this.entries,
      durable: this.durable,
      commit: state.commit,
      applied: state.applied,
      syncEpoch: this.syncEpoch,
      leading: leader === null ? null : { term: leader.term, serving: leader.serving, cursors },
    };
  }

  /** Two processes of which this is equal go on alike. */
  key(): string {
    const { state, leader, follower } = this.replica;
    const cursors = [...(leader?.cursors.values() ?? [])].map((cursor) => [
      ...[cursor.id, cursor.node, cursor.uid, cursor.voter, cursor.state, cursor.ackOffset],
      ...[cursor.target?.offset, cursor.lastPushed, cursor.probe?.offset, cursor.observedUid],
      ...[cursor.matched?.offset, cursor.regressed, cursor.snapshotOffset],
      leader?.tracker.ackedBy(cursor.node),
    ]);
    const lead =
      leader === null
        ? null
        : [
            leader.term,
            leader.serving,
            leader.barrier.offset,
            cursors,
            leader.tracker.quorumOffset(),
          ];
    return JSON.stringify([
      ...[state.uid, state.bootCounter, state.status, state.promised, this.promised],
      this.#promisedBefore.term,
      ...[this.base.offset, this.base.crc, this.entries.map(({ crc }) => crc), this.durable],
      ...[state.synced, state.commit, state.applied, state.logEpoch, this.syncEpoch],
      ...[follower.leaderUid, follower.votes, follower.installing, this.#hidden, lead],
    ]);
  }

  /** What a crash leaves. */
  afterCrash(losesUnsynced: boolean): DurableState {
    const { uid, boot } = this.#began;
    const entries = losesUnsynced
      ? this.entries.filter(({ offset }) => offset <= this.durable)
      : this.entries;
    const promised = this.#habits.forgetsPromises ? this.#promisedBefore : this.promised;
    return { uid, boot: boot + 1, promised, base: this.base, entries };
  }

  #perform(effect: Effect, queue: Input[], seen: Effect[]): void {
    switch (effect.kind) {
      case "appendLog":
        this.entries.push(effect.entry);
        return;
      case "truncateLog":
        this.entries = this.entries.filter(({ offset }) => offset <= effect.lastOffset);
        this.durable = Math.min(this.durable, effect.lastOffset);
        return;
      case "syncLog":
        this.syncEpoch = effect.logEpoch;
        if (this.#habits.liesAboutSync || this.#habits.syncsAtOnce) {
          const offset = this.replica.state.log.last.offset;
          queue.push({ kind: "synced", offset, logEpoch: effect.logEpoch });
        }
        return;
      case "persistMeta":
        this.#promisedBefore = this.promised;
        this.promised = effect.promised;
        queue.push({ kind: "metaPersisted", token: effect.token });
        return;
      case "apply":
        queue.push({ kind: "applied", offset: effect.offset });
        seen.push(effect);
        return;
      default:
        seen.push(effect);
    }
  }

  #sync(): void {
    this.syncEpoch = null;
    if (!this.#habits.liesAboutSync) this.durable = this.entries.at(-1)?.offset ?? this.base.offset;
  }

  #install(base: LogPosition): void {
    this.base = base;
    this.entries = [];
    this.durable = base.offset;
  }

  /** Mirrors the private fields of `Replica` that later steps depend on. */
  #followFence(input: Input, effects: readonly Effect[]): void {
    const hidden = this.#hidden;
    const { term } = this.replica.state.promised;
    if (input.kind === "newTerm" && term === input.request.term) {
      Object.assign(hidden, { fenceOwed: true, mayLead: -1 });
    }
    for (const effect of effects) {
      if (effect.kind !== "reply" || effect.reply.kind !== "newTerm") continue;
      Object.assign(hidden, { fenceOwed: false, mayLead: term });
    }
    if (input.kind === "becomeLeader" || input.kind === "enrol") hidden.mayLead = -1;
  }

  /** Mirrors those of `Leader` and its tracker. */
  #followLeader(input: Input, effects: readonly Effect[]): void {
    const hidden = this.#hidden;
    for (const effect of effects) {
      if (effect.kind === "stepDown") Object.assign(hidden, { sets: "", waiters: [] });
    }
    if (input.kind === "becomeLeader" || input.kind === "updateEnsemble") {
      const barrier = effects.find((effect) => effect.kind === "appendLog");
      if (barrier === undefined) return;
      hidden.sets = JSON.stringify(input.request.voterSets.map(({ nodes }) => nodes));
      hidden.waiters = [...hidden.waiters, `${input.id} ${barrier.entry.offset}`];
    }
    const answered = effects.flatMap((effect) =>
      effect.kind === "reply" ? [waiterOf(effect)] : [],
    );
    hidden.waiters = hidden.waiters.filter((waiter) => !answered.includes(waiter));
  }

  /** Mirrors those of `Follower`. */
  #followStream(input: Input, effects: readonly Effect[]): void {
    const hidden = this.#hidden;
    const closed = (id: number): boolean =>
      effects.some((effect) => effect.kind === "closeStream" && effect.streamId === id);
    if (input.kind === "streamOpened" && !closed(input.streamId)) {
      Object.assign(hidden, { streamId: input.streamId, matched: -1 });
    }
    if (hidden.streamId !== -1 && closed(hidden.streamId)) hidden.streamId = -1;
    if (input.kind === "streamClosed" && input.streamId === hidden.streamId) hidden.streamId = -1;
    if (input.kind === "installed") hidden.matched = -1;
    if (input.kind !== "append" || input.streamId !== hidden.streamId) return;
    const { previous = LOG_START, entry } = input.append;
    const named = entry?.offset ?? previous.offset;
    const own = this.replica.state.log.positionAt(named);
    if (own !== null) hidden.matched = Math.max(hidden.matched, named);
  }
}

/** Makes states, each only once. One for each search: rules may be switched off in it. */
export class NodeStates {
  readonly #habits: DiskHabits;
  readonly #known = new Map<string, NodeState>();

  constructor(habits: DiskHabits) {
    this.#habits = habits;
  }

  get size(): number {
    return this.#known.size;
  }

  /** A process that has just begun. */
  begin(node: string, began: DurableState): NodeState {
    return this.#intern(node, began, [], new Process(node, began, this.#habits));
  }

  /** Throws what the core throws: a broken assertion. */
  step(from: NodeState, input: Input): Stepped {
    const text = JSON.stringify(input);
    const known = from.steps.get(text);
    if (known !== undefined) return known;
    const process = this.#replay(from);
    const effects = process.feed(input);
    const state = this.#intern(from.node, from.began, [...from.inputs, input], process);
    const stepped = { state, effects };
    from.steps.set(text, stepped);
    return stepped;
  }

  /** What a crash leaves of a state. */
  afterCrash(from: NodeState, losesUnsynced: boolean): DurableState {
    return this.#replay(from).afterCrash(losesUnsynced);
  }

  #replay({ node, began, inputs }: NodeState): Process {
    const process = new Process(node, began, this.#habits);
    for (const input of inputs) process.feed(input);
    return process;
  }

  #intern(
    node: string,
    began: DurableState,
    inputs: readonly Input[],
    process: Process,
  ): NodeState {
    const key = `${node} ${process.key()}`;
    const known = this.#known.get(key);
    if (known !== undefined) return known;
    const id = this.#known.size;
    const state = { id, node, view: process.view(), began, inputs, steps: new Map() };
    this.#known.set(key, state);
    return state;
  }
}

/** The control entry that an answer was waiting for, as {@link Process} notes it; "": none. */
function waiterOf({ id, reply }: Extract<Effect, { kind: "reply" }>): string {
  if (reply.kind === "becomeLeader") return `${id} ${reply.response.barrier?.offset}`;
  return reply.kind === "updateEnsemble" ? `${id} ${reply.response.committed?.offset}` : "";
}

function logIndex(base: LogPosition, entries: readonly LogEntry[]): LogIndex {
  const runs: TermStart[] = [];
  for (const { term, offset } of entries) {
    if (runs.at(-1)?.term !== term) runs.push({ term, offset });
  }
  return new LogIndex(base, Uint32Array.from(entries.map(({ crc }) => crc)), runs);
}
