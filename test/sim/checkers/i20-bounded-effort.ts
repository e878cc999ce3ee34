import type { CheckContext, Checker } from "./checker.ts";

/** Snapshots of one replica that may begin with no fault between them. */
const SNAPSHOTS_MAX = 40;
/** Streams to one replica that may begin within that time with no fault between them. */
const STREAMS_MAX = 60;
const STREAMS_MS = 10_000;

/**
 * I20: recovery costs no more than what happened calls for: a replica that nothing disturbs is not
 * sent one snapshot after another (L4), and its leader does not open one stream after another: who
 * was deposed and does not know it may go on trying, but not in a hurry.
 */
export function boundedEffort(context: CheckContext): Checker {
  const snapshots = new Map<string, number>();
  const streams = new Map<string, { sinceMs: number; count: number }>();
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
    streamArrived(peer, atMs) {
      const name = `${peer.leaderUid} ${peer.targetUid}`;
      const known = streams.get(name);
      const recent = known !== undefined && atMs - known.sinceMs < STREAMS_MS;
      const seen = recent ? known : { sinceMs: atMs, count: 0 };
      seen.count += 1;
      streams.set(name, seen);
      if (seen.count <= STREAMS_MAX) return;
      const tookMs = (atMs - seen.sinceMs).toFixed(0);
      const what = `stream ${seen.count} to ${peer.targetUid} within ${tookMs} ms`;
      context.violate("I20", `${what}, and nothing happened`);
    },
  };
}
