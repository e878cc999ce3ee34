/** The coordinator of one store, while this process leads. */
import { createHash } from "node:crypto";
import type { Clock, Timer } from "../../sidecar/lib/ports/clock.ts";
import type { ReplicatedStoreSpec } from "../api/v1alpha1/replicated-store.ts";
import { parseDuration } from "../api/v1alpha1/duration.ts";
import { Coordinator } from "../controller/coordinator.ts";
import type {
  NodeEndpoint,
  Platform,
  RecordStore,
  SidecarClient,
  StoreSpec,
} from "../controller/ports.ts";
import { hasServed } from "../controller/store-status.ts";
import { SHARED_TIMINGS, type Timings } from "../controller/timings.ts";
import { TransferRates } from "../controller/transfer-rate.ts";
import type { CoordinatorEvent } from "../core/events.ts";
import { DEFAULT_RECOVERY_POLICY, type RecoveryPolicy } from "../core/gates.ts";
import { shardKeyText, type ShardKey } from "../core/record.ts";
import type { ShardView } from "../core/status.ts";
import { BeginningShards } from "./beginning-shards.ts";
import { BegunRecoveries } from "./begun-recoveries.ts";
import type { CallSlots } from "./call-slots.ts";
import { recordVersion } from "./record-store.ts";
import type { KubeObject } from "./resources.ts";
import type { StoreParts } from "./store-view.ts";

/** What a runtime is made of. */
export interface StoreRuntimeOptions {
  readonly spec: StoreSpec;
  readonly policy: RecoveryPolicy;
  readonly records: RecordStore;
  readonly sidecars: SidecarClient;
  readonly platform: Platform;
  readonly clock: Clock;
  /** Coordinators that begin wait for their turn here: all at once they would starve each other. */
  readonly starts: CallSlots;
  /** Told after anything that people may see has changed. */
  readonly changed: () => void;
  readonly told: (event: CoordinatorEvent) => void;
  /** Told when a shard's (`namespace/shard`) wish for another ensemble could not be noted. */
  readonly notMoved: (shard: string, error: unknown) => void;
  /** Told when the coordinator must not go on: an invariant broke. */
  readonly broken: (error: unknown) => void;
}

interface SeenRecord {
  readonly key: ShardKey;
  readonly version: string;
}

/** Between two looks at what the coordinator sees. */
const LOOK_MS = 50;

/** A namespace makes another coordinator, which has a shard's first leader elected by then. */
const MADE_MS = 10_000;

/** So long others wait for a store whose pods do not answer. */
const START_MS = 1_000;

/** An election and what follows it are over by then. */
const HAND_OVER_MS = 5_000;

/** See the file's header. */
export class StoreRuntime {
  readonly coordinator: Coordinator;
  readonly storeId: string;
  /** What it was made for; another one needs another runtime. */
  readonly signature: string;
  /** How many pods it looks after. */
  readonly pods: number;
  /** How fast its recoveries go, by pod. */
  readonly rates = new TransferRates();
  /** Those that no object tells of yet. */
  readonly begun = new BegunRecoveries();
  /** Nothing is done to its pods, nor waits to be: leaderships may be spread over them. */
  podsSettled = false;
  readonly #beginning = new BeginningShards();
  /** Uids of voters, by node and shard, kept while another replica is there. */
  readonly #votedUids = new Map<string, string>();
  /** What each pod was at the last look, and where. */
  readonly #podsSeen = new Map<string, { readonly place: string; readonly state: string }>();
  /** All that was seen of pods and claims. */
  #platformSeen = "";
  /** By the name of their object. */
  #recordsSeen: ReadonlyMap<string, SeenRecord> = new Map();
  readonly #running: Promise<void>;
  readonly #clock: Clock;
  readonly #madeAtMs: number;
  /** When each shard was last asked to be led by another node. */
  readonly #handedOver = new Map<string, number>();
  /** Wishes for other ensembles that are not noted yet, by shard. */
  readonly #moving = new Map<string, Promise<void>>();
  readonly #notMoved: StoreRuntimeOptions["notMoved"];
  readonly #stop = new AbortController();
  readonly #changed: () => void;
  #seen = "";
  /** Runs for a while after each look; what changes meanwhile is looked at when it ends. */
  #lookedLately: Timer | null = null;
  #lookAgain = false;

  constructor(options: StoreRuntimeOptions) {
    this.storeId = options.spec.storeId;
    this.signature = runtimeSignature(options.spec, options.policy);
    this.pods = options.spec.nodes.length;
    this.#clock = options.clock;
    this.#madeAtMs = options.clock.monotonicMs();
    this.coordinator = new Coordinator({
      ...options,
      timings: timingsOf(options.spec.storeId),
      podsSettled: () => this.podsSettled,
      events: {
        emit: (event) => {
          this.begun.saw(event);
          options.told(event);
        },
      },
    });
    this.#notMoved = options.notMoved;
    this.#changed = options.changed;
    this.coordinator.onChange(() => this.#lookSoon());
    this.#running = this.#run(options.starts).catch((error: unknown) => {
      // Closed while it waited for its turn; anything else is told of, while closing too.
      if (error !== this.#stop.signal.reason) options.broken(error);
    });
  }

  /** Begins when it is this store's turn; resolves at {@link close}. */
  async #run(starts: CallSlots): Promise<void> {
    let running = Promise.resolve();
    await starts.run(this.#stop.signal, async () => {
      running = this.coordinator.run();
      await Promise.race([this.#looked(), running]);
    });
    await running;
  }

  /** Resolves once all nodes and records were looked at, or it takes too long, or at the end. */
  #looked(): Promise<void> {
    const { signal } = this.#stop;
    return new Promise((resolve) => {
      const done = (): void => {
        timer.cancel();
        signal.removeEventListener("abort", done);
        off();
        resolve();
      };
      const timer = this.#clock.timer(START_MS, done);
      const off = this.coordinator.onChange(() => {
        if (this.coordinator.hasLooked) done();
      });
      signal.addEventListener("abort", done, { once: true });
    });
  }

  /** Since it was made. */
  get ageMs(): number {
    return this.#clock.monotonicMs() - this.#madeAtMs;
  }

  views(): readonly ShardView[] {
    return this.coordinator.views();
  }

  /**
   * Without shards that were only just made: what pods have to be in sync with, and what tells
   * whether the store is available. Not before the coordinator has read all records.
   */
  settledViews(): readonly ShardView[] {
    const settled = this.#beginning.settled(this.views(), this.#clock.monotonicMs());
    return this.ageMs < MADE_MS ? settled.filter((view) => !isBeingMade(view)) : settled;
  }

  /** Uids of the replicas that voted on this node before, by `namespace/shard`. */
  votedUids(node: string): ReadonlyMap<string, string> {
    const uids = new Map<string, string>();
    for (const [key, uid] of this.#votedUids) {
      const [owner = "", shard = ""] = key.split(" ");
      if (owner === node) uids.set(shard, uid);
    }
    return uids;
  }

  /**
   * Has the coordinator look for pods that are others, or elsewhere, than at the last look, plan
   * anew when anything of pods or claims is other, and read records that somebody else changed: it
   * looks at none of these by itself, or seldom.
   */
  saw({ pods, claims, shards }: StoreParts): void {
    for (const { name, uid, ip, sidecarReady, sidecar } of pods) {
      const place = `${uid} ${ip}`;
      const state = `${sidecarReady} ${sidecar}`;
      const before = this.#podsSeen.get(name);
      if (before?.place === place && before.state === state) continue;
      this.#podsSeen.set(name, { place, state });
      // One that is seen first was looked for there already.
      this.coordinator.lookAgain(name, before !== undefined && before.place !== place);
    }
    const platform = JSON.stringify([pods, [...claims]]);
    if (platform !== this.#platformSeen) this.coordinator.platformChanged();
    this.#platformSeen = platform;
    this.#sawRecords(shards);
  }

  /** Only what is new here is told: the cache is often behind what the coordinator just saved. */
  #sawRecords(shards: readonly KubeObject[]): void {
    const now = new Map(shards.map((object) => [object.metadata.name, seenRecord(object)]));
    for (const [name, { key, version }] of now) {
      if (this.#recordsSeen.get(name)?.version !== version) {
        this.coordinator.sawRecord(key, version);
      }
    }
    for (const [name, { key }] of this.#recordsSeen) {
      if (!now.has(name)) this.coordinator.sawRecord(key, "");
    }
    this.#recordsSeen = now;
  }

  /**
   * Has the shard (`namespace/shard`) led by the node, if it may. An election of its own each time:
   * it is not asked for again before the last one had its time.
   */
  handOver(shard: string, node: string): void {
    const nowMs = this.#clock.monotonicMs();
    const askedAtMs = this.#handedOver.get(shard) ?? Number.NEGATIVE_INFINITY;
    if (nowMs - askedAtMs < HAND_OVER_MS) return;
    const key = this.views().find((view) => shardKeyText(view) === shard);
    if (key === undefined) return;
    this.#handedOver.set(shard, nowMs);
    this.coordinator.preferLeader(key, node);
  }

  /** Asks for another ensemble of a shard, unless it has not noted the last wish yet. */
  moveTo(key: ShardKey, ensemble: readonly string[]): void {
    const shard = shardKeyText(key);
    if (this.#moving.has(shard)) return;
    const noted = this.coordinator
      .changeEnsemble(key, ensemble)
      .catch((error: unknown) => {
        if (!this.#stop.signal.aborted) this.#notMoved(shard, error);
      })
      .finally(() => this.#moving.delete(shard));
    this.#moving.set(shard, noted);
  }

  /** Stops deciding; the store serves on. */
  async close(): Promise<void> {
    this.#stop.abort(new Error("the coordinator is closing"));
    await this.coordinator.close();
    await Promise.all(this.#moving.values());
    await this.#running;
    this.#lookedLately?.cancel();
  }

  /** At once, and no more than once in a while: a start brings dozens of changes. */
  #lookSoon(): void {
    if (this.#lookedLately !== null) {
      this.#lookAgain = true;
      return;
    }
    this.#lookAgain = false;
    this.#lookedLately = this.#clock.timer(LOOK_MS, () => {
      this.#lookedLately = null;
      if (this.#lookAgain) this.#lookSoon();
    });
    this.#look();
  }

  #look(): void {
    // Of a shard that is only being made this has to be known before it serves; one whose record
    // was not read yet looks like one.
    if (this.coordinator.hasRead) this.settledViews();
    const seen = digest(this.coordinator.views());
    if (seen === this.#seen) return;
    this.#seen = seen;
    this.#noteVoters();
    this.#changed();
  }

  #noteVoters(): void {
    for (const view of this.views()) {
      for (const { node, uid, voting } of view.replicas) {
        if (voting) this.#votedUids.set(`${node} ${shardKeyText(view)}`, uid);
      }
    }
  }
}

/** Nothing was ever written to it, and nobody is missing who could keep it from its start. */
function isBeingMade(view: ShardView): boolean {
  if (hasServed(view) || view.stop !== null) return false;
  return view.replicas.every(({ reach }) => reach === "up");
}

/** Whoever wrote it may have left out what it is of. */
function seenRecord(object: KubeObject): SeenRecord {
  const { namespace = "", shard = -1 } = (object["spec"] ?? {}) as Partial<ShardKey>;
  return { key: { namespace, shard }, version: recordVersion(object) };
}

/** Differs when a coordinator has to be made anew. */
export function runtimeSignature(spec: StoreSpec, policy: RecoveryPolicy): string {
  return JSON.stringify([spec, policy]);
}

/**
 * Stores that had pods on one machine rest from the same moment on when it is back: each waits for
 * up to twice as long before it spreads its leaders, so that not all hold elections together.
 */
export function timingsOf(storeId: string): Timings {
  const share = createHash("sha256").update(storeId).digest().readUInt32BE() / 2 ** 32;
  const balanceAfterMs = Math.round(SHARED_TIMINGS.balanceAfterMs * (1 + share));
  return { ...SHARED_TIMINGS, balanceAfterMs };
}

/** The part of a coordinator's spec that follows from a store's. */
export function coordinatorSpec(
  spec: ReplicatedStoreSpec,
  storeId: string,
  nodes: readonly NodeEndpoint[],
): StoreSpec {
  return {
    storeId,
    nodes,
    namespaces: spec.namespaces.map(
      ({ name, shards, replicationFactor, keySorting, notifications }) => ({
        name,
        shards,
        keySorting,
        notifications,
        ...(replicationFactor === undefined ? {} : { replicationFactor }),
      }),
    ),
  };
}

/** How recoveries of a store are paced. */
export function recoveryPolicy({ recovery }: ReplicatedStoreSpec): RecoveryPolicy {
  return {
    ...DEFAULT_RECOVERY_POLICY,
    mode: recovery.mode,
    maxConcurrent: recovery.maxConcurrent,
    cooldownMs: parseDuration(recovery.cooldown) ?? DEFAULT_RECOVERY_POLICY.cooldownMs,
  };
}

/** What people see of the shards, without what moves all the time. */
function digest(views: readonly ShardView[]): string {
  return JSON.stringify(
    views.map(({ term, leader, serving, stop, replicas, ensemble }) => [
      term,
      leader,
      serving,
      stop?.reason,
      ensemble,
      replicas.map(({ node, uid, reach, role, voting, phase }) => [
        node,
        uid,
        reach,
        role,
        voting,
        phase,
      ]),
    ]),
  );
}
