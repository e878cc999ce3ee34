import { checkLinearizable } from "../linearizability/check.ts";
import type { Operation } from "../linearizability/history.ts";
import type { RecordMember, ShardRecord } from "../../operator/core/record.ts";
import type { ReplicaStatus } from "../../sidecar/protocol/gen/resilver.ts";
import { ServingStatus } from "../../sidecar/protocol/status.ts";
import type { SimCluster } from "./cluster.ts";
import type { Nemesis } from "./nemesis.ts";
import type { SimNode } from "./sim-node.ts";
import type { SimShard } from "./sim-shard.ts";
import type { Workload } from "./workload.ts";

/** Virtual time within which a healthy store starts, and a healed one has recovered (L1, L2). */
const START_MS = 20_000;
const RECOVERY_MS = 60_000;
const ORDER_STEPS_MAX = 200_000;
/** Of the second attempt at a history for which those were too few. */
const ORDER_STEPS_LAST = 5_000_000;

/** What a run waits for, and how it is judged in the end. */
export class StoreLife {
  readonly cluster: SimCluster;
  readonly nemesis: Nemesis;
  readonly workload: Workload;
  /** Longest virtual time that a recovery took. */
  recoveryMs = 0;
  /** An order of all requests was only found, or ruled out, at the second attempt (I18). */
  hardToOrder = false;

  constructor(cluster: SimCluster, nemesis: Nemesis, workload: Workload) {
    this.cluster = cluster;
    this.nemesis = nemesis;
    this.workload = workload;
  }

  /** Boots all nodes and a coordinator; true when the store serves. */
  async start(): Promise<boolean> {
    const { cluster } = this;
    for (const node of cluster.nodes) cluster.boot(node);
    cluster.startCoordinator();
    return this.until("L2", START_MS, () => this.healthy() === null);
  }

  /** L1: every replica votes again within the bound. */
  async recovered(): Promise<boolean> {
    const fromMs = this.cluster.time.nowMs;
    const done = await this.until("L1", RECOVERY_MS, () => this.healthy() === null);
    this.recoveryMs = Math.max(this.recoveryMs, this.cluster.time.nowMs - fromMs);
    return done;
  }

  /** L2: writes are accepted within the bound. */
  async writes(count: number): Promise<boolean> {
    let written = false;
    void this.workload.writeAll(count).then(() => {
      written = true;
    });
    return this.until("L2", RECOVERY_MS, () => written);
  }

  /** Waits; when the bound passes first, `invariant` does not hold. */
  async until(invariant: string, boundMs: number, done: () => boolean): Promise<boolean> {
    const { cluster } = this;
    const reached = await cluster.time.run(boundMs, () => this.broken() || done());
    if (this.broken()) return false;
    if (!reached) {
      const why = this.settled() ?? "writes are not acknowledged";
      const views = cluster.coordinators.map(({ coordinator }) => coordinator.views());
      const seen = cluster.nodes.map((node) => node.replicas().map((one) => one.status()));
      const known = { records: cluster.shards.map(({ record }) => record), views, seen };
      cluster.note("-", JSON.stringify(known, null, 1));
      cluster.referee.violate(invariant, `not within ${boundMs} ms: ${why}`);
    }
    return reached;
  }

  /**
   * The history without puts that nobody answered and no committed entry holds: they never took
   * effect, and each one left doubles the work. Whoever read such a value read what nobody wrote.
   */
  #withoutLost(shard: SimShard, history: readonly Operation[]): readonly Operation[] {
    const { model } = shard.referee;
    return history.filter(({ call, outcome }) => {
      if (outcome.kind !== "unknown" || call.kind !== "put") return true;
      return model.putOf(call.value) !== null;
    });
  }

  /** The nodes of a shard's ensemble that are not left dead: all to whom anything is owed. */
  members({ record }: SimShard): readonly SimNode[] {
    const { nodes, dead } = this.cluster;
    return nodes.filter(({ name }) => record?.ensemble.includes(name) === true && !dead.has(name));
  }

  /** True when an invariant does not hold: the run is over. */
  broken(): boolean {
    return this.cluster.referee.violation !== null;
  }

  /**
   * What keeps the store from being whole, as far as that is owed: whoever is left dead is not
   * missed, nor is a change of the ensemble that waits for it. Null when every other replica votes
   * under a serving leader.
   */
  healthy(): string | null {
    return this.#ofAny((shard) => this.healthyShard(shard));
  }

  /** Also: every replica holds and has applied all of the leader's log. */
  settled(): string | null {
    return this.#ofAny((shard) => this.healthyShard(shard) ?? this.#behind(shard));
  }

  /** What is wrong with the first shard that anything is wrong with. */
  #ofAny(wrong: (shard: SimShard) => string | null): string | null {
    for (const shard of this.cluster.shards) {
      const found = wrong(shard);
      if (found !== null) return `${shard.prefix}${found}`;
    }
    return null;
  }

  /** {@link healthy} of one shard alone. */
  healthyShard(shard: SimShard): string | null {
    const { dead } = this.cluster;
    const { record } = shard;
    if (record === null || record.leader === null) return "nobody leads";
    if (dead.has(record.leader.node)) return `${record.leader.node} leads, which is dead`;
    const change = this.#waitsForDead(record) ? null : unfinishedChange(record);
    if (change !== null) return change;
    const owed = record.members.filter(
      ({ node }) => record.ensemble.includes(node) && !dead.has(node),
    );
    // Asked after each event of a recovery: first what the record alone says.
    const learner = owed.find(({ role }) => role !== "voter");
    if (learner !== undefined) return `${learner.node} is a ${learner.role}`;
    for (const member of owed) {
      const sick = this.#sick(shard, record, member);
      if (sick !== null) return sick;
    }
    const leader = this.#status(shard, record.leader.node);
    if (leader?.status !== ServingStatus.LEADER || !leader.serving)
      return "the leader does not serve";
    const followers = leader.followers.filter(({ node }) => !dead.has(node));
    const fed = owed.filter(({ node }) => followers.some((one) => one.node === node));
    if (fed.length !== owed.length - 1) return "the leader does not feed everybody";
    const idle = followers.find((one) => one.state !== "Stream");
    return idle === undefined ? null : `${idle.node} is fed as ${idle.state}`;
  }

  /** A node that comes, goes, or has to be there for others to go, is dead. */
  #waitsForDead({ ensemble, desired, members }: ShardRecord): boolean {
    const { dead } = this.cluster;
    if (dead.size === 0) return false;
    const changes =
      !sameNodes(ensemble, desired) || members.some(({ node }) => !ensemble.includes(node));
    const concerned = [...ensemble, ...desired, ...members.map(({ node }) => node)];
    return changes && concerned.some((node) => dead.has(node));
  }

  #status(shard: SimShard, node: string): ReplicaStatus | undefined {
    return shard.replicaOn(this.cluster.node(node))?.status();
  }

  #sick(shard: SimShard, record: ShardRecord, member: RecordMember): string | null {
    const status = this.#status(shard, member.node);
    if (status === undefined) return `${member.node} has no replica`;
    if (status.replicaUid !== member.replicaUid) return `${member.node} was wiped`;
    if (status.fault !== "") return `${member.node}: ${status.fault}`;
    return status.term === record.term ? null : `${member.node} is in term ${status.term}`;
  }

  #behind(shard: SimShard): string | null {
    const statuses = this.members(shard).map(({ name }) => this.#status(shard, name));
    const head = Math.max(...statuses.map((status) => status?.head?.offset ?? -1));
    const behind = statuses.find((status) => status?.appliedOffset !== head);
    return behind === undefined
      ? null
      : `${behind.node} applied ${behind.appliedOffset} of ${head}`;
  }

  /**
   * Every acknowledged write is in the model, and every state machine is what the model says (I6).
   */
  async judgeEnd(): Promise<void> {
    await this.cluster.inspectAll();
    for (const shard of this.cluster.shards) this.#judge(shard);
  }

  #judge(shard: SimShard): void {
    const { referee } = shard;
    for (const [value, key] of this.workload.acknowledged(shard)) {
      if (referee.model.putOf(value) !== null) continue;
      referee.violate("I7", `${key}=${value} was acknowledged and is in no committed entry`);
    }
    const history = this.workload.history(shard);
    let verdict = checkLinearizable(history, ORDER_STEPS_MAX);
    if (verdict.kind === "undecided") {
      this.hardToOrder = true;
      verdict = checkLinearizable(this.#withoutLost(shard, history), ORDER_STEPS_LAST);
    }
    if (verdict.kind === "violation") referee.violate("I18", verdict.witness);
    if (verdict.kind === "undecided") {
      const tried = `no order of ${history.length} requests was found, nor ruled out`;
      referee.violate("I18", `${tried}, in ${ORDER_STEPS_LAST} steps`);
    }
    const applied = new Set(
      this.members(shard).map(({ name }) => this.#status(shard, name)?.appliedOffset ?? -1),
    );
    if (applied.size !== 1) referee.violate("I6", `replicas end at ${[...applied].join(", ")}`);
  }
}

/** What of a change of the ensemble is left to do; null: nothing. */
function unfinishedChange({ next, ensemble, desired, members }: ShardRecord): string | null {
  if (next !== undefined) return `the ensemble changes to ${next.ensemble.join(", ")}`;
  if (!sameNodes(ensemble, desired)) {
    return `the ensemble is ${ensemble.join(", ")}, wanted is ${desired.join(", ")}`;
  }
  return members.length === ensemble.length ? null : "not all replicas are members, or too many";
}

function sameNodes(some: readonly string[], others: readonly string[]): boolean {
  return some.length === others.length && some.every((node) => others.includes(node));
}
