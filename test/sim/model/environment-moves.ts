/** What may happen besides what the coordinator does: messages, disks, clients, crashes, losses. */
import type { Move } from "./move.ts";
import type { Draft } from "./draft.ts";
import { NO_PROMISE, type DurableState, type NodeState, type NodeStates } from "./node-state.ts";
import { LOG_START } from "../../../sidecar/protocol/entry.ts";
import { nodeOf, type World } from "./world.ts";

const PROPOSE_IDS = 10_000;
/** Of one leader's process; only what a broken rule has led to dials for ever. */
const DIALS_MAX = 8;

/** The disks to which a rollback sets replicas back. */
export type Images = ReadonlyMap<string, DurableState>;

/** All that may happen. */
export function environmentMoves(
  world: World,
  states: NodeStates,
  images: Images,
): readonly Move[] {
  const moves: Move[] = [];
  for (const stream of world.streams) {
    const { leader, follower } = stream;
    const [message] = stream.down;
    if (message !== undefined) {
      const what = message.kind === "append" && message.append.entry ? "entry" : message.kind;
      const name = `${what} ${leader} -> ${follower}`;
      moves.push({ name, make: (draft) => draft.deliver(stream) });
    }
    if (stream.up.length > 0) {
      moves.push({ name: `acks ${follower} -> ${leader}`, make: (draft) => draft.answer(stream) });
    }
  }
  for (const [name, state] of world.nodes) {
    moves.push(...ownMoves(world, name, state, states));
    moves.push(...losses(world, name, states, images));
  }
  return moves;
}

function ownMoves(
  world: World,
  name: string,
  { view }: NodeState,
  states: NodeStates,
): readonly Move[] {
  const moves: Move[] = [];
  const { syncEpoch, leading } = view;
  if (syncEpoch !== null) {
    const offset = view.entries.at(-1)?.offset ?? view.base.offset;
    const input = { kind: "synced", offset, logEpoch: syncEpoch } as const;
    moves.push({ name: `${name} syncs`, make: (draft) => void draft.feed(name, input) });
  }
  if (leading === null) return moves;
  if (world.left.writes > 0 && leading.serving) {
    moves.push({ name: `write to ${name}`, make: (draft) => write(draft, name) });
  }
  // Whoever is in a newer term would only refuse, again and again.
  const again = leading.cursors.some(({ id, state, node }) => {
    const listens = nodeOf(world, node).view.promised.term === leading.term;
    return state === "down" && listens && id <= DIALS_MAX;
  });
  if (again) {
    moves.push({
      name: `${name} dials again`,
      make: (draft) => void draft.feed(name, { kind: "tick", nowMs: 0 }),
    });
  }
  if (world.left.crashes > 0) moves.push(crash(name, states, true));
  return moves;
}

function write(draft: Draft, name: string): void {
  const number = draft.world.left.writes;
  draft.spend("writes");
  const id = PROPOSE_IDS + number;
  draft.feed(name, { kind: "propose", id, value: Uint8Array.of(number), nowMs: 0 });
}

function crash(name: string, states: NodeStates, losesUnsynced: boolean): Move {
  return {
    name: `${name} loses power`,
    make: (draft) => {
      draft.spend("crashes");
      draft.restart(name, states.afterCrash(draft.node(name), losesUnsynced));
    },
  };
}

function losses(world: World, name: string, states: NodeStates, images: Images): readonly Move[] {
  const { wipes, crashes, rollbacks } = world.left;
  const moves: Move[] = [];
  const { view } = nodeOf(world, name);
  // A leader's crash is among its own moves.
  if (crashes > 0 && view.leading === null) moves.push(crash(name, states, true));
  if (wipes > 0) {
    moves.push({
      name: `${name} loses its disk`,
      make: (draft) => {
        draft.spend("wipes");
        draft.restart(name, empty(`${name}'${wipes}`));
      },
    });
  }
  const image = images.get(name);
  if (rollbacks > 0 && image?.uid === view.uid) {
    moves.push({
      name: `${name} is set back`,
      make: (draft) => {
        draft.spend("rollbacks");
        draft.restart(name, { ...image, boot: image.boot + 1 });
      },
    });
  }
  return moves;
}

/** A disk that was just formatted. */
export function empty(uid: string): DurableState {
  return { uid, boot: 1, promised: NO_PROMISE, base: LOG_START, entries: [] };
}
