import { systemClock } from "../../operator/local/system-clock.ts";
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import type { CoordinatorEvent } from "../../operator/core/events.ts";
import type { ReplicaView, ShardView } from "../../operator/core/status.ts";
import { sameState, shardChecksums } from "../../operator/local/audit.ts";
import { Ledger } from "../../operator/local/demo/ledger.ts";
import { seededRandom } from "../../operator/local/demo/seeded-random.ts";
import { readBack } from "../../operator/local/demo/verify.ts";
import { Writers } from "../../operator/local/demo/writers.ts";
import { findFreePorts } from "../../operator/local/free-ports.ts";
import { LocalStore, type LocalStoreOptions } from "../../operator/local/local-store.ts";
import type { ReplicaEndpoint } from "../../operator/local/settings.ts";
import { CoordinationClient } from "../../operator/sidecar-client/coordination-client.ts";
import { StoreClient } from "../../operator/sidecar-client/store-client.ts";
import type { ReplicaStatus } from "../../sidecar/protocol/gen/resilver.ts";
import { TcpProxy } from "./tcp-proxy.ts";

const WAIT_MS = 60_000;
/**
 * The compiled sidecar starts in half the time. `npm test` compiles it; without it tests run from
 * the sources.
 */
const COMPILED = process.env["RESILVER_TEST_SIDECAR"] ?? resolve("dist/sidecar/main.js");

/** Settings of a test's store beside those of a local store. */
export interface TestStoreOptions extends Partial<LocalStoreOptions> {
  /** Reach every replica through a proxy that can be cut. */
  readonly proxied?: boolean;
  readonly seed?: number;
}

/** A real store in a directory of its own, with writers that note every acknowledged write. */
export class TestStore {
  readonly store: LocalStore;
  readonly ledger = new Ledger();
  readonly client: StoreClient;
  readonly events: CoordinatorEvent[];
  readonly proxies: ReadonlyMap<string, readonly TcpProxy[]>;
  private readonly writers: Writers;
  private readonly dir: string;
  private writeFailure: unknown = null;

  private constructor(
    store: LocalStore,
    dir: string,
    events: CoordinatorEvent[],
    proxies: ReadonlyMap<string, readonly TcpProxy[]>,
    seed: number,
  ) {
    this.store = store;
    this.dir = dir;
    this.events = events;
    this.proxies = proxies;
    this.client = new StoreClient({ servers: store.servers(), requestTimeoutMs: WAIT_MS });
    this.writers = new Writers({
      client: this.client,
      ledger: this.ledger,
      random: seededRandom(seed),
      writesPerSecond: 200,
      failed: (error) => {
        this.writeFailure ??= error;
      },
    });
  }

  /** Starts a store and waits until every replica votes. */
  static async start(options: TestStoreOptions = {}): Promise<TestStore> {
    const { proxied, seed, ...given } = options;
    const dir = given.dir ?? (await mkdtemp(join(tmpdir(), "resilver-e2e-")));
    const events: CoordinatorEvent[] = [];
    const proxies = new Map<string, readonly TcpProxy[]>();
    const store = await LocalStore.start({
      defaultPort: "free",
      policy: { cooldownMs: 0 },
      ...(existsSync(COMPILED)
        ? { sidecarProgram: [process.execPath, "--enable-source-maps", COMPILED] as const }
        : {}),
      ...(proxied === true ? { endpoints: await proxiedEndpoints(proxies) } : {}),
      ...given,
      dir,
      events: (event) => {
        events.push(event);
        given.events?.(event);
      },
    });
    const test = new TestStore(store, dir, events, proxies, seed ?? 1);
    try {
      await store.whole(WAIT_MS);
      await test.client.ready(WAIT_MS);
      return test;
    } catch (error) {
      const tails = await Promise.all(
        store.status().pods.map(({ name }) => store.platform.logTail(name, 5)),
      );
      await test.close();
      throw new Error(`the store did not start:\n${tails.join("\n")}`, { cause: error });
    }
  }

  /** The first (or only) shard as the coordinator sees it. */
  view(): ShardView {
    const [view] = this.store.views();
    assert.ok(view !== undefined, "a shard");
    return view;
  }

  leader(): string {
    const { leader } = this.view();
    assert.ok(leader !== null, "a leader");
    return leader;
  }

  /** Another replica than `old` leads and serves. */
  ledByAnother(old: string): boolean {
    const { leader, serving } = this.view();
    return leader !== null && leader !== old && serving;
  }

  followers(): readonly string[] {
    return this.view()
      .replicas.map(({ node }) => node)
      .filter((node) => node !== this.leader());
  }

  /** A follower; the same one at each call while the leader stays. */
  follower(): string {
    const [follower] = this.followers();
    assert.ok(follower !== undefined, "a follower");
    return follower;
  }

  replica(node: string): ReplicaView {
    const replica = this.view().replicas.find((other) => other.node === node);
    assert.ok(replica !== undefined, node);
    return replica;
  }

  /** What a sidecar says of its only shard now. */
  async sidecarStatus(node: string): Promise<ReplicaStatus> {
    const client = new CoordinationClient({ clock: systemClock });
    const abort = new AbortController();
    try {
      for await (const { replicas } of client.watchStatus(
        this.store.endpoint(node),
        { heartbeatMs: 0 },
        abort.signal,
      )) {
        const [replica] = replicas;
        if (replica !== undefined) return replica;
      }
      throw new Error(`${node}: no status`);
    } finally {
      abort.abort();
      await client.close();
    }
  }

  /** Writes `count` records of `bytes` bytes, all acknowledged. */
  async load(count: number, bytes: number, prefix = "load"): Promise<void> {
    const random = seededRandom(count + bytes);
    const tasks: Promise<void>[] = [];
    for (let n = 0; n < count; n += 1) {
      const key = `${prefix}/${String(n).padStart(6, "0")}`;
      const value = Buffer.alloc(bytes, `${key} ${random()} `);
      tasks.push(this.client.put(key, value).then(() => this.ledger.acknowledge(key, value)));
      if (tasks.length >= 64) await Promise.all(tasks.splice(0));
    }
    await Promise.all(tasks);
  }

  startWriting(): void {
    this.writers.start();
  }

  async stopWriting(): Promise<void> {
    await this.writers.stop();
    if (this.writeFailure !== null) throw this.writeFailure;
  }

  /** Resolves when `count` further writes were acknowledged. */
  async written(count: number): Promise<void> {
    const target = this.ledger.acknowledged + count;
    await this.until(`${count} writes`, () => this.ledger.acknowledged >= target);
  }

  /** Resolves when `probe` is true; it is asked after each change the coordinator sees. */
  async until(what: string, probe: () => boolean, timeoutMs = WAIT_MS): Promise<void> {
    await this.store.until(what, () => (probe() ? true : null), timeoutMs);
  }

  /** Resolves when the replica is a voter again with another uid than `oldUid`. */
  async rebuilt(node: string, oldUid: string): Promise<void> {
    await this.until(`${node} votes again`, () => {
      const { role, uid, reach } = this.replica(node);
      return (role === "voter" || role === "leader") && uid !== oldUid && reach === "up";
    });
  }

  /** Resolves with the first event, from now on, for which `match` is true. */
  async event(
    match: (event: CoordinatorEvent) => boolean,
    timeoutMs = WAIT_MS,
  ): Promise<CoordinatorEvent> {
    const from = this.events.length;
    return await this.store.until(
      "an event",
      () => this.events.slice(from).find(match) ?? null,
      timeoutMs,
    );
  }

  /** How every test ends: all replicas vote, nothing acknowledged is lost, all states are equal. */
  async proveNothingLost(readFrom?: string): Promise<void> {
    await this.stopWriting();
    await this.store.whole(WAIT_MS);
    for (const key of this.store.views()) {
      if (readFrom !== undefined) await this.store.moveLeader(key, readFrom, WAIT_MS);
    }
    const { lost, examples, read } = await readBack(this.client, this.ledger, () => undefined);
    assert.equal(lost, 0, `lost ${lost} of ${read}: ${examples.join(", ")}`);
    assert.equal(read, this.ledger.records);
    await this.store.whole(WAIT_MS);
    for (const { namespace, shard } of this.store.views()) {
      const checksums = await shardChecksums(this.store, namespace, shard);
      assert.ok(sameState(checksums), JSON.stringify(checksums, null, 2));
    }
  }

  /** Cuts, freezes or mends the way to a replica (clients, peers and coordinator alike). */
  network(node: string, mode: "open" | "cut" | "frozen"): void {
    for (const proxy of this.proxies.get(node) ?? []) proxy.set(mode);
  }

  async close(): Promise<void> {
    await this.client.close();
    await this.writers.stop();
    for (const { name, state } of this.store.platform.statuses()) {
      // Nothing in a test's store is worth an orderly end.
      if (state !== "stopped") await this.store.platform.kill(name);
    }
    await this.store.close();
    await Promise.all([...this.proxies.values()].flat().map((proxy) => proxy.close()));
    await rm(this.dir, { recursive: true, force: true });
  }
}

async function proxiedEndpoints(
  proxies: Map<string, readonly TcpProxy[]>,
): Promise<(listening: readonly ReplicaEndpoint[]) => readonly ReplicaEndpoint[]> {
  const first = await findFreePorts(2 * 9, Math.random);
  return (listening) =>
    listening.map((endpoint, ordinal) => {
      const publicProxy = new TcpProxy(endpoint.publicAddress);
      const internalProxy = new TcpProxy(endpoint.internalAddress);
      const port = first + 2 * ordinal;
      // Connections made before it listens are refused, and tried again.
      void publicProxy.listen(port);
      void internalProxy.listen(port + 1);
      proxies.set(endpoint.node, [publicProxy, internalProxy]);
      return {
        ...endpoint,
        publicAddress: `127.0.0.1:${port}`,
        internalAddress: `127.0.0.1:${port + 1}`,
      };
    });
}
