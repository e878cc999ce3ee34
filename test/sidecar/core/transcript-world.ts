import { Replica } from "../../../sidecar/core/replica.ts";
import type { Effect, PromisedState } from "../../../sidecar/core/effect.ts";
import type { Input } from "../../../sidecar/core/input.ts";
import { LogIndex } from "../../../sidecar/core/log-index.ts";
import type { LogEntry, LogPosition } from "../../../sidecar/protocol/entry.ts";
import { MemberRole } from "../../../sidecar/protocol/gen/resilver.ts";
import type { Append, Member, Peer } from "../../../sidecar/protocol/gen/resilver.ts";
import { statusName } from "../../../sidecar/protocol/status.ts";
import { CORE_OPTIONS } from "./core-options.ts";

/** One replica of a transcript: its core, and what a disk would hold for it. */
interface Node {
  readonly name: string;
  uid: string;
  core: Replica;
  entries: Map<number, LogEntry>;
  /** What survives a restart. */
  durable: { promised: PromisedState; last: number; snapshot: LogPosition | null };
  bootCounter: number;
  saves: { token: number; promised: PromisedState }[];
  syncEpoch: number | null;
}

/** A message between two replicas, in the order of its link. */
interface Message {
  readonly from: string;
  readonly to: string;
  readonly text: string;
  readonly arrive: () => void;
}

/** A stream from a leader's cursor to a follower. */
interface Link {
  readonly leader: string;
  readonly follower: string;
  readonly cursorId: number;
  readonly streamId: number;
  readonly uid: string;
  next: number | null;
  open: boolean;
}

const NOTHING: PromisedState = {
  term: -1,
  previousTerm: -1,
  rolledBack: false,
  generation: 0,
  lossEpoch: 0,
  member: false,
  enrolled: null,
};

/**
 * A few cores, connected by queues that the transcript empties when it says so. It performs effects
 * as the real driver does, but completes a save, a sync or a delivery only on command.
 */
export class World {
  readonly nodes = new Map<string, Node>();
  readonly #messages: Message[] = [];
  readonly #links: Link[] = [];
  readonly #copies = new Map<string, Pick<Node, "durable" | "entries" | "bootCounter">>();
  #lines: string[] = [];
  #nextStream = 1;
  #nextId = 1;
  nowMs = 1000;

  takeLines(): string[] {
    const lines = this.#lines;
    this.#lines = [];
    return lines;
  }

  log(text: string): void {
    this.#lines.push(text);
  }

  add(name: string, uid: string, member: boolean): void {
    const durable = { promised: { ...NOTHING, member }, last: -1, snapshot: null };
    this.nodes.set(name, this.#start(name, uid, durable, new Map(), 1));
  }

  node(name: string): Node {
    const node = this.nodes.get(name);
    if (node === undefined) throw new Error(`no replica ${name}`);
    return node;
  }

  nextId(): number {
    return this.#nextId++;
  }

  /** The process dies and starts again over what was durable. */
  restart(name: string): void {
    const { uid, durable, entries, bootCounter } = this.node(name);
    this.#cutLinks(name);
    const kept = new Map([...entries].filter(([offset]) => offset <= durable.last));
    this.nodes.set(name, this.#start(name, uid, durable, kept, bootCounter + 1));
  }

  /** A copy of the volume, to which `rollBack` sets it back. */
  copyVolume(name: string): void {
    const { durable, entries, bootCounter } = this.node(name);
    this.#copies.set(name, { durable: { ...durable }, entries: new Map(entries), bootCounter });
  }

  rollBack(name: string): void {
    const copy = this.#copies.get(name);
    if (copy === undefined) throw new Error(`no copy of ${name}`);
    Object.assign(this.node(name), { ...copy, durable: { ...copy.durable } });
    this.restart(name);
  }

  /** The disk is lost; the replica comes back as another one. */
  wipe(name: string, uid: string): void {
    this.#cutLinks(name);
    this.add(name, uid, false);
  }

  step(name: string, input: Input): void {
    const node = this.node(name);
    for (const effect of node.core.step(input)) this.#perform(node, effect);
    this.#pump();
  }

  persist(name: string): boolean {
    const node = this.node(name);
    const saves = node.saves.splice(0);
    for (const { token, promised } of saves) {
      node.durable.promised = promised;
      this.step(name, { kind: "metaPersisted", token });
    }
    return saves.length > 0;
  }

  sync(name: string): boolean {
    const node = this.node(name);
    if (node.syncEpoch === null) return false;
    const logEpoch = node.syncEpoch;
    node.syncEpoch = null;
    const { last } = node.core.state.log;
    node.durable.last = last.offset;
    this.step(name, { kind: "synced", offset: last.offset, logEpoch });
    return true;
  }

  /** Delivers queued messages of one link (or all), oldest first, until none is left. */
  deliver(from: string | null, to: string | null, quiet: boolean): boolean {
    let any = false;
    for (;;) {
      const index = this.#messages.findIndex(
        (one) => (from === null || one.from === from) && (to === null || one.to === to),
      );
      const [message] = index < 0 ? [] : this.#messages.splice(index, 1);
      if (message === undefined) return any;
      any = true;
      if (!quiet) this.log(`${message.from}->${message.to} ${message.text}`);
      message.arrive();
    }
  }

  drop(from: string, to: string): void {
    const kept = this.#messages.filter((one) => one.from !== from || one.to !== to);
    this.log(`dropped ${this.#messages.length - kept.length}`);
    this.#messages.splice(0, this.#messages.length, ...kept);
  }

  /** Everything completes until nothing moves any more. */
  settle(): void {
    for (let moved = true; moved; ) {
      moved = this.deliver(null, null, true);
      for (const name of this.nodes.keys()) {
        moved = this.persist(name) || moved;
        moved = this.sync(name) || moved;
      }
    }
  }

  /** A snapshot transfer that the leader's core asked for happens at once. */
  installSnapshot(leaderName: string, followerName: string): void {
    const leader = this.node(leaderName);
    const cursor = leader.core.leader?.cursors.get(followerName);
    if (cursor?.state !== "snapshot") throw new Error(`${leaderName} sends no snapshot there`);
    const base = leader.core.state.log.positionAt(leader.core.state.applied);
    if (base === null) throw new Error("nothing applied");
    const streamId = this.#nextStream++;
    const peer = this.#peer(leader, cursor.uid);
    this.step(followerName, { kind: "installBegin", streamId, peer });
    const follower = this.node(followerName);
    if (!follower.core.follower.installing) return;
    follower.entries.clear();
    follower.durable.snapshot = base;
    follower.durable.last = base.offset;
    this.step(followerName, { kind: "installed", streamId, base });
    this.step(leaderName, { kind: "snapshotDone", cursorId: cursor.id, base });
  }

  member(text: string): Member {
    const [node = "", role = "voter", target] = text.split(":");
    const roles = { voter: MemberRole.VOTER, learner: MemberRole.LEARNER } as const;
    return {
      node,
      replicaUid: this.node(node).uid,
      role: roles[role as "voter"],
      internalAddress: node,
      publicAddress: node,
      head: undefined,
      target: target === undefined ? undefined : { term: 0, offset: Number(target), crc: 0 },
    };
  }

  status(): void {
    for (const { name, uid, core } of this.nodes.values()) {
      const { state } = core;
      const head = `${state.log.last.term}:${state.log.last.offset}`;
      this.log(
        `${name} uid=${uid} ${statusName(state.status)} term=${state.promised.term} head=${head} ` +
          `synced=${state.synced} commit=${state.commit} applied=${state.applied} log=${this.#values(name)}`,
      );
    }
  }

  #values(name: string): string {
    const node = this.node(name);
    const { base, last } = node.core.state.log;
    const values: string[] = base.offset >= 0 ? [`snapshot(${base.offset})`] : [];
    for (let offset = base.offset + 1; offset <= last.offset; offset++) {
      const entry = node.entries.get(offset);
      const text = new TextDecoder().decode(entry?.value);
      values.push(text.startsWith("v=") ? text.slice(2) : "-");
    }
    return `[${values.join(" ")}]`;
  }

  #start(
    name: string,
    uid: string,
    durable: Node["durable"],
    entries: Map<number, LogEntry>,
    bootCounter: number,
  ): Node {
    const log = new LogIndex(durable.snapshot ?? undefined);
    for (const { term, offset, crc } of entries.values()) log.append({ term, offset, crc });
    const core = new Replica(
      {
        node: name,
        storeId: "store",
        uid,
        bootCounter,
        formattedBefore: durable.promised.member,
        promised: durable.promised,
        log,
        applied: durable.snapshot?.offset ?? -1,
      },
      CORE_OPTIONS,
    );
    return { name, uid, core, entries, durable, bootCounter, saves: [], syncEpoch: null };
  }

  #perform(node: Node, effect: Effect): void {
    switch (effect.kind) {
      case "appendLog":
        node.entries.set(effect.entry.offset, effect.entry);
        return;
      case "truncateLog":
        for (const offset of node.entries.keys()) {
          if (offset > effect.lastOffset) node.entries.delete(offset);
        }
        node.durable.last = Math.min(node.durable.last, effect.lastOffset);
        this.log(`${node.name}: cuts its log after ${effect.lastOffset}`);
        return;
      case "syncLog":
        node.syncEpoch = effect.logEpoch;
        return;
      case "persistMeta":
        node.saves.push({ token: effect.token, promised: effect.promised });
        return;
      case "apply":
        node.core.step({ kind: "applied", offset: effect.offset });
        return;
      case "ack":
        this.#answer(node, effect);
        return;
      case "closeStream":
        this.#closeStream(node, effect);
        return;
      default:
        this.#performLeader(node, effect);
    }
  }

  #performLeader(node: Node, effect: Effect): void {
    switch (effect.kind) {
      case "openCursor":
        this.#open(node, effect);
        return;
      case "closeCursor":
        this.#cut((link) => link.leader === node.name && link.cursorId === effect.cursorId);
        return;
      case "streamFrom": {
        const link = this.#link(node.name, effect.cursorId);
        if (link !== undefined) link.next = effect.next;
        return;
      }
      case "holdStream": {
        const link = this.#link(node.name, effect.cursorId);
        if (link !== undefined) link.next = null;
        return;
      }
      case "heartbeat":
        this.#send(node, effect.cursorId, `heartbeat after ${effect.previous.offset}`, {
          ...frame(node, effect.previous, effect.commitOffset, effect.round),
          targetVotes: effect.targetVotes,
        });
        return;
      case "reply":
        this.log(`${node.name}: reply ${effect.reply.kind} ${JSON.stringify(replyText(effect))}`);
        return;
      case "refuse":
        this.log(`${node.name}: refuses: ${effect.refusal.reason}: ${effect.refusal.message}`);
        return;
      case "proposed":
        this.log(`${node.name}: #${effect.id} is offset ${effect.offset}`);
        return;
      case "releaseReads":
        this.log(`${node.name}: serves reads ${effect.requestIds.join(",")} at ${effect.offset}`);
        return;
      default:
        this.log(`${node.name}: ${effect.kind}${"message" in effect ? `: ${effect.message}` : ""}`);
    }
  }

  #open(node: Node, effect: Effect & { kind: "openCursor" }): void {
    const { cursorId, node: follower, uid } = effect;
    const streamId = this.#nextStream++;
    const link = { leader: node.name, follower, cursorId, streamId, uid, next: null, open: true };
    this.#links.push(link);
    const peer = this.#peer(node, uid);
    this.#post(node.name, follower, `opens a stream to ${uid}`, () => {
      if (link.open) this.step(follower, { kind: "streamOpened", streamId, peer });
    });
    // The core is told after the effects of its step.
    this.#post(node.name, node.name, "stream is open", () => {
      if (link.open) this.step(node.name, { kind: "cursorOpened", cursorId });
    });
  }

  #answer(node: Node, effect: Effect & { kind: "ack" }): void {
    const link = this.#links.find((one) => one.streamId === effect.streamId && one.open);
    if (link === undefined) return;
    const { offset: ackOffset, streamId: _stream, ...news } = effect;
    const { synced, round, mismatch, noSpace, entriesRefused } = news;
    const said =
      mismatch === null ? `ack ${synced ? ackOffset : "-"}` : `mismatch, has ${mismatch.offset}`;
    const room = entriesRefused ? " refused for space" : noSpace ? " no space" : "";
    const text = `${said}${round > 0 ? ` round ${round}` : ""}${room}`;
    this.#post(node.name, link.leader, text, () => {
      if (!link.open) return;
      const { cursorId } = link;
      this.step(link.leader, { ...news, kind: "cursorAck", cursorId, ackOffset });
    });
  }

  #closeStream(node: Node, effect: Effect & { kind: "closeStream" }): void {
    const link = this.#links.find((one) => one.streamId === effect.streamId && one.open);
    if (link === undefined) return;
    const reason = effect.refusal?.reason ?? "closed";
    this.#post(node.name, link.leader, `ends the stream: ${reason}`, () => {
      if (!link.open) return;
      link.open = false;
      const observedUid =
        reason === "NODE_IS_NOT_MEMBER" ? (effect.refusal?.metadata["observedUid"] ?? "") : null;
      const { cursorId } = link;
      this.step(link.leader, {
        kind: "cursorClosed",
        cursorId,
        reason,
        observedUid,
        nowMs: this.nowMs,
      });
    });
  }

  /** Leaders stream what their followers do not have yet. */
  #pump(): void {
    for (const link of this.#links) {
      const leader = this.node(link.leader);
      const { log } = leader.core.state;
      while (link.open && link.next !== null && link.next <= log.last.offset) {
        const entry = leader.entries.get(link.next);
        const previous = log.positionAt(link.next - 1);
        if (entry === undefined || previous === null) {
          link.next = null;
          this.step(link.leader, { kind: "cursorBehind", cursorId: link.cursorId });
          return;
        }
        link.next += 1;
        const { term, offset, timestampMs: timestamp, value, crc: entryCrc } = entry;
        this.#send(leader, link.cursorId, `append ${term}:${offset}`, {
          ...frame(leader, previous, leader.core.state.commit, 0),
          entry: { term, offset, timestamp, value },
          entryCrc,
        });
      }
    }
  }

  #send(node: Node, cursorId: number, text: string, append: Append): void {
    const link = this.#link(node.name, cursorId);
    if (link === undefined) return;
    this.#post(node.name, link.follower, text, () => {
      if (link.open) this.step(link.follower, { kind: "append", streamId: link.streamId, append });
    });
  }

  #post(from: string, to: string, text: string, arrive: () => void): void {
    this.#messages.push({ from, to, text, arrive });
  }

  #link(leader: string, cursorId: number): Link | undefined {
    return this.#links.find(
      (one) => one.leader === leader && one.cursorId === cursorId && one.open,
    );
  }

  #cut(which: (link: Link) => boolean): void {
    for (const link of this.#links) {
      if (!which(link) || !link.open) continue;
      link.open = false;
      const { follower, streamId } = link;
      this.#post(link.leader, follower, "stream is gone", () => {
        this.step(follower, { kind: "streamClosed", streamId });
      });
    }
  }

  #cutLinks(name: string): void {
    for (const link of this.#links) {
      if (!link.open || (link.leader !== name && link.follower !== name)) continue;
      link.open = false;
      const { leader, cursorId, streamId, follower } = link;
      if (leader === name) this.step(follower, { kind: "streamClosed", streamId });
      else {
        const closed = {
          kind: "cursorClosed",
          cursorId,
          reason: "broken",
          observedUid: null,
        } as const;
        this.step(leader, { ...closed, nowMs: this.nowMs });
      }
    }
  }

  #peer(leader: Node, targetUid: string): Peer {
    const { promised } = leader.core.state;
    const { term, generation } = promised;
    const names = { namespace: "default", shard: 0, storeId: "store" };
    return { ...names, term, leaderUid: leader.uid, targetUid, generation, majorityHolds: false };
  }
}

function frame(leader: Node, previous: LogPosition, commitOffset: number, round: number): Append {
  return {
    term: leader.core.state.promised.term,
    entry: undefined,
    commitOffset,
    cumulativeAcksSupported: true,
    leaderUid: leader.uid,
    targetUid: "",
    previous,
    entryCrc: 0,
    round,
    targetVotes: false,
  };
}

function replyText(effect: Effect & { kind: "reply" }): unknown {
  if (!("response" in effect.reply)) return {};
  return JSON.parse(
    JSON.stringify(effect.reply.response, (key, value: unknown) =>
      key === "crc" || key === "headCrc" ? undefined : value,
    ),
  );
}
