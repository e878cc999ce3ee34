import { ProtocolError } from "../../../sidecar/protocol/errors.ts";
import {
  ServingStatus,
  WipeReason,
  type NodeStatus,
  type WatchStatusRequest,
  type ReplicaStatus,
} from "../../../sidecar/protocol/gen/resilver.ts";
import type { ShardAssignments } from "../../../sidecar/protocol/gen/oxia-client.ts";
import { Coordinator } from "../../../operator/controller/coordinator.ts";
import {
  CallFailed,
  RecordConflict,
  type CallOptions,
  type NodeEndpoint,
  type RecordStore,
  type SidecarClient,
  type StoredRecord,
  type StoreSpec,
} from "../../../operator/controller/ports.ts";
import { DEFAULT_TIMINGS, type Timings } from "../../../operator/controller/timings.ts";
import type { CoordinatorEvent } from "../../../operator/core/events.ts";
import type { ClaimUids } from "../../../operator/core/observed.ts";
import { DEFAULT_RECOVERY_POLICY, type RecoveryPolicy } from "../../../operator/core/gates.ts";
import { parseRecord, type ShardKey, type ShardRecord } from "../../../operator/core/record.ts";
import {
  answerAddFollower,
  answerEnrol,
  answerNewTerm,
  answerPromote,
  answerRemoveFollower,
  beginToLead,
  changeSets,
} from "./fake-replica-calls.ts";
import { FakeReplica } from "./fake-replica.ts";
import { VirtualClock } from "./virtual-clock.ts";

export const KEY: ShardKey = { namespace: "default", shard: 0 };

/** A process that can be killed, stopped and wiped. */
export class FakeNode {
  readonly endpoint: NodeEndpoint;
  up = true;
  frozen = false;
  volumeTerminating = false;
  /** Its volumes are another store's. */
  foreign = false;
  claims: ClaimUids | null = null;
  bootId = 1;
  replica: FakeReplica | null = null;
  /** Ends open streams. */
  readonly streams = new Set<() => void>();
  assignments: ShardAssignments | null = null;

  constructor(node: string) {
    this.endpoint = { node, internalAddress: `${node}:6649`, publicAddress: `${node}:6648` };
  }
}

/** Records in memory, kept as text as a real store would. */
class MemoryRecords implements RecordStore {
  text: string | null = null;
  version = 0;
  reads = 0;
  saves = 0;
  /** Called with each record about to be saved; may throw. */
  beforeSave: (record: ShardRecord) => void = () => undefined;
  /** Called when it is saved, before whoever asked hears of it; may throw. */
  afterSave: (record: ShardRecord) => void = () => undefined;

  async read(): Promise<StoredRecord | null> {
    this.reads += 1;
    await Promise.resolve();
    if (this.text === null) return null;
    return { record: parseRecord(JSON.parse(this.text)), version: String(this.version) };
  }

  create(record: ShardRecord): Promise<StoredRecord> {
    return this.#save(record, this.text === null);
  }

  replace(record: ShardRecord, version: string): Promise<StoredRecord> {
    return this.#save(record, this.text !== null && version === String(this.version));
  }

  async #save(record: ShardRecord, expected: boolean): Promise<StoredRecord> {
    await Promise.resolve();
    if (!expected) throw new RecordConflict("changed meanwhile");
    this.beforeSave(record);
    this.saves += 1;
    this.version += 1;
    this.text = JSON.stringify(parseRecord(record));
    this.afterSave(record);
    return { record: parseRecord(JSON.parse(this.text)), version: String(this.version) };
  }
}

export class FakeCluster implements SidecarClient {
  readonly clock = new VirtualClock();
  readonly nodes = new Map<string, FakeNode>();
  readonly records = new MemoryRecords();
  readonly events: CoordinatorEvent[] = [];
  readonly calls: string[] = [];
  /** Called before each call is carried out; may throw to fail it. */
  onCall: (name: string, node: string) => void = () => undefined;
  /** For how long a call waits before it is carried out, past its deadline for instance. */
  delayMs: (name: string, node: string) => number = () => 0;
  /** Called when a call was carried out; may throw to lose its answer. */
  onAnswer: (name: string, node: string) => void = () => undefined;
  isStopped = (node: string, _signal: AbortSignal): Promise<boolean> =>
    Promise.resolve(!this.node(node).up);
  policy: RecoveryPolicy = { ...DEFAULT_RECOVERY_POLICY, cooldownMs: 0 };
  timings: Timings = DEFAULT_TIMINGS;
  #uid = 0;
  #ticking = true;

  constructor(names: readonly string[]) {
    for (const name of names) this.nodes.set(name, new FakeNode(name));
    this.#tick();
  }

  /** One store on `nodes`, with one shard of three copies. */
  spec(nodes: readonly string[] = [...this.nodes.keys()]): StoreSpec {
    return {
      storeId: "store",
      nodes: nodes.map((name) => this.node(name).endpoint),
      namespaces: [
        {
          name: "default",
          shards: 1,
          replicationFactor: 3,
          keySorting: "hierarchical",
          notifications: false,
        },
      ],
    };
  }

  coordinator(nodes: readonly string[] = [...this.nodes.keys()]): Coordinator {
    return new Coordinator({
      spec: this.spec(nodes),
      records: this.records,
      sidecars: this,
      platform: {
        isStopped: (node, signal) => this.isStopped(node, signal),
        isVolumeTerminating: (node) => this.node(node).volumeTerminating,
        claims: (node) => this.node(node).claims,
      },
      clock: this.clock,
      events: { emit: (event) => void this.events.push(event) },
      policy: this.policy,
      timings: this.timings,
    });
  }

  node(name: string): FakeNode {
    const node = this.nodes.get(name);
    if (node === undefined) throw new Error(`no node ${name}`);
    return node;
  }

  replica(name: string): FakeReplica {
    const { replica } = this.node(name);
    if (replica === null) throw new Error(`no replica on ${name}`);
    return replica;
  }

  get record(): ShardRecord {
    return parseRecord(JSON.parse(this.records.text ?? "null"));
  }

  kill(name: string): void {
    const node = this.node(name);
    node.up = false;
    for (const end of [...node.streams]) end();
  }

  start(name: string): void {
    const node = this.node(name);
    node.up = true;
    node.bootId += 1;
    node.replica?.restart();
  }

  wipe(name: string): string {
    this.#uid += 1;
    const uid = `${name}-u${this.#uid}`;
    this.kill(name);
    this.replica(name).wipe(uid);
    this.replica(name).wipeReason = WipeReason.VOLUME_EMPTY;
    this.start(name);
    this.replica(name).bootCounter = 1;
    return uid;
  }

  /** The node that leads the highest term by its own account. */
  leader(): string | null {
    let best: FakeReplica | null = null;
    for (const node of this.nodes.values()) {
      const { replica } = node;
      if (!node.up || replica?.status !== ServingStatus.LEADER) continue;
      if (best === null || replica.term > best.term) best = replica;
    }
    return best?.node ?? null;
  }

  /** Appends at the leader and waits for the commit, as a client would. */
  async write(value: string): Promise<void> {
    const leader = this.replica(this.leader() ?? "");
    const offset = leader.log.push({ term: leader.term, value }) - 1;
    await this.clock.until(`write ${value}`, 5_000, () => leader.commit >= offset);
  }

  steady(): boolean {
    const { record } = this;
    return (
      record.leader !== null &&
      record.next === undefined &&
      record.commitFloor.term === record.term &&
      record.members.length === record.ensemble.length &&
      record.members.every(
        (member) =>
          member.role === "voter" && this.node(member.node).replica?.uid === member.replicaUid,
      ) &&
      record.leader.node === this.leader()
    );
  }

  /** Waits for a leader and three votes. */
  untilSteady(withinMs = 20_000): Promise<number> {
    return this.clock.until(
      "all vote",
      withinMs,
      () => this.records.text !== null && this.steady(),
    );
  }

  async close(): Promise<void> {
    this.#ticking = false;
    await Promise.resolve();
  }

  #tick(): void {
    this.clock.timer(5, () => {
      if (!this.#ticking) return;
      for (const node of this.#live()) node.replica?.replicate(this.#replicas());
      this.#tick();
    });
  }

  *#live(): Generator<FakeNode> {
    for (const node of this.nodes.values()) if (node.up && !node.frozen) yield node;
  }

  #replicas(): ReadonlyMap<string, FakeReplica | null> {
    return new Map([...this.#live()].map((node) => [node.endpoint.node, node.replica]));
  }

  async #call<T>(
    name: string,
    to: NodeEndpoint,
    call: CallOptions,
    act: (replica: FakeReplica, node: FakeNode) => T | Promise<T>,
  ): Promise<T> {
    call.signal.throwIfAborted();
    const node = this.node(to.node);
    if (name !== "getInfo") {
      this.calls.push(`${name} ${to.node}`);
      this.onCall(name, to.node);
    }
    const until = this.clock.monotonicMs() + call.deadlineMs;
    const delayMs = 1 + this.delayMs(name, to.node);
    await this.clock.sleep(Math.min(delayMs, call.deadlineMs), call.signal);
    if (delayMs > call.deadlineMs) throw new CallFailed(to.node, "deadline", true);
    // The process answers, its replica does not.
    const hangs = (): boolean => name !== "getInfo" && (node.replica?.stalledMs ?? 0) > 0;
    while (node.frozen || hangs()) {
      if (this.clock.monotonicMs() >= until) throw new CallFailed(to.node, "deadline", true);
      await this.clock.sleep(10, call.signal);
    }
    if (!node.up) throw new CallFailed(to.node, "connection refused", false);
    if (node.replica === null && name !== "openShard" && name !== "getInfo") {
      throw new ProtocolError("SHARD_NOT_FOUND", "not open");
    }
    const answer = await act(node.replica as FakeReplica, node);
    this.onAnswer(name, to.node);
    return answer;
  }

  openShard: SidecarClient["openShard"] = (to, request, call) =>
    this.#call("openShard", to, call, (_replica, node): ReplicaStatus => {
      if (node.foreign) {
        const found = { field: "storeId", value: "s2" };
        throw new ProtocolError("WRONG_STORE", "its volumes are of the store s2", found);
      }
      if (node.replica === null) {
        this.#uid += 1;
        node.replica = new FakeReplica(to.node, `${to.node}-u${this.#uid}`);
      }
      node.replica.storeId = request.storeId;
      return node.replica.report(this.#replicas());
    });

  newTerm: SidecarClient["newTerm"] = (to, request, call) =>
    this.#call("newTerm", to, call, (replica) => answerNewTerm(replica, request));

  becomeLeader: SidecarClient["becomeLeader"] = (to, request, call) =>
    this.#call("becomeLeader", to, call, async (replica) => {
      const offset = beginToLead(replica, request);
      await this.#committed(to, replica, offset, call);
      return { barrier: { term: request.term, offset, crc: 0 } };
    });

  async #committed(
    to: NodeEndpoint,
    replica: FakeReplica,
    offset: number,
    call: CallOptions,
  ): Promise<void> {
    const until = this.clock.monotonicMs() + call.deadlineMs;
    while (replica.commit < offset) {
      const node = this.node(to.node);
      if (!node.up) throw new CallFailed(to.node, "connection broken", false);
      if (this.clock.monotonicMs() > until) throw new CallFailed(to.node, "deadline", true);
      await this.clock.sleep(2, call.signal);
    }
  }

  addFollower: SidecarClient["addFollower"] = (to, request, call) =>
    this.#call("addFollower", to, call, (replica) => answerAddFollower(replica, request));

  removeFollower: SidecarClient["removeFollower"] = (to, request, call) =>
    this.#call("removeFollower", to, call, (replica) => answerRemoveFollower(replica, request));

  promote: SidecarClient["promote"] = (to, request, call) =>
    this.#call("promote", to, call, (replica) => answerPromote(replica, request));

  updateEnsemble: SidecarClient["updateEnsemble"] = (to, request, call) =>
    this.#call("updateEnsemble", to, call, async (replica) => {
      const offset = changeSets(replica, request);
      await this.#committed(to, replica, offset, call);
      return { committed: { term: replica.term, offset, crc: 0 } };
    });

  enrol: SidecarClient["enrol"] = (to, request, call) =>
    this.#call("enrol", to, call, (replica) => answerEnrol(replica, request));

  deleteShard: SidecarClient["deleteShard"] = (to, _request, call) =>
    this.#call("deleteShard", to, call, (_replica, node) => {
      node.replica = null;
    });

  getInfo: SidecarClient["getInfo"] = (to, call) =>
    this.#call("getInfo", to, call, (_replica, node) => ({
      featuresSupported: [],
      version: "0",
      node: to.node,
      bootId: node.bootId,
    }));

  async *watchStatus(
    to: NodeEndpoint,
    _request: WatchStatusRequest,
    signal: AbortSignal,
  ): AsyncGenerator<NodeStatus, void> {
    const node = this.node(to.node);
    await this.clock.sleep(1, signal);
    if (!node.up) throw new CallFailed(to.node, "connection refused", false);
    const broken = new AbortController();
    const end = (): void => {
      broken.abort(new CallFailed(to.node, "connection broken", false));
    };
    signal.addEventListener("abort", end, { once: true });
    node.streams.add(end);
    let last = "";
    try {
      for (let full = true; ; full = false) {
        while (node.frozen) await this.clock.sleep(10, broken.signal);
        const replicas = node.replica === null ? [] : [node.replica.report(this.#replicas())];
        const text = JSON.stringify(replicas);
        if (full || text !== last) yield { node: to.node, bootId: node.bootId, full, replicas };
        last = text;
        await this.clock.sleep(20, broken.signal);
      }
    } finally {
      node.streams.delete(end);
      signal.removeEventListener("abort", end);
    }
  }

  async pushAssignments(
    to: NodeEndpoint,
    updates: AsyncIterable<ShardAssignments>,
    signal: AbortSignal,
  ): Promise<void> {
    for await (const update of updates) {
      signal.throwIfAborted();
      if (!this.node(to.node).up) throw new CallFailed(to.node, "connection refused", false);
      this.node(to.node).assignments = update;
    }
  }
}

/** Runs `act` in a store of three nodes once everything votes and has been quiet for a while. */
export async function whileQuiet(
  timings: Timings,
  act: (cluster: FakeCluster, coordinator: Coordinator) => Promise<void>,
): Promise<void> {
  const cluster = new FakeCluster(["a", "b", "c"]);
  cluster.timings = timings;
  const coordinator = cluster.coordinator();
  const running = coordinator.run();
  try {
    await cluster.untilSteady();
    await cluster.clock.pass(5_000);
    await act(cluster, coordinator);
  } finally {
    await coordinator.close();
    await running;
    await cluster.close();
  }
}
