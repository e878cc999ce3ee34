/** A state of everything: replicas, streams between them, the record, the coordinator, clients. */
import type { Effect } from "../../../sidecar/core/effect.ts";
import type { Input } from "../../../sidecar/core/input.ts";
import type { EntryId, LogEntry, LogPosition } from "../../../sidecar/protocol/entry.ts";
import type { Append } from "../../../sidecar/protocol/gen/resilver.ts";
import type { FenceReply } from "../../../operator/core/election.ts";
import type { ShardRecord } from "../../../operator/core/record.ts";
import type { NodeState } from "./node-state.ts";

/** On its way from a leader to a follower. */
export type Down =
  | { readonly kind: "open" }
  | { readonly kind: "append"; readonly append: Append }
  | { readonly kind: "snapshot" };

/** On its way back. */
export type Up = Extract<Effect, { kind: "ack" }>;

/** What a leader's cursor sends through. */
export interface Stream {
  /** Unique among those of all leaders' processes. */
  readonly id: number;
  readonly leader: string;
  readonly cursorId: number;
  readonly follower: string;
  readonly uid: string;
  /** The follower has taken it. */
  readonly open: boolean;
  /** Offset of the next entry to send; null: entries wait. */
  readonly next: number | null;
  readonly down: readonly Down[];
  readonly up: readonly Up[];
}

/** An election under way: its NewTerm calls and their answers. */
export interface Election {
  readonly asked: readonly string[];
  readonly replies: readonly FenceReply[];
}

/** BecomeLeader, until it arrives. */
export interface LeadOrder {
  readonly node: string;
  readonly input: Extract<Input, { kind: "becomeLeader" }>;
}

/** Voter sets of a term, as `voterSetsText` writes them. */
export interface ConfirmedSets {
  readonly term: number;
  readonly sets: string;
}

/** A client's write. */
export interface Write {
  readonly offset: number;
  readonly crc: number;
  readonly term: number;
}

/** How much may still happen. */
export interface Budget {
  readonly terms: number;
  readonly writes: number;
  readonly wipes: number;
  readonly crashes: number;
  readonly rollbacks: number;
  /** Swaps of one node of the ensemble for a fourth. */
  readonly changes: number;
}

/** See the file's header. Never changed: each move makes another. */
export interface World {
  readonly nodes: ReadonlyMap<string, NodeState>;
  readonly streams: readonly Stream[];
  readonly record: ShardRecord;
  readonly election: Election | null;
  readonly order: LeadOrder | null;
  /** Voter sets under which the present leader was asked to commit an entry, and has. */
  readonly ensembleAsked: ConfirmedSets | null;
  readonly confirmed: ConfirmedSets | null;
  /** Taken by a leader's process, not answered yet. */
  readonly proposed: readonly (Write & { readonly leader: string })[];
  readonly acknowledged: readonly Write[];
  readonly left: Budget;
  /** What broke; "" while nothing did. */
  readonly fault: string;
}

/** Worlds of which this is equal go on alike. */
export function keyOf(world: World): string {
  const { nodes, streams, record, election, order, proposed, acknowledged, left, fault } = world;
  const { leader, members, term, generation, commitFloor, ensemble, next, ensembleTerm } = record;
  return JSON.stringify([
    [...nodes.values()].map(({ id }) => id),
    streams.map(streamKey),
    [term, generation, leader, commitFloor.offset, commitFloor.term, ensemble, next, ensembleTerm],
    [world.ensembleAsked, world.confirmed],
    members.map((m) => [
      m.node,
      m.replicaUid,
      m.role,
      m.ackedTerm,
      m.ackedBoot,
      m.enrolTerm,
      m.target,
    ]),
    election,
    order === null ? null : orderKey(order),
    proposed,
    acknowledged,
    Object.values(left),
    fault,
  ]);
}

function orderKey({ node, input }: LeadOrder): unknown {
  const { term, bootCounter, members, voterSets } = input.request;
  const fed = members.map(({ node: name, replicaUid }) => [name, replicaUid]);
  return [node, term, bootCounter, fed, voterSets.map(({ nodes }) => nodes)];
}

function streamKey({ id, follower, uid, open, next, down, up }: Stream): unknown {
  const sent = down.map((message) => {
    if (message.kind !== "append") return message.kind;
    const { term, previous, entry, commitOffset, targetVotes } = message.append;
    return [term, previous?.offset, previous?.crc, entry?.offset, commitOffset, targetVotes];
  });
  const answered = up.map(({ offset, synced, mismatch }) => [offset, synced, mismatch?.offset]);
  return [id, follower, uid, open, next, sent, answered];
}

/** The replica on a node. */
export function nodeOf({ nodes }: World, name: string): NodeState {
  const node = nodes.get(name);
  if (node === undefined) throw new Error(`no node ${name}`);
  return node;
}

/** The entry or base at an offset of a replica's log; null: it has none there. */
export function positionAt(state: NodeState, offset: number): LogPosition | null {
  const { base } = state.view;
  if (offset === base.offset) return base;
  return entryAt(state, offset);
}

/** See {@link positionAt}. */
export function entryAt({ view }: NodeState, offset: number): LogEntry | null {
  return view.entries.find((entry) => entry.offset === offset) ?? null;
}

/** The newest entry that a leader says is committed; null: none that it has. */
export function committedBy(leader: NodeState): EntryId | null {
  const at = positionAt(leader, leader.view.commit);
  return at === null ? null : { term: at.term, offset: at.offset };
}

/** The replica that leads by the record, if it is at it. */
export function steadyLeader(world: World): NodeState | null {
  const { leader, term } = world.record;
  if (leader === null) return null;
  const state = nodeOf(world, leader.node);
  const { leading, uid } = state.view;
  return uid === leader.uid && leading?.term === term && leading.serving ? state : null;
}
