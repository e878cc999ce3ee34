import { LogIndex } from "../core/log-index.ts";
import { Replica } from "../core/replica.ts";
import { LIMITS } from "../limits.ts";
import { INVALID_OFFSET } from "../protocol/entry.ts";
import type { ReplicaIdentity } from "./replica-identity.ts";
import { promisedIn } from "./replica-meta.ts";
import type { NodeEnvironment } from "./replica-options.ts";
import { formattedBefore } from "./shard-directories.ts";

const RECONNECT_MIN_MS = 20;
const RECONNECT_MAX_MS = 500;

/** The core of a replica, as its disks left it. */
export function openCore(env: NodeEnvironment, id: ReplicaIdentity): Replica {
  const meta = id.meta.current;
  const { heartbeatMs, tailEntriesMax, leaderReads } = env.options;
  return new Replica(
    {
      node: env.node,
      storeId: id.storeId,
      uid: id.directories.uid,
      bootCounter: meta.bootCounter,
      formattedBefore: formattedBefore(id.directories, meta),
      promised: promisedIn(meta),
      log: id.storage?.log ?? new LogIndex(),
      applied: id.storage?.state.applied.offset ?? INVALID_OFFSET,
      commit: id.storage?.wal.recovered.commit ?? INVALID_OFFSET,
    },
    {
      heartbeatMs,
      reconnectMinMs: RECONNECT_MIN_MS,
      reconnectMaxMs: RECONNECT_MAX_MS,
      snapshotRetryMinMs: LIMITS.snapshotRetryMinMs,
      snapshotRetryMaxMs: LIMITS.snapshotRetryMaxMs,
      tailEntriesMax,
      pendingReadsMax: LIMITS.pendingReadsMax,
      leaderReads,
    },
  );
}
