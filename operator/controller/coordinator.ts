/**
 * The coordinator of one store: watches its nodes, runs a loop per shard, tells nodes who leads.
 * The same code runs in local mode, on Kubernetes and in the simulator; what differs is behind the
 * ports.
 *
 * It may be killed at any time: what counts is in the record, all else is seen again.
 */
import type { Clock } from "../../sidecar/lib/ports/clock.ts";
import { ProtocolError } from "../../sidecar/protocol/errors.ts";
import type { ShardAssignments } from "../../sidecar/protocol/gen/oxia-client.ts";
import {
  shardAssignments,
  standIns,
  type LeaderAddress,
  type StandIn,
} from "../core/assignment.ts";
import type { CoordinatorEvents } from "../core/events.ts";
import type { ForceQuorumOrder } from "../core/force-quorum.ts";
import { DEFAULT_RECOVERY_POLICY, type RecoveryPolicy } from "../core/gates.ts";
import type { ObservedNode, OpenRefusal } from "../core/observed.ts";
import { countLeaderships } from "../core/placement.ts";
import {
  newRecord,
  RecordInvalid,
  shardKeyText,
  type NewRecord,
  type ShardKey,
} from "../core/record.ts";
import type { ShardView } from "../core/status.ts";
import { AssignmentFeed } from "./assignment-feed.ts";
import { confirmNodes } from "./confirm-nodes.ts";
import { LeaderBalance } from "./leader-balance.ts";
import { NodeWatch } from "./node-watch.ts";
import { placeAll, type PlacedShard } from "./placed-shards.ts";
import type { NodeEndpoint, Platform, RecordStore, SidecarClient, StoreSpec } from "./ports.ts";
import { RecordKeeper } from "./record-keeper.ts";
import { RecoveringNodes } from "./recovering-nodes.ts";
import { ShardLoop, type Surroundings } from "./shard-loop.ts";
import type { StepResult } from "./shard-steps.ts";
import { DEFAULT_TIMINGS, type Timings } from "./timings.ts";

/** What a coordinator is made of. */
export interface CoordinatorOptions {
  readonly spec: StoreSpec;
  readonly records: RecordStore;
  readonly sidecars: SidecarClient;
  readonly platform: Platform;
  readonly clock: Clock;
  readonly events: CoordinatorEvents;
  readonly policy?: RecoveryPolicy;
  readonly timings?: Timings;
  /**
   * False while the platform changes pods, or is about to: leaders stay where they are until then.
   * Absent: always true.
   */
  readonly podsSettled?: () => boolean;
}

interface HeardRefusal extends OpenRefusal {
  readonly bootId: number;
}

export class Coordinator {
  readonly #options: CoordinatorOptions;
  readonly #timings: Timings;
  readonly #watches = new Map<string, NodeWatch>();
  readonly #feeds = new Map<string, AssignmentFeed>();
  readonly #loops = new Map<string, ShardLoop>();
  readonly #placed: readonly PlacedShard[];
  /** Ends what people asked for. */
  readonly #abort = new AbortController();
  /**
   * One for each part that runs: a single signal would gather a listener per pending call of the
   * store.
   */
  readonly #parts: AbortController[] = [];
  readonly #claims = new Map<string, number>();
  readonly #recovering: RecoveringNodes;
  /** Last known leader of each shard: clients are sent there until another leads. */
  readonly #lastLeaders = new Map<string, string>();
  /** Shards whose record was asked for; not `read`: none was believed yet, or `error` says why. */
  readonly #recordsAsked = new Map<string, { readonly read: boolean; readonly error?: string }>();
  /** By node and shard. Only of the process that refused: the next one may have other volumes. */
  readonly #refusals = new Map<string, HeardRefusal>();
  readonly #listeners = new Set<() => void>();
  readonly #balance: LeaderBalance;
  #orderedUids: ReadonlySet<string> = new Set();
  #assignments = "";
  /** Clients of some shard are sent to a node that neither leads nor led it. */
  #standsIn = false;
  /** Clients are told nothing yet: a shard without a record is new, or its nodes know better. */
  #unheard = false;
  #running: Promise<void> | null = null;

  /** Throws a RangeError for a spec that cannot be right; it names the field. */
  constructor(options: CoordinatorOptions) {
    this.#options = options;
    this.#timings = options.timings ?? DEFAULT_TIMINGS;
    this.#recovering = new RecoveringNodes(options.clock);
    this.#placed = placeAll(options.spec);
    for (const endpoint of options.spec.nodes) this.#addNode(endpoint);
    for (const placed of this.#placed) this.#addShard(placed);
    this.#balance = this.#leaderBalance(options);
  }

  /** Starts everything; resolves at {@link close}, rejects when an invariant broke. */
  run(): Promise<void> {
    this.#running ??= this.#runAll();
    return this.#running;
  }

  /** Stops everything. The store serves on without. */
  async close(): Promise<void> {
    this.#endAll(new Error("the coordinator is closing"));
    await this.#running?.catch(() => undefined);
  }

  /** All shards as people should see them, in the order of the spec. */
  views(): readonly ShardView[] {
    return [...this.#loops.values()].map((loop) => loop.view());
  }

  /**
   * True once each record was read and each node was heard of, or not within the time it has:
   * until then the views tell of what this coordinator does not know yet, not of the store.
   */
  get hasLooked(): boolean {
    return this.hasRead && [...this.#watches.values()].every(({ reach }) => reach !== "unknown");
  }

  /** True once each record was read: until then a view may tell of a shard that never existed. */
  get hasRead(): boolean {
    return this.#recordsAsked.size >= this.#placed.length && this.unread.length === 0;
  }

  /** Records that could not be read yet, and why; one that was read and makes no sense is none. */
  get unread(): readonly string[] {
    return [...this.#recordsAsked].flatMap(([name, { error }]) =>
      error === undefined ? [] : [`${name}: ${error}`],
    );
  }

  /**
   * The platform saw the node come back: it is tried at once. `elsewhere`: it is another process,
   * or at another address, than before.
   */
  lookAgain(node: string, elsewhere = false): void {
    this.#watches.get(node)?.retryNow(elsewhere);
  }

  /** What the platform says of pods and claims may be other than it was. */
  platformChanged(): void {
    for (const loop of this.#loops.values()) loop.notify();
  }

  /** The platform saw the record of this shard in this version; "": that there is none. */
  sawRecord(key: ShardKey, version: string): void {
    this.#loops.get(shardKeyText(key))?.sawRecord(version);
  }

  /** Calls `changed` after anything seen or recorded changed. Returns the unsubscriber. */
  onChange(changed: () => void): () => void {
    this.#listeners.add(changed);
    return () => {
      this.#listeners.delete(changed);
    };
  }

  /**
   * Has the shard led by `node` if it may, else by another than now; an order, not a promise.
   * Throws a RangeError for an unknown shard.
   */
  preferLeader(key: ShardKey, node: string): void {
    this.#loop(key).preferLeader({ prefer: node, why: "Requested" });
  }

  /** Moves the shard to other nodes, one at a time. Resolves when the wish is recorded. */
  async changeEnsemble(key: ShardKey, nodes: readonly string[]): Promise<void> {
    await this.#loop(key).changeEnsemble(nodes, this.#abort.signal);
  }

  /**
   * Lets the rebuilds of these replicas begin, by a person's order: all that are ordered now. What
   * was ordered before and is not named ends with it.
   */
  orderRebuilds(uids: ReadonlySet<string>): void {
    const same =
      uids.size === this.#orderedUids.size && [...uids].every((uid) => this.#orderedUids.has(uid));
    if (same) return;
    this.#orderedUids = new Set(uids);
    for (const loop of this.#loops.values()) loop.notify();
  }

  /**
   * Carries out a person's order to go on with one survivor. Throws a RangeError that says why not.
   */
  async forceQuorum(key: ShardKey, order: ForceQuorumOrder): Promise<void> {
    const { platform } = this.#options;
    const { signal } = this.#abort;
    await this.#loop(key).forceQuorum(
      order,
      (node, bounded) => platform.isStopped(node, bounded),
      signal,
    );
  }

  #loop(key: ShardKey): ShardLoop {
    const loop = this.#loops.get(shardKeyText(key));
    if (loop !== undefined) return loop;
    throw new RangeError(
      `shard: ${shardKeyText(key)} is none of ${[...this.#loops.keys()].join(", ")}`,
    );
  }

  async #runAll(): Promise<void> {
    const parts = [
      ...[...this.#watches.values()].map((watch) => watch.run(this.#newPart())),
      ...[...this.#feeds.values()].map((feed) => feed.run(this.#newPart())),
      ...[...this.#loops.values()].map((loop) => loop.run(this.#newPart())),
      this.#balance.run(this.#newPart()),
    ];
    try {
      await Promise.all(parts);
    } finally {
      this.#endAll(new Error("the coordinator has failed"));
      await Promise.allSettled(parts);
    }
  }

  #newPart(): AbortSignal {
    const part = new AbortController();
    if (this.#abort.signal.aborted) part.abort(this.#abort.signal.reason);
    this.#parts.push(part);
    return part.signal;
  }

  #endAll(reason: Error): void {
    this.#abort.abort(reason);
    for (const part of this.#parts) part.abort(reason);
  }

  #addNode(endpoint: NodeEndpoint): void {
    const { sidecars, clock, events } = this.#options;
    const changed = (): void => {
      feed.reachable(watch.reach === "up" || watch.reach === "silent");
      for (const loop of this.#loops.values()) loop.notify();
      // Who stands in for a leader is chosen by what is seen of the nodes.
      if (this.#standsIn || this.#unheard) this.#pushAssignments();
      this.#tellListeners();
    };
    const timings = this.#timings;
    const feed = new AssignmentFeed(endpoint, sidecars, clock, timings);
    const watch = new NodeWatch({ endpoint, sidecars, clock, events, timings, changed });
    this.#watches.set(endpoint.node, watch);
    this.#feeds.set(endpoint.node, feed);
  }

  #addShard(placed: PlacedShard): void {
    const { sidecars, clock, events, policy } = this.#options;
    const key = { namespace: placed.start.namespace, shard: placed.start.shard };
    const context = {
      key,
      keeper: new RecordKeeper(this.#notedRecords(), placed.start),
      sidecars,
      clock,
      events,
      policy: policy ?? DEFAULT_RECOVERY_POLICY,
      timings: this.#timings,
      endpoint: (node: string) => this.#watches.get(node)?.endpoint ?? null,
    };
    this.#loops.set(shardKeyText(key), new ShardLoop(context, this.#surroundings(key)));
  }

  #leaderBalance({ clock, podsSettled }: CoordinatorOptions): LeaderBalance {
    const loops = [...this.#loops];
    return new LeaderBalance({
      clock,
      timings: this.#timings,
      shards: () =>
        loops.map(([name, { record }]) => {
          return { name, leader: record.leader?.node ?? null, ensemble: record.ensemble };
        }),
      isAtRest: () => (podsSettled?.() ?? true) && loops.every(([, loop]) => loop.isAtRest),
      handOver: ({ shard, to }) =>
        this.#loops.get(shard)?.preferLeader({ prefer: to, why: "LeadersUneven" }),
    });
  }

  /** The record store, noting which records cannot be read. */
  #notedRecords(): RecordStore {
    const { records } = this.#options;
    return {
      read: async (key, signal) => {
        const name = shardKeyText(key);
        try {
          return await records.read(key, signal);
        } catch (error) {
          this.#noteUnread(name, error);
          throw error;
        }
      },
      create: (record, signal) => records.create(record, signal),
      replace: (record, version, signal) => records.replace(record, version, signal),
    };
  }

  #noteUnread(name: string, error: unknown): void {
    const before = this.#recordsAsked.get(name);
    if (before?.read === true) return;
    const reason = error instanceof Error ? error.message : String(error);
    const noted = error instanceof RecordInvalid ? {} : { error: reason };
    this.#recordsAsked.set(name, { read: false, ...noted });
    if (before === undefined) this.#pushAssignments();
  }

  #surroundings(key: ShardKey): Surroundings {
    return {
      observe: () => ({
        nodes: this.#observeNodes(key),
        recoveringNodes: this.#recoveringNodes(),
        orderedUids: this.#orderedUids,
      }),
      leaderships: () =>
        countLeaderships([...this.#loops.values()].map((loop) => loop.record.leader?.node ?? null)),
      learned: (result) => {
        this.#learned(key, result);
      },
      refused: (node, error) => {
        this.#refused(key, node, error);
      },
      recordKnown: () => {
        this.#recordsAsked.set(shardKeyText(key), { read: true });
        this.#balance.stepDone();
        this.#pushAssignments();
        this.#tellListeners();
      },
      claimRecovery: (node) => this.#claimRecovery(node),
      confirm: async (nodes, enough, signal) => {
        const ask = (node: string, each: AbortSignal): Promise<boolean> => this.answers(node, each);
        return confirmNodes(nodes, ask, enough, signal);
      },
    };
  }

  /** True when the process of the node that was heard of last answers now. */
  async answers(node: string, signal: AbortSignal): Promise<boolean> {
    return (await this.#watches.get(node)?.confirm(signal)) === true;
  }

  #observeNodes(key: ShardKey): ReadonlyMap<string, ObservedNode> {
    const nodes = new Map<string, ObservedNode>();
    for (const [node, watch] of this.#watches) {
      nodes.set(node, {
        node,
        reach: watch.reach,
        replica: watch.replica(key),
        openRefusal: this.#openRefusal(node, key),
        volumeTerminating: this.#options.platform.isVolumeTerminating?.(node) ?? false,
        claims: this.#options.platform.claims?.(node) ?? null,
      });
    }
    return nodes;
  }

  #openRefusal(node: string, key: ShardKey): HeardRefusal | null {
    if (this.#refusals.size === 0) return null;
    const refusal = this.#refusals.get(`${node} ${shardKeyText(key)}`) ?? null;
    return refusal?.bootId === this.#watches.get(node)?.bootId ? refusal : null;
  }

  #recoveringNodes(): ReadonlySet<string> {
    const nodes = new Set(this.#claims.keys());
    for (const loop of this.#loops.values()) {
      const seen = (node: string): Pick<ObservedNode, "reach" | "replica"> | undefined => {
        const watch = this.#watches.get(node);
        return watch && { reach: watch.reach, replica: watch.replica(loop.context.key) };
      };
      for (const node of this.#recovering.of(loop.record, seen)) nodes.add(node);
    }
    return nodes;
  }

  #claimRecovery(node: string): () => void {
    this.#claims.set(node, (this.#claims.get(node) ?? 0) + 1);
    return () => {
      const left = (this.#claims.get(node) ?? 1) - 1;
      if (left === 0) this.#claims.delete(node);
      else this.#claims.set(node, left);
    };
  }

  #learned(key: ShardKey, result: StepResult): void {
    if (result.opened !== undefined) {
      this.#refusals.delete(`${result.opened.node} ${shardKeyText(key)}`);
      this.#watches.get(result.opened.node)?.learn(result.opened.replica);
    }
    if (result.retired !== undefined) this.#watches.get(result.retired)?.forget(key);
  }

  #refused(key: ShardKey, node: string, error: unknown): void {
    if (!(error instanceof ProtocolError)) return;
    const { reason, message, metadata } = error;
    const bootId = this.#watches.get(node)?.bootId ?? 0;
    const dataOf =
      reason === "WRONG_STORE" && metadata["field"] === "storeId" ? metadata["value"] : undefined;
    const refusal = { bootId, reason, message, dataOf: dataOf ?? null };
    this.#refusals.set(`${node} ${shardKeyText(key)}`, refusal);
  }

  #pushAssignments(): void {
    // A namespace that is only not known of yet must not be taken from clients.
    if (this.#recordsAsked.size < this.#placed.length) return;
    this.#unheard =
      [...this.#watches.values()].some(({ reach }) => reach === "unknown") &&
      [...this.#loops.values()].some(({ record }) => !record.initialized);
    if (this.#unheard) return;
    const assignments = this.#currentAssignments();
    const text = JSON.stringify(assignments);
    if (text === this.#assignments) return;
    this.#assignments = text;
    for (const feed of this.#feeds.values()) feed.set(assignments);
  }

  #currentAssignments(): ShardAssignments {
    this.#standsIn = false;
    const leaders = this.#placed.map((placed): LeaderAddress => {
      const { start, index, shards } = placed;
      const address = this.#clientAddress(start);
      return { namespace: start.namespace, shard: start.shard, index, shards, address };
    });
    return shardAssignments(leaders);
  }

  /** Where clients of a shard are sent: to who leads or led, else to who can tell or refuse. */
  #clientAddress(start: NewRecord): string | null {
    const name = shardKeyText(start);
    const loop = this.#loops.get(name);
    const record = loop?.record ?? newRecord(start);
    const leader = record.leader?.node ?? this.#lastLeaders.get(name);
    if (leader !== undefined) this.#lastLeaders.set(name, leader);
    // A record that cannot be read, or is lost, is one: its shard was placed as a new one would be.
    const unread = this.#recordsAsked.get(name)?.read === false || loop?.distrustsRecord === true;
    const exists = record.initialized || unread;
    const others = standIns({ ...record, initialized: exists }, (node) =>
      this.#standIn(node, start),
    );
    for (const node of leader === undefined ? others : [leader, ...others]) {
      const address = this.#watches.get(node)?.endpoint.publicAddress;
      if (address === undefined) continue;
      if (node !== leader) this.#standsIn = true;
      return address;
    }
    return null;
  }

  #standIn(node: string, key: ShardKey): StandIn {
    const watch = this.#watches.get(node);
    if (watch?.reach !== "up") return "away";
    if (this.#openRefusal(node, key)?.reason === "WRONG_STORE") return "stopped";
    return (watch.replica(key)?.fault ?? "") === "" ? "answers" : "stopped";
  }

  #tellListeners(): void {
    for (const listener of this.#listeners) listener();
  }
}
