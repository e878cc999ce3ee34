import type { CheckContext, Checker } from "./checker.ts";

/** Snapshots of one replica that may begin with no fault between them. */
const SNAPSHOTS_MAX = 40;
/** Streams to one replica that may be opened within that time with no fault between them. */
const STREAMS_MAX = 60;
const STREAMS_MS = 10_000;

/**
 * I20: recovery costs no more than what happened calls for: a replica that nothing disturbs is not
 * sent one snapshot after another (L4), and its leader does not open one stream after another: who
 * was deposed and does not know it may go on trying, but not in a hurry.
 */
export function boundedEffort(context: CheckContext): Checker {
  const snapshots = new Map<string, number>();
  const streams = new Map<string, number>();
  return {
    invariant: "I20",
    faultInjected() {
      snapshots.clear();
      streams.clear();
    },
    snapshotBegun(node, peer) {
      const name = `${node} ${peer.targetUid}`;
      const count = (snapshots.get(name) ?? 0) + 1;
      snapshots.set(name, count);
      if (count <= SNAPSHOTS_MAX) return;
      context.violate("I20", `snapshot ${count} of ${peer.targetUid} begins, and nothing happened`);
    },
    // By when they were opened: what was on its way to who was stopped, or cut off, comes at once.
    streamArrived(peer, openedAtMs) {
      const spell = Math.floor(openedAtMs / STREAMS_MS);
      const name = `${peer.leaderUid} ${peer.targetUid} ${spell}`;
      const count = (streams.get(name) ?? 0) + 1;
      streams.set(name, count);
      if (count <= STREAMS_MAX) return;
      const what = `${count} streams to ${peer.targetUid} were opened within ${STREAMS_MS} ms`;
      context.violate("I20", `${what}, and nothing happened`);
    },
  };
}
