/** One move under way: replicas are fed, and what they do to each other is carried out. */
import type { Effect, Refusal, Reply } from "../../../sidecar/core/effect.ts";
import type { Input } from "../../../sidecar/core/input.ts";
import type { LogPosition } from "../../../sidecar/protocol/entry.ts";
import { LOG_START } from "../../../sidecar/protocol/entry.ts";
import type { Append, Peer } from "../../../sidecar/protocol/gen/resilver.ts";
import type { ShardRecord } from "../../../operator/core/record.ts";
import type { DurableState, NodeState, NodeStates } from "./node-state.ts";
import { isQuorum } from "../../../operator/core/quorum.ts";
import {
  type Budget,
  entryAt,
  nodeOf,
  positionAt,
  type Stream,
  type World,
  type Write,
} from "./world.ts";

const SHARD = { namespace: "default", shard: 0 };
const STORE_ID = "store";
/** Ids of the streams that carry snapshots lie apart. */
const INSTALL_IDS = 1_000_000;

/** An answer to a call of the coordinator; null: none yet. */
export type Answer = { readonly reply: Reply } | { readonly refusal: Refusal } | null;

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

/** See the file's header. */
export class Draft {
  readonly world: Mutable<World>;
  readonly #states: NodeStates;
  readonly #answers = new Map<number, Answer>();

  constructor(world: World, states: NodeStates) {
    this.world = { ...world };
    this.#states = states;
  }

  node(name: string): NodeState {
    return nodeOf(this.world, name);
  }

  /** Feeds a replica; everything that follows at once is done. The answer is that to `id`. */
  call(name: string, input: Extract<Input, { id: number }>): Answer {
    this.#answers.delete(input.id);
    this.feed(name, input);
    return this.#answers.get(input.id) ?? null;
  }

  /** See {@link call}. A broken assertion is the world's fault from then on. */
  feed(name: string, input: Input): readonly Effect[] {
    try {
      const { state, effects } = this.#states.step(this.node(name), input);
      this.#put(state);
      for (const effect of effects) this.#carryOut(name, effect);
      this.#push(name);
      return effects;
    } catch (error) {
      this.world.fault ||= `assertion: ${name}: ${(error as Error).message}`;
      return [];
    }
  }

  save(record: ShardRecord): void {
    if (record === this.world.record) return;
    this.world.record = { ...record, generation: this.world.record.generation + 1 };
  }

  spend(what: keyof Budget): void {
    this.world.left = { ...this.world.left, [what]: this.world.left[what] - 1 };
  }

  /** The process on a node ends, and another begins over this disk. */
  restart(name: string, durable: DurableState): void {
    const { world } = this;
    const [own, others] = [
      world.streams.filter(({ leader, follower }) => leader === name || follower === name),
      world.streams.filter(({ leader, follower }) => leader !== name && follower !== name),
    ];
    world.streams = others;
    world.proposed = world.proposed.filter(({ leader }) => leader !== name);
    this.#put(this.#states.begin(name, durable));
    for (const stream of own) {
      if (stream.leader === name) this.#hangUp(stream);
      else this.#closed(stream, null);
    }
  }

  /** The next message of a stream arrives. */
  deliver(stream: Stream): void {
    const [message, ...down] = stream.down;
    if (message === undefined) return;
    this.#update({ ...stream, down });
    switch (message.kind) {
      case "open":
        return this.#open(stream);
      case "append":
        this.feed(stream.follower, { kind: "append", streamId: stream.id, append: message.append });
        return;
      case "snapshot":
        return this.#sendSnapshot(stream);
    }
  }

  /** All answers of a stream arrive. */
  answer(stream: Stream): void {
    this.#update({ ...stream, up: [] });
    for (const { offset, round, synced, mismatch, noSpace, entriesRefused } of stream.up) {
      const ack = { ackOffset: offset, round, synced, mismatch, noSpace, entriesRefused };
      this.feed(stream.leader, { kind: "cursorAck", cursorId: stream.cursorId, ...ack });
    }
  }

  #put(state: NodeState): void {
    this.world.nodes = new Map(this.world.nodes).set(state.node, state);
  }

  #update(stream: Stream): void {
    this.world.streams = this.world.streams.map((one) => (one.id === stream.id ? stream : one));
  }

  #find(id: number): Stream | undefined {
    return this.world.streams.find((stream) => stream.id === id);
  }

  #ofCursor(leader: string, cursorId: number): Stream | undefined {
    return this.world.streams.find(
      (stream) => stream.leader === leader && stream.cursorId === cursorId,
    );
  }

  #carryOut(name: string, effect: Effect): void {
    const { world } = this;
    switch (effect.kind) {
      case "reply":
        this.#answers.set(effect.id, { reply: effect.reply });
        return this.#replied(name, effect.id, effect.reply);
      case "refuse":
        this.#answers.set(effect.id, { refusal: effect.refusal });
        return;
      case "openCursor":
        return this.#dial(name, effect);
      case "closeCursor": {
        const stream = this.#ofCursor(name, effect.cursorId);
        if (stream === undefined) return;
        world.streams = world.streams.filter((one) => one !== stream);
        return this.#hangUp(stream);
      }
      case "streamFrom":
        return this.#change(name, effect.cursorId, (stream) => ({ ...stream, next: effect.next }));
      case "heartbeat":
        return this.#change(name, effect.cursorId, (stream) => {
          const append = this.#append(stream, effect.previous, null, effect);
          return { ...stream, down: [...stream.down, { kind: "append", append }] };
        });
      case "startSnapshot":
        return this.#change(name, effect.cursorId, (stream) => {
          return { ...stream, next: null, down: [...stream.down, { kind: "snapshot" }] };
        });
      case "ack": {
        const stream = this.#find(effect.streamId);
        if (stream !== undefined) this.#update({ ...stream, up: [...stream.up, effect] });
        return;
      }
      case "closeStream": {
        const stream = this.#find(effect.streamId);
        if (stream === undefined) return;
        world.streams = world.streams.filter((one) => one !== stream);
        return this.#closed(stream, effect.refusal);
      }
      default:
        return this.#told(name, effect);
    }
  }

  #told(name: string, effect: Effect): void {
    const { world } = this;
    if (effect.kind === "fault") world.fault ||= `I9: ${name} stops: ${effect.message}`;
    if (effect.kind === "stepDown") {
      world.proposed = world.proposed.filter(({ leader }) => leader !== name);
    }
    if (effect.kind === "proposed") {
      const { offset, term, crc } = positionAt(this.node(name), effect.offset) ?? LOG_START;
      world.proposed = [...world.proposed, { leader: name, offset, term, crc }];
    }
    if (effect.kind === "apply") {
      const done = world.proposed.filter(
        (one) => one.leader === name && one.offset <= effect.offset,
      );
      world.proposed = world.proposed.filter((one) => !done.includes(one));
      const writes = done.map(({ offset, term, crc }) => ({ offset, term, crc }));
      world.acknowledged = [...world.acknowledged, ...writes];
      for (const write of writes) this.#checkCopies(write);
    }
  }

  /**
   * I5: what a client is told to be safe is durable on a majority of those that vote by the record.
   * One whose disk was lost since may have held it.
   */
  #checkCopies({ offset, crc }: Write): void {
    const { record } = this.world;
    const holders = record.members.filter(({ node, replicaUid, role, reason }) => {
      const { view } = this.node(node);
      // It held it before its disk was set back.
      if (role === "learner" && reason === "RolledBack") return true;
      if (role !== "voter") return false;
      if (view.uid !== replicaUid || view.boot > 1) return true;
      const held = entryAt(this.node(node), offset);
      return held === null
        ? offset <= view.base.offset
        : held.crc === crc && offset <= view.durable;
    });
    const names = new Set(holders.map(({ node }) => node));
    // A leader that was not told of a joint state yet asks the old set alone.
    if (isQuorum([record.ensemble], names)) return;
    this.world.fault ||= `I5: write ${offset} is acknowledged with copies on ${[...names].join()}`;
  }

  /** Answers to NewTerm bear the term's number: whichever election asks for it takes them. */
  #replied(name: string, id: number, reply: Reply): void {
    const { election, record, ensembleAsked } = this.world;
    if (reply.kind === "updateEnsemble") this.world.confirmed = ensembleAsked;
    // Its barrier was committed under the sets that it was sent.
    if (reply.kind === "becomeLeader") this.world.confirmed = ensembleAsked;
    if (reply.kind !== "newTerm" || election === null || id !== record.term) return;
    if (!election.asked.includes(name)) return;
    const { replicaUid, bootCounter, headEntryId, previousTerm } = reply.response;
    const head = headEntryId ?? { term: -1, offset: -1 };
    const answer = { node: name, replicaUid, bootCounter, head, previousTerm };
    this.world.election = { ...election, replies: [...election.replies, answer] };
  }

  #dial(name: string, effect: Extract<Effect, { kind: "openCursor" }>): void {
    const { boot } = this.node(name).view;
    const place = [...this.world.nodes.keys()].indexOf(name);
    const { cursorId, node: follower, uid } = effect;
    const stream: Stream = {
      id: (place * 20 + boot) * 100 + cursorId,
      leader: name,
      cursorId,
      follower,
      uid,
      open: false,
      next: null,
      down: [{ kind: "open" }],
      up: [],
    };
    this.world.streams = [...this.world.streams, stream];
  }

  #open(stream: Stream): void {
    const { id: streamId, leader, cursorId, follower } = stream;
    this.feed(follower, { kind: "streamOpened", streamId, peer: this.#peer(stream) });
    const taken = this.#find(streamId);
    if (taken === undefined) return;
    this.#update({ ...taken, open: true });
    this.feed(leader, { kind: "cursorOpened", cursorId });
    this.#agree(streamId);
  }

  /** Question and answer about where the logs agree, in one: neither changes a log. */
  #agree(id: number): void {
    for (let stream = this.#find(id); stream !== undefined; stream = this.#find(id)) {
      const [message] = stream.down;
      if (message?.kind === "append" && message.append.entry === undefined) this.deliver(stream);
      else if (stream.up.length > 0) this.answer(stream);
      else return;
    }
  }

  /** A whole transfer at once: what a new term does to one that goes on is the simulator's. */
  #sendSnapshot(stream: Stream): void {
    const { leader, follower, cursorId } = stream;
    const nowMs = 0;
    const base = positionAt(this.node(leader), this.node(leader).view.applied);
    const streamId = stream.id + INSTALL_IDS;
    const began = this.feed(follower, { kind: "installBegin", streamId, peer: this.#peer(stream) });
    const accepted = began.some(({ kind }) => kind === "acceptInstall");
    if (base === null || !accepted) {
      this.feed(leader, {
        kind: "snapshotFailed",
        cursorId,
        reason: "busy",
        refused: false,
        nowMs,
      });
      return;
    }
    this.feed(follower, { kind: "installed", streamId, base });
    this.feed(leader, { kind: "snapshotDone", cursorId, base });
    this.#agree(stream.id);
  }

  #hangUp({ follower, id, open }: Stream): void {
    if (open) this.feed(follower, { kind: "streamClosed", streamId: id });
  }

  #closed({ leader, cursorId }: Stream, refusal: Refusal | null): void {
    const other = refusal?.reason === "NODE_IS_NOT_MEMBER" ? refusal.metadata["observedUid"] : null;
    const reason = refusal?.message ?? "broken";
    const observedUid = other ?? null;
    this.feed(leader, { kind: "cursorClosed", cursorId, reason, observedUid, nowMs: 0 });
  }

  #change(name: string, cursorId: number, by: (stream: Stream) => Stream): void {
    const stream = this.#ofCursor(name, cursorId);
    if (stream !== undefined) this.#update(by(stream));
  }

  /** What the leader's log has and a stream has not been given yet is sent. */
  #push(name: string): void {
    const state = this.node(name);
    const last = state.view.entries.at(-1)?.offset ?? state.view.base.offset;
    for (const { id } of this.world.streams) {
      for (let stream = this.#find(id); stream?.leader === name; stream = this.#find(id)) {
        const { next, cursorId } = stream;
        if (next === null || next > last) break;
        const previous = positionAt(state, next - 1) ?? (next === 0 ? LOG_START : null);
        const cursor = state.view.leading?.cursors.find((one) => one.id === cursorId);
        if (previous === null || cursor === undefined) break;
        const { commit: commitOffset } = state.view;
        const sent = { commitOffset, round: 0, targetVotes: cursor.voter };
        const append = this.#append(stream, previous, next, sent);
        this.#update({
          ...stream,
          next: next + 1,
          down: [...stream.down, { kind: "append", append }],
        });
      }
    }
  }

  #append(
    { leader, uid }: Stream,
    previous: LogPosition,
    offset: number | null,
    { commitOffset, round, targetVotes }: Pick<Append, "commitOffset" | "round" | "targetVotes">,
  ): Append {
    const { view } = this.node(leader);
    const entry = view.entries.find((one) => one.offset === offset);
    return {
      term: view.leading?.term ?? -1,
      entry: entry === undefined ? undefined : { ...entry, timestamp: entry.timestampMs },
      commitOffset,
      cumulativeAcksSupported: true,
      leaderUid: view.uid,
      targetUid: uid,
      previous,
      entryCrc: entry?.crc ?? 0,
      round,
      targetVotes,
    };
  }

  #peer({ leader, uid }: Stream): Peer {
    const { view } = this.node(leader);
    const { generation } = this.world.record;
    return {
      ...SHARD,
      term: view.leading?.term ?? -1,
      leaderUid: view.uid,
      targetUid: uid,
      storeId: STORE_ID,
      generation: Math.min(generation, view.promised.generation),
      majorityHolds: false,
    };
  }
}
