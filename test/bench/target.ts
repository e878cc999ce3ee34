import { randomBytes } from "node:crypto";
import { EtcdClient } from "./etcd-client.ts";
import type { EtcdCluster } from "./etcd-cluster.ts";
import { closedLoop, keyOf, type Operation } from "./load.ts";
import type { StoreClient } from "../../operator/sidecar-client/store-client.ts";

/** A store under load, whoever made it. `perOperation` is how many records one operation moves. */
export interface Target {
  readonly name: string;
  readonly perOperation: number;
  readonly put: Operation;
  readonly get: Operation;
}

/** How many records a load keeps under way, in all targets. */
const OUTSTANDING = 1_000;
/** etcd takes at most 128 operations in one transaction. */
const ETCD_BATCH = 125;

/** Resilver through its own small client, which batches as Oxia's clients do. */
export function storeTarget(client: StoreClient, keys: number, valueBytes: number): Target {
  const value = randomBytes(valueBytes);
  return {
    name: "resilver",
    perOperation: 1,
    put: async (number) => {
      await client.put(keyOf(number, keys), value);
    },
    get: async (number) => {
      if ((await client.get(keyOf(number, keys))) === null) throw new Error("a key is gone");
    },
  };
}

/**
 * etcd in the two ways its clients can be used: one record a call, and 125 records in one transaction,
 * which is the most that it takes and the nearest to a batch.
 */
export function etcdTargets(
  client: EtcdClient,
  keys: number,
  valueBytes: number,
): readonly Target[] {
  const value = randomBytes(valueBytes);
  const batch = (number: number) =>
    Array.from({ length: ETCD_BATCH }, (_, index) => keyOf(number * ETCD_BATCH + index, keys));
  return [
    {
      name: "etcd, 1 a call",
      perOperation: 1,
      put: (number) => client.put({ key: keyOf(number, keys), value }),
      get: async (number) => {
        if (!(await client.get(keyOf(number, keys)))) throw new Error("a key is gone");
      },
    },
    {
      name: `etcd, ${ETCD_BATCH} a transaction`,
      perOperation: ETCD_BATCH,
      put: (number) => client.putAll(batch(number).map((key) => ({ key, value }))),
      get: async (number) => {
        if ((await client.getAll(batch(number))) !== ETCD_BATCH)
          throw new Error("an answer is missing");
      },
    },
  ];
}

/** How many operations to keep under way, so that `OUTSTANDING` records are. */
function outstandingOf(target: Target): number {
  return OUTSTANDING / target.perOperation;
}

/** Puts every key once. */
export async function preload(target: Target, keys: number): Promise<void> {
  const operations = Math.ceil(keys / target.perOperation);
  let next = 0;
  const slot = async (): Promise<void> => {
    while (next < operations) await target.put(next++);
  };
  await Promise.all(Array.from({ length: outstandingOf(target) }, slot));
}

/** A client of the member that leads, since the others would only pass the calls on to it. */
export function etcdLeaderClient(cluster: EtcdCluster): EtcdClient {
  return new EtcdClient(cluster.leader().address);
}

/** The closed loop in records a second. */
export async function saturate(target: Target, operation: Operation, seconds: number) {
  const result = await closedLoop({
    outstanding: outstandingOf(target),
    warmUpMs: 1_000,
    durationMs: seconds * 1_000,
    operation,
  });
  return { ...result, perSecond: result.perSecond * target.perOperation };
}
