import { Coordinator, type CoordinatorOptions } from "../../operator/controller/coordinator.ts";
import type { StoreSpec } from "../../operator/controller/ports.ts";
import { voterSetsText } from "../../operator/core/quorum.ts";
import { type ShardKey, type ShardRecord, voterSets } from "../../operator/core/record.ts";
import { DiskError } from "../../sidecar/lib/ports/disk.ts";
import type { ReplicaStatus } from "../../sidecar/protocol/gen/resilver.ts";
import type { NodeOptions } from "../../sidecar/runtime/node.ts";
import type { ReplicaHandle } from "../../sidecar/runtime/ports.ts";
import { Chance } from "./chance.ts";
import type { SimOptions } from "./options.ts";
import { Referee } from "./referee.ts";
import { type Owner, SimProcess, SimTime } from "./sim-clock.ts";
import { type Informer, SimKube } from "./sim-kube.ts";
import { SimNetwork } from "./sim-network.ts";
import { type NodeEvents, SimNode, STORE } from "./sim-node.ts";
import { SimRecordStore } from "./sim-record-store.ts";
import { namespacesOf, placeShards, type SimNamespace, SimShard } from "./sim-shard.ts";
import { isUnopened } from "./shard-referee.ts";
import { simSidecarClient } from "./sim-sidecar-client.ts";
import type { Trace } from "./trace.ts";

/** A supervisor starts a process that ended by itself again after this. */
const RESTART_MS = 200;
/** Real time is precious: states are compared once in so many events of a node. */
const INSPECT_EVERY = 400;

/** What happens, as somebody who waits for a moment in a protocol sees it. */
export type SimStep =
  | { readonly kind: "event"; readonly owner: string; readonly label: string }
  | { readonly kind: "call"; readonly name: string; readonly to: string }
  | { readonly kind: "saved"; readonly record: ShardRecord };

/** A coordinator's process. */
export interface SimCoordinator {
  readonly process: SimProcess;
  readonly coordinator: Coordinator;
}

/** Parts to break, for mutants. */
export interface Alterations {
  readonly alterNode?: (options: NodeOptions) => NodeOptions;
  readonly alterCoordinator?: (options: CoordinatorOptions) => CoordinatorOptions;
}

/** The whole store: nodes, coordinators and the record, with a referee who sees all of it. */
export class SimCluster {
  readonly time: SimTime;
  readonly trace: Trace;
  readonly options: SimOptions;
  readonly network: SimNetwork;
  readonly records: SimRecordStore;
  readonly referee: Referee;
  /** In the order of their numbers, which count from 0. */
  readonly shards: readonly SimShard[];
  /** Null: nodes are processes on machines. */
  readonly kube: SimKube | null;
  readonly nodes: readonly SimNode[];
  readonly coordinators: SimCoordinator[] = [];
  /** Is shown every step. To act on one, schedule an event: this one is not over. */
  probe: (step: SimStep) => void = () => undefined;
  /** Calls and saves until the next coordinator dies at one; 0: none does. */
  coordinatorDiesAfter = 0;
  /** Nodes that are not healed with the others: nothing is owed to them, nor by them. */
  readonly dead = new Set<string>();
  /** Told of each coordinator that starts. */
  coordinatorStarted: (name: string) => void = () => undefined;
  readonly #chance: Chance;
  readonly #recordFaults: { failBefore: number; failAfter: number; staleReads: number };
  readonly #alterCoordinator: (options: CoordinatorOptions) => CoordinatorOptions;
  readonly #namespaces: readonly SimNamespace[];
  readonly #byName: ReadonlyMap<string, SimNode>;
  #started = 0;
  #events = 0;

  constructor(options: SimOptions, seed: Chance, trace: Trace, alterations: Alterations = {}) {
    const chance = (): Chance => new Chance(seed.below(2 ** 31));
    this.#chance = chance();
    this.options = options;
    this.#alterCoordinator = alterations.alterCoordinator ?? ((same) => same);
    this.trace = trace;
    this.time = new SimTime();
    this.time.afterEvent = (owner, label) => this.#settle(owner, label);
    this.network = new SimNetwork(this.time, chance(), { ...options.network });
    this.#recordFaults = { ...options.record, staleReads: options.kube?.staleReads ?? 0 };
    this.records = new SimRecordStore(this.time, this.#recordFaults);
    this.records.onCommit = (record, by, lost) => this.#recordSaved(record, by, lost);
    this.#namespaces = namespacesOf(options.namespaces);
    const placed = placeShards(this.#namespaces);
    const keys = placed.map(({ key }) => key);
    this.referee = new Referee(keys);
    this.shards = placed.map(
      (one) => new SimShard(one, placed.length === 1, this.records, this.referee.of(one.key)),
    );
    const world = {
      time: this.time,
      network: this.network,
      options,
      shards: keys,
      chance: this.#chance,
      alter: alterations.alterNode ?? ((same) => same),
      events: this.#nodeEvents(),
    };
    const names = ["a", "b", "c", "d", "e", "f", "g"].slice(0, options.nodes + options.spares);
    this.nodes = names.map((name) => new SimNode(name, world));
    this.#byName = new Map(this.nodes.map((node) => [node.name, node]));
    this.kube = options.kube === null ? null : new SimKube(this.time, names, options.kube);
    this.records.onChange = (key, version) => this.kube?.recordChanged(key, version);
  }

  #nodeEvents(): NodeEvents {
    const { referee } = this;
    return {
      appendSent: (_from, peer, append) => referee.of(peer).appendSent(peer, append),
      ackSent: (from, peer, ack) => referee.of(peer).ackSent(from, peer, ack),
      snapshotBegun: (from, peer) => referee.of(peer).snapshotBegun(from, peer),
      snapshotAnswered: (from, peer, response) =>
        referee.of(peer).snapshotAnswered(from, peer, response),
      streamArrived: (peer, openedAtMs) => referee.of(peer).streamArrived(peer, openedAtMs),
      logged: (node, line) => this.note(node, line),
      failed: (node, error) => this.#failed(node, error),
    };
  }

  note(who: string, what: string): void {
    this.trace.add(this.time.nowMs, who, what);
  }

  /** The first shard: the only one in most runs, and in all that enumerate something. */
  get shard(): SimShard {
    return this.shards[0] as SimShard;
  }

  /** The shard of that name. Throws a RangeError when there is none. */
  shardOf(key: ShardKey): SimShard {
    const found = this.shards[key.shard];
    if (found?.isOf(key) === true) return found;
    throw new RangeError(`shard: ${key.namespace}/${key.shard}: the store has no such shard`);
  }

  node(name: string): SimNode {
    const found = this.#byName.get(name);
    if (found === undefined) throw new Error(`no node ${name}`);
    return found;
  }

  /** True when some shard's record names a replica there. */
  isMember({ name }: SimNode): boolean {
    return this.shards.some((shard) => shard.hasMember(name));
  }

  boot(node: SimNode): void {
    if (node.process !== null || node.staysDown) return;
    this.note(node.name, "boots");
    node.boot();
  }

  kill(node: SimNode, how: { readonly power: boolean; readonly silent: boolean }): void {
    if (node.process === null) return;
    this.note(node.name, how.power ? "loses power" : "is killed");
    node.kill(how);
    this.referee.ended(node.name);
  }

  bootLater(node: SimNode, delayMs: number): void {
    this.time.after(delayMs, null, `boot ${node.name}`, () => this.boot(node));
  }

  startCoordinator(): SimCoordinator {
    const name = `coordinator-${this.#started}`;
    this.#started += 1;
    const skewMs = this.#chance.below(1_000);
    const process = new SimProcess(
      name,
      this.time,
      new Chance(this.#chance.below(2 ** 31)),
      skewMs,
    );
    const spec: StoreSpec = {
      storeId: STORE,
      nodes: this.nodes.map(({ name: node }) => ({
        node,
        internalAddress: node,
        publicAddress: node,
      })),
      namespaces: this.#namespaces.map(({ name: namespace, shards }) => ({
        name: namespace,
        shards,
        replicationFactor: this.options.nodes,
        keySorting: "hierarchical",
        notifications: false,
      })),
    };
    const informer = this.#informer(process, () => coordinator);
    const coordinator: Coordinator = new Coordinator(
      this.#alterCoordinator({
        spec,
        records: this.records.seenBy(process),
        sidecars: simSidecarClient({
          process,
          network: this.network,
          time: this.time,
          onCall: (call, to) => {
            if (call !== "getInfo") this.note(name, `calls ${call} of ${to}`);
            this.probe({ kind: "call", name: call, to });
            this.#coordinatorStep(process, call);
          },
          podOf: (node) => informer?.podOf(node) ?? null,
          podThere: (node) => this.kube?.of(node).pod ?? null,
          onServing: (call, node, request) => {
            if (!namesShard(request)) return;
            this.referee.of(request).arrived(call, node.name, request);
            // What is asked to go may come back as another replica, also when it was half gone.
            if (call === "deleteShard") this.node(node.name).harmTo(request).retiring = true;
          },
          onServed: (call, node, request, tookMs) => {
            const hindered = this.node(node.name).hinderedUntilMs;
            if (hindered >= this.time.nowMs - tookMs || !namesShard(request)) return;
            this.referee.of(request).served(call, node.name, tookMs);
          },
          onAnswer: (call, node, request, answer) => {
            if (!node.alive || !namesShard(request)) return;
            this.referee.of(request).called(call, node.name, request, answer);
          },
        }),
        platform: informer?.platform() ?? { isStopped: async () => false },
        clock: process.clock,
        events: { emit: (event) => this.note(name, JSON.stringify(event)) },
        policy: {
          mode: "Automatic",
          maxConcurrent: 1,
          cooldownMs: 0,
          cooldownMaxMs: 0,
          cooldownResetMs: 0,
        },
      }),
    );
    coordinator.run().catch((error: Error) => {
      if (process.alive) this.referee.violate("broken", `${name}: ${error.stack ?? ""}`);
    });
    const started = { process, coordinator };
    this.coordinators.push(started);
    this.note(name, "starts");
    this.coordinatorStarted(name);
    return started;
  }

  /** The caches of a coordinator, which tell it of what they learn. */
  #informer(process: SimProcess, coordinator: () => Coordinator): Informer | null {
    if (this.kube === null) return null;
    return this.kube.informer(process, {
      placedChanged: (node, elsewhere) => {
        coordinator().lookAgain(node, elsewhere);
        coordinator().platformChanged();
      },
      recordChanged: (key, version) => coordinator().sawRecord(key, version),
    });
  }

  killCoordinator(which: SimCoordinator): void {
    const at = this.coordinators.indexOf(which);
    if (at === -1) return;
    this.coordinators.splice(at, 1);
    which.process.alive = false;
    this.network.down(which.process, false);
    this.note(which.process.name, "is killed");
  }

  /** From now on the record store answers every call. */
  healRecordStore(): void {
    this.#recordFaults.failBefore = 0;
    this.#recordFaults.failAfter = 0;
    this.#recordFaults.staleReads = 0;
  }

  /** Compares all state machines with each other and with the model. */
  async inspectAll(): Promise<void> {
    for (const shard of this.shards) {
      for (const node of this.nodes) {
        const replica = shard.replicaOn(node);
        if (replica !== null) await shard.referee.inspect(node.name, replica);
      }
    }
  }

  #settle(owner: Owner | null, label: string): Promise<void> | undefined {
    this.note(owner?.name ?? "-", label);
    this.probe({ kind: "event", owner: owner?.name ?? "", label });
    this.#events += 1;
    if (this.#events % 5_000 === 0) this.network.tidy();
    const node = owner === null ? undefined : this.#byName.get(owner.name);
    // What an earlier process of the node did, or a client, is nothing that is seen there.
    if (node === undefined || node.process !== owner) return undefined;
    const inspects = this.#events % INSPECT_EVERY === 0;
    let inspection: Promise<void> | undefined;
    for (const shard of this.shards) {
      const one = this.#look(shard, node, inspects);
      if (one !== undefined) inspection = inspection?.then(() => one) ?? one;
    }
    return inspection;
  }

  /** What a node's replica of a shard is after an event of it; a promise when it is inspected. */
  #look(shard: SimShard, node: SimNode, inspects: boolean): Promise<void> | undefined {
    const { referee } = shard;
    const replica = shard.replicaOn(node);
    const seen = seenOf(replica);
    const harm = node.harmTo(shard.key);
    const { damaged, retiring, wiped } = harm;
    const booted = referee.settle(node.name, seen, { damaged: damaged || retiring, wiped });
    if (replica === null || seen === null) return undefined;
    harm.damaged = false;
    harm.wiped = false;
    harm.corrupted = false;
    if (booted) {
      harm.retiring = false;
      referee.faultInjected();
      shard.sawUid(node.name, seen.replicaUid);
    }
    const due = booted || (inspects && referee.isNews(node.name));
    return due ? referee.inspect(node.name, replica) : undefined;
  }

  #recordSaved(record: ShardRecord, by: SimProcess, lost: boolean): void {
    const members = record.members
      .map(({ node, replicaUid, role }) => `${node}=${replicaUid.slice(0, 4)}:${role}`)
      .join(" ");
    const leader = record.leader?.node ?? "-";
    const sets = voterSetsText(voterSets(record));
    const shard = this.shardOf(record);
    const what = `saves term ${record.term} leader ${leader} ${members} voters ${sets}`;
    this.note(by.name, `${shard.prefix}${what}`);
    if (lost) {
      const newest = shard.record?.generation;
      this.note("-", `${shard.prefix}that goes when generation ${newest} is put back`);
      return;
    }
    for (const member of record.members) {
      if (member.role === "learner") shard.setBack.delete(member.node);
    }
    shard.referee.recordSaved(record);
    this.probe({ kind: "saved", record });
    this.#coordinatorStep(by, "save");
  }

  /** The process stays a moment longer than the call: what it sends at once is on its way. */
  #coordinatorStep(process: SimProcess, step: string): void {
    if (this.coordinatorDiesAfter === 0 || step === "getInfo" || step === "watchStatus") return;
    this.coordinatorDiesAfter -= 1;
    if (this.coordinatorDiesAfter > 0) return;
    const found = this.coordinators.find((one) => one.process === process);
    if (found === undefined) return;
    this.time.after(0, null, `${process.name} dies at ${step}`, () => {
      this.killCoordinator(found);
      this.time.after(RESTART_MS, null, "coordinator restarts", () => {
        if (this.coordinators.length === 0) this.startCoordinator();
      });
    });
  }

  #failed(node: SimNode, error: Error): void {
    this.note(node.name, `ends: ${error.message}`);
    if (!(error instanceof DiskError)) {
      this.referee.violate("broken", `${node.name}: ${error.stack ?? error.message}`);
      return;
    }
    const { process } = node;
    if (process === null) return;
    // At once, as a process that exits: nothing more of it happens.
    this.kill(node, { power: true, silent: false });
    this.bootLater(node, RESTART_MS);
  }
}

/** True for a request that is about one shard. */
function namesShard(request: object): request is ShardKey {
  return "namespace" in request && "shard" in request;
}

/** What a replica says; null: it does not run, or holds nothing yet that it could tell of. */
function seenOf(replica: ReplicaHandle | null): ReplicaStatus | null {
  const status = replica?.status();
  return status === undefined || isUnopened(status) ? null : status;
}
