import { EtcdClient } from "./etcd-client.ts";
import { EtcdCluster, etcdInstalled } from "./etcd-cluster.ts";
import { keyOf } from "./load.ts";
import type { BenchOptions } from "./options.ts";
import { medianRows, type Report, type Row } from "./report.ts";
import { BenchStore } from "./store.ts";

const WRITES_PER_SECOND = 500;
const KEYS = 10_000;
const BEFORE_MS = 2_000;
const AFTER_MS = 12_000;
/** A paced writer is never this long without a write unless something stopped it. */
const RECOVERED_AFTER_MS = 1_500;

type Fault = "SIGKILL" | "SIGSTOP";
const FAULTS: readonly Fault[] = ["SIGKILL", "SIGSTOP"];

/** Longest time between two successful writes when the leader dies, and when it falls silent. */
export async function failover(options: BenchOptions): Promise<Report> {
  const runs: Row[][] = [];
  for (let run = 0; run < options.runs; run += 1) {
    const rows: Row[] = [];
    for (const fault of FAULTS) {
      rows.push({ what: `resilver, leader ${fault}`, figures: await measureStore(fault) });
      if (options.peers && etcdInstalled()) {
        rows.push({ what: `etcd, leader ${fault}`, figures: await measureEtcd(fault) });
      }
    }
    runs.push(rows);
  }
  const notes = [`${WRITES_PER_SECOND} writes a second throughout`];
  if (!etcdInstalled()) notes.push("etcd is not installed: not measured");
  return { bench: "failover", runs: options.runs, rows: medianRows(runs), raw: runs, notes };
}

async function measureStore(fault: Fault): Promise<Record<string, number>> {
  const store = await BenchStore.start();
  try {
    const value = new Uint8Array(128);
    let paused: number | null = null;
    const gap = await longestGap(
      async (number) => {
        await store.client.put(keyOf(number, KEYS), value);
      },
      async () => {
        const { pid } = await store.leader();
        process.kill(pid, fault);
        if (fault === "SIGSTOP") paused = pid;
      },
    );
    if (paused !== null) process.kill(paused, "SIGCONT");
    return gap;
  } finally {
    await store.stop();
  }
}

async function measureEtcd(fault: Fault): Promise<Record<string, number>> {
  const cluster = await EtcdCluster.start();
  const leader = cluster.leader();
  // Servers that stay: a client of theirs sees the election alone, not its own reconnecting.
  const clients = cluster.members
    .filter((member) => member !== leader)
    .map(({ address }) => new EtcdClient(address, 1_000));
  try {
    const value = new Uint8Array(128);
    return await longestGap(
      async (number) => {
        await clients[number % clients.length]?.put({ key: keyOf(number, KEYS), value });
      },
      () => {
        leader.process.kill(fault);
        return Promise.resolve();
      },
    );
  } finally {
    for (const client of clients) client.close();
    await cluster.stop();
  }
}

/** Writes at a steady pace, strikes once, and looks at when writes succeeded. */
async function longestGap(
  put: (number: number) => Promise<void>,
  strike: () => Promise<void>,
): Promise<Record<string, number>> {
  const startMs = performance.now();
  let lastMs = Number.POSITIVE_INFINITY;
  let gapMs = 0;
  let gapBeforeMs = 0;
  let struckMs: number | null = null;
  let number = 0;
  const pending = new Set<Promise<void>>();
  const succeeded = (): void => {
    const nowMs = performance.now();
    if (struckMs === null) gapBeforeMs = Math.max(gapBeforeMs, nowMs - lastMs);
    else gapMs = Math.max(gapMs, nowMs - lastMs);
    lastMs = nowMs;
  };
  const pace = setInterval(() => {
    const due = ((performance.now() - startMs) / 1_000) * WRITES_PER_SECOND;
    // Nothing is queued up while nothing succeeds: what counts is when the first one does.
    for (; number < due; number += 1) {
      if (pending.size >= WRITES_PER_SECOND) continue;
      const one = put(number).then(succeeded, () => undefined);
      pending.add(one);
      void one.finally(() => pending.delete(one));
    }
  }, 2);
  try {
    await elapsed(BEFORE_MS);
    await strike();
    struckMs = performance.now();
    const endMs = struckMs + AFTER_MS;
    await elapsed(RECOVERED_AFTER_MS);
    while (performance.now() < endMs && performance.now() - lastMs > 200) await elapsed(50);
    await elapsed(RECOVERED_AFTER_MS);
    gapMs = Math.max(gapMs, performance.now() - lastMs);
  } finally {
    clearInterval(pace);
  }
  await Promise.race([Promise.all(pending), elapsed(2_000)]);
  return { "longest gap ms": gapMs, "before ms": gapBeforeMs };
}

function elapsed(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
