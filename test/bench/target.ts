import { randomBytes } from "node:crypto";
import type { BatchClient } from "./batch-client.ts";
import { EtcdClient } from "./etcd-client.ts";
import type { EtcdCluster } from "./etcd-cluster.ts";
import { closedLoop, keyOf, type Load, type LoadResult, paced } from "./load.ts";

/** A store under load, whoever made it. */
export interface Target {
  readonly name: string;
  readonly put: Load;
  readonly get: Load;
}

/** Records a load keeps under way, in all targets. */
const OUTSTANDING = 1_000;
/** Bounds of one request, as Oxia's clients have them. */
const BATCH_RECORDS_MAX = 1_000;
const BATCH_BYTES_MAX = 128 * 1024;
/** etcd takes at most 128 operations in one transaction. */
const ETCD_BATCH = 125;
const WARM_UP_MS = 1_000;

/** Resilver, with the batches of Oxia's clients. */
export function storeTarget(client: BatchClient, keys: number, valueBytes: number): Target {
  const value = randomBytes(valueBytes);
  const recordBytes = valueBytes + keyOf(0, keys).length;
  const batchMax = Math.min(BATCH_RECORDS_MAX, Math.floor(BATCH_BYTES_MAX / recordBytes));
  return {
    name: "resilver",
    put: { batchMax, send: (first, count) => client.putAll(keysOf(first, count, keys), value) },
    get: {
      batchMax: BATCH_RECORDS_MAX,
      send: (first, count) => client.getAll(keysOf(first, count, keys)),
    },
  };
}

/**
 * etcd in the two ways its clients can be used: one record a call, and 125 records in one
 * transaction, which is the most that it takes and the nearest to a batch.
 */
export function etcdTargets(
  client: EtcdClient,
  keys: number,
  valueBytes: number,
): { readonly single: Target; readonly batched: Target } {
  const value = randomBytes(valueBytes);
  return {
    single: {
      name: "etcd, 1 a call",
      put: { batchMax: 1, send: (first) => client.put({ key: keyOf(first, keys), value }) },
      get: { batchMax: 1, send: (first) => client.get(keyOf(first, keys)) },
    },
    batched: {
      name: `etcd, ${ETCD_BATCH} a transaction`,
      put: {
        batchMax: ETCD_BATCH,
        send: (first, count) =>
          client.putAll(keysOf(first, count, keys).map((key) => ({ key, value }))),
      },
      get: {
        batchMax: ETCD_BATCH,
        send: (first, count) => client.getAll(keysOf(first, count, keys)),
      },
    },
  };
}

/** Puts every key once. */
export async function preload(target: Target, keys: number): Promise<void> {
  const { batchMax, send } = target.put;
  let next = 0;
  const slot = async (): Promise<void> => {
    while (next < keys) {
      const first = next;
      next += batchMax;
      await send(first, Math.min(batchMax, keys - first));
    }
  };
  await Promise.all(Array.from({ length: Math.ceil(OUTSTANDING / batchMax) }, slot));
}

/** A client of the member that leads, since the others would only pass the calls on to it. */
export function etcdLeaderClient(cluster: EtcdCluster): EtcdClient {
  return new EtcdClient(cluster.leader().address);
}

/** 1,000 records under way for some seconds, after a second to warm up. */
export function saturate(load: Load, seconds: number): Promise<LoadResult> {
  const durationMs = seconds * 1_000;
  return closedLoop(load, { outstanding: OUTSTANDING, warmUpMs: WARM_UP_MS, durationMs });
}

/** A steady load for some seconds, after a second to warm up. */
export function pace(load: Load, perSecond: number, seconds: number): Promise<LoadResult> {
  return paced(load, { perSecond, warmUpMs: WARM_UP_MS, durationMs: seconds * 1_000 });
}

function keysOf(first: number, count: number, keys: number): string[] {
  return Array.from({ length: count }, (_, index) => keyOf(first + index, keys));
}
