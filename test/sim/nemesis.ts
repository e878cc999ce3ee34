import type { Chance } from "./chance.ts";
import type { SimCluster } from "./cluster.ts";
import { recordsOf } from "./damaged-record.ts";
import { type DiskImage, imageOf, termsOf } from "./disk-image.ts";
import { DISK_FAULTS, DiskFaults } from "./disk-faults.ts";
import { FaultAtlas } from "./fault-atlas.ts";
import { KubeNemesis } from "./kube-nemesis.ts";
import { LINK_FAULTS, LinkFaults } from "./link-faults.ts";
import { type Fault, isKubeFault, type QuietTime } from "./options.ts";
import type { SimNode } from "./sim-node.ts";
import type { SimShard } from "./sim-shard.ts";

const WIPES = [["wal", "state"], ["wal"], ["state"]] as const;
const COORDINATOR_DOWN_MS = 1_500;
const COORDINATORS_MAX = 2;
/** What piled up while a node was held up is done by then. */
const HINDRANCE_LASTS_MS = 5_000;

/**
 * Does harm, of the kinds its options name, and undoes it. It never destroys what nobody is owed: a
 * wipe, or damage to a disk, must leave a majority of the ensemble of voters with their data (the
 * fault atlas).
 */
export class Nemesis {
  /** Faults injected, by kind. */
  readonly injected = new Map<Fault, number>();
  /** Faults that were not injected: they would have destroyed what is owed to somebody. */
  readonly spared = new Map<Fault, number>();
  /** Disks of which everything, or one volume, was lost. */
  wipes = 0;
  /** Disks that became older images of themselves. */
  rollbacks = 0;
  /** Files of which something changed, or was not written, unnoticed. */
  damages = 0;
  readonly #cluster: SimCluster;
  readonly #chance: Chance;
  readonly atlas: FaultAtlas;
  readonly #disks: DiskFaults;
  readonly #links: LinkFaults;
  #stopped = false;
  #gapMs: number;
  /** How much longer harm lasts than in a hurry. */
  #stretch = 1;
  /** Null: there is no Kubernetes. */
  readonly kube: KubeNemesis | null;

  constructor(cluster: SimCluster, chance: Chance) {
    this.#gapMs = cluster.options.faultGapMs;
    this.#cluster = cluster;
    this.#chance = chance;
    this.atlas = new FaultAtlas(cluster);
    const { kube } = cluster;
    const bounds = {
      atlas: this.atlas,
      setBack: (node: SimNode, image: DiskImage): void => this.setBack(node, image),
      wiped: (): void => void (this.wipes += 1),
      below: (ms: number): number => this.#below(ms),
      anyShard: (): SimShard => this.anyShard(),
      later: (delayMs: number, act: () => void): void => this.#later(delayMs, act),
    };
    this.kube = kube === null ? null : new KubeNemesis(cluster, kube, chance, bounds);
    const later = (delayMs: number, act: () => void): void =>
      this.#later(delayMs * this.#stretch, act);
    const damaged = (): void => {
      this.damages += 1;
    };
    const mayLose = (node: SimNode): boolean => this.atlas.mayLose(node);
    this.#disks = new DiskFaults({ cluster, chance, later, mayLose, damaged });
    this.#links = new LinkFaults({ cluster, chance, later });
  }

  /** Begins; goes on until {@link heal}. */
  start(): void {
    const named = this.#cluster.options.faults;
    const faults = named.filter((fault) => this.kube !== null || !isKubeFault(fault));
    if (faults.length === 0) return;
    const next = (): void => {
      if (this.#stopped) return;
      const fault = faults[this.#chance.below(faults.length)] as Fault;
      if (this.#inject(fault)) {
        this.injected.set(fault, (this.injected.get(fault) ?? 0) + 1);
        this.#cluster.referee.faultInjected();
      }
      this.#later(this.#gapMs * 2 * this.#chance.unit(), next);
    };
    this.#later(this.#gapMs, next);
  }

  /** Goes on with fewer faults, which last longer. */
  slowDown({ ms, faultGapMs, stretch, unwatched }: QuietTime): void {
    const cluster = this.#cluster;
    this.#gapMs = faultGapMs;
    this.#stretch = stretch;
    // Two at once are an accident that is over soon.
    for (const one of cluster.coordinators.slice(unwatched === 0 ? 1 : 0)) {
      cluster.killCoordinator(one);
    }
    if (unwatched === 0) return;
    this.#later(unwatched * ms, () => {
      if (cluster.coordinators.length === 0) cluster.startCoordinator();
    });
  }

  /** Ends all faults; whatever is down comes up. */
  heal(): void {
    this.#stopped = true;
    this.#stretch = 1;
    const cluster = this.#cluster;
    cluster.network.unblockAll();
    cluster.healRecordStore();
    this.kube?.heal();
    cluster.coordinatorDiesAfter = 0;
    for (const node of cluster.nodes) {
      node.dieAfterOperations = 0;
      node.speed.factor = 1;
      node.disk.failSyncs(() => false);
      node.disk.setQuota(Number.POSITIVE_INFINITY);
      node.disk.healReads();
      node.disk.setAstray(null);
      if (node.process !== null) cluster.time.resume(node.process);
      cluster.boot(node);
    }
    for (const extra of cluster.coordinators.slice(1)) cluster.killCoordinator(extra);
    if (cluster.coordinators.length === 0) cluster.startCoordinator();
  }

  /** True when the fault could be injected now. */
  #inject(fault: Fault): boolean {
    const node = this.#pick(this.#cluster.nodes);
    if (node === undefined) return false;
    if (isOneOf(LINK_FAULTS, fault)) return this.#links.inject(fault, node);
    if (isOneOf(DISK_FAULTS, fault)) {
      if (node.process === null) return false;
      return this.#mayHarm(fault, node) && this.#disks.inject(fault, node);
    }
    switch (fault) {
      case "crash":
      case "powerLoss":
      case "crashAtDiskOperation":
      case "allRestart":
      case "wipe":
      case "wipeDuringRecovery":
      case "wipeShard":
      case "corrupt":
      case "syncError":
      case "slowDisk":
      case "pause":
      case "rollback":
      case "fillDisk":
      case "jumpClock":
        return this.#hurtNode(fault, node);
      case "isolate":
      case "oneWay":
      case "cutPair":
      case "cutCoordinator":
      case "sever":
        return this.#hurtNetwork(fault, node);
      case "coordinatorCrash":
      case "coordinatorCrashAtStep":
      case "secondCoordinator":
      case "moveLeader":
      case "changeEnsemble":
        return this.#hurtCoordinator(fault, node);
      default:
        return this.kube?.inject(fault, node) ?? false;
    }
  }

  #hurtNode(fault: Fault, node: SimNode): boolean {
    const cluster = this.#cluster;
    if (fault === "allRestart") {
      for (const each of cluster.nodes) this.#crash(each, true);
      return true;
    }
    if (fault === "wipeDuringRecovery") return this.#wipeLearner();
    if (node.process === null) return false;
    switch (fault) {
      case "crash":
      case "powerLoss":
        this.#crash(node, fault === "powerLoss");
        return true;
      case "crashAtDiskOperation":
        node.dieAfterOperations = 1 + this.#chance.below(60);
        return true;
      case "wipe":
        return this.#wipe(fault, node);
      case "wipeShard":
        return this.#wipeShard(node);
      case "corrupt":
        return this.#corrupt(node);
      case "rollback":
        return this.#rollBack(node);
      case "fillDisk":
        return this.#fillDisk(node);
      case "jumpClock":
        node.skewMs += this.#chance.below(120_000) - 60_000;
        node.process.skewMs = node.skewMs;
        cluster.note(node.name, `its wall clock is off by ${node.skewMs} ms`);
        return true;
      case "syncError":
        cluster.note(node.name, "its next syncs fail");
        node.disk.failSyncs(() => true);
        this.#later(this.#chance.below(300), () => node.disk.failSyncs(() => false));
        return true;
      case "slowDisk":
        node.speed.factor = 10 + this.#chance.below(100);
        this.#later(this.#hinder(node, this.#below(3_000)), () => {
          node.speed.factor = 1;
        });
        return true;
      default:
        node.process.pausedUntilMs = Math.max(
          node.process.pausedUntilMs,
          cluster.time.nowMs + this.#hinder(node, this.#below(4_000)),
        );
        cluster.note(node.name, "is stopped for a while");
        return true;
    }
  }

  #hurtNetwork(fault: Fault, node: SimNode): boolean {
    const { network, nodes, coordinators } = this.#cluster;
    const others = nodes.filter((other) => other !== node).map(({ name }) => name);
    const leaders = coordinators.map(({ process }) => process.name);
    const other = this.#pick(others) ?? "";
    const pairs: [string, string][] = [];
    const both = (a: string, b: string): unknown => pairs.push([a, b], [b, a]);
    if (fault === "isolate") for (const name of [...others, ...leaders]) both(node.name, name);
    if (fault === "cutCoordinator") for (const name of leaders) both(node.name, name);
    if (fault === "cutPair") both(node.name, other);
    if (fault === "oneWay") pairs.push([node.name, other]);
    if (fault === "sever") {
      return (
        network.sever(node.name, this.#pick([other, ...leaders]) ?? "", this.#chance.happens(0.5)) >
        0
      );
    }
    for (const [from, to] of pairs) network.block(from, to);
    this.#cluster.note("network", `blocks ${pairs.map((pair) => pair.join(">")).join(" ")}`);
    this.#later(200 + this.#below(4_000), () => {
      this.#cluster.note("network", `frees ${pairs.map((pair) => pair.join(">")).join(" ")}`);
      for (const [from, to] of pairs) network.unblock(from, to);
    });
    return true;
  }

  #hurtCoordinator(fault: Fault, node: SimNode): boolean {
    const cluster = this.#cluster;
    const victim = this.#pick(cluster.coordinators);
    switch (fault) {
      case "coordinatorCrash":
        if (victim === undefined) return false;
        cluster.killCoordinator(victim);
        this.#later(this.#below(COORDINATOR_DOWN_MS), () => {
          if (cluster.coordinators.length === 0) cluster.startCoordinator();
        });
        return true;
      case "coordinatorCrashAtStep":
        cluster.coordinatorDiesAfter = 1 + this.#chance.below(12);
        return true;
      case "secondCoordinator":
        return this.#secondCoordinator();
      case "changeEnsemble":
        return this.#changeEnsemble();
      default:
        victim?.coordinator.preferLeader(this.anyShard().key, node.name);
        return victim !== undefined;
    }
  }

  /** In a hurry it stays, until something ends it; else its lease is lost some time later. */
  #secondCoordinator(): boolean {
    const cluster = this.#cluster;
    if (cluster.coordinators.length >= COORDINATORS_MAX) return false;
    const second = cluster.startCoordinator();
    if (this.#stretch > 1) {
      this.#later(this.#below(COORDINATOR_DOWN_MS), () => cluster.killCoordinator(second));
    }
    return true;
  }

  /** Somebody wishes for other nodes, or for more or fewer of them. */
  #changeEnsemble(): boolean {
    const { coordinators, nodes, options } = this.#cluster;
    const asked = this.#pick(coordinators);
    if (asked === undefined) return false;
    const shuffled = nodes
      .map(({ name }) => ({ name, order: this.#chance.unit() }))
      .toSorted((a, b) => a.order - b.order)
      .map(({ name }) => name);
    // Not one alone: the book of all entries is written from what leaders send.
    const sizes = [options.nodes, options.nodes, options.nodes - 1, options.nodes + 2];
    const wanted = shuffled.slice(0, this.#pick(sizes) ?? options.nodes);
    const shard = this.anyShard();
    const wish = `an ensemble of ${wanted.join(", ")} is wished for`;
    this.#cluster.note("-", `${shard.prefix}${wish}`);
    // A conflict, or a coordinator that dies first: the wish was in vain.
    asked.coordinator.changeEnsemble(shard.key, wanted).catch(() => undefined);
    return true;
  }

  #fillDisk(node: SimNode): boolean {
    // Settles within this event, as its next use does.
    void node.disk.usedBytes("/").then((bytes) => {
      node.disk.setQuota(bytes + this.#chance.below(3_000));
      this.#cluster.note(node.name, "its disk is nearly full");
    });
    const forMs = this.#hinder(node, this.#below(3_000));
    this.#later(forMs, () => node.disk.setQuota(Number.POSITIVE_INFINITY));
    return true;
  }

  /** Notes that the node may be slow for so long, and a while after; returns `forMs`. */
  #hinder(node: SimNode, forMs: number): number {
    const untilMs = this.#cluster.time.nowMs + forMs + HINDRANCE_LASTS_MS;
    node.hinderedUntilMs = Math.max(node.hinderedUntilMs, untilMs);
    return forMs;
  }

  /** Takes an image of the disk now; later, when it may, puts it in the disk's place (H19). */
  #rollBack(node: SimNode): boolean {
    if (node.replicas().length === 0 || node.isDamaged) return false;
    const image = imageOf(node, this.#chance.below(2 ** 31));
    this.#cluster.note(node.name, `an image is taken of it in ${termsOf(image)}`);
    this.#later(100 + this.#below(4_000), () => this.#restore(node, image));
    return true;
  }

  #restore(node: SimNode, image: DiskImage): void {
    if (!this.#cluster.isMember(node) || node.process === null) return;
    if (!this.#mayHarm("rollback", node) || !this.atlas.maySetBack(node)) return;
    if (!this.atlas.isSeen(node, image, ({ ackedTerm }, term) => term < ackedTerm)) return;
    this.setBack(node, image);
    this.#cluster.bootLater(node, this.#chance.below(1_000));
  }

  /** The node is down and has the older disk. */
  setBack(node: SimNode, image: DiskImage): void {
    const cluster = this.#cluster;
    cluster.kill(node, { power: true, silent: this.#chance.happens(0.3) });
    cluster.note(node.name, `has the disk that it had in ${termsOf(image)}`);
    node.replaceDisk(image.disk);
    for (const shard of cluster.shards) {
      if (!shard.hasMember(node.name)) continue;
      shard.setBack.add(node.name);
      const imaged = image.replicas.find((replica) => shard.isOf(replica));
      if (imaged !== undefined) shard.referee.diskSetBack(node.name, imaged.replicaUid);
      shard.referee.diskSetBack(node.name, shard.lastUid(node.name));
    }
    this.rollbacks += 1;
  }

  #crash(node: SimNode, power: boolean): void {
    if (node.process === null) return;
    this.#cluster.kill(node, { power, silent: this.#chance.happens(0.3) });
    this.#cluster.bootLater(node, 50 + this.#below(2_500));
  }

  #wipe(fault: "wipe" | "wipeDuringRecovery", node: SimNode): boolean {
    if (!this.#mayHarm(fault, node)) return false;
    this.takeDisk(node);
    return true;
  }

  /** The node loses some or all of its disk; it restarts soon, also after {@link heal}. */
  takeDisk(node: SimNode): void {
    const what = WIPES[this.#chance.below(WIPES.length)] ?? WIPES[0];
    this.#cluster.kill(node, { power: true, silent: this.#chance.happens(0.3) });
    this.#cluster.note(node.name, `loses ${what.join(" and ")}`);
    node.wipe(what);
    this.wipes += 1;
    // At once, too: an instant restart is the hardest to notice (H3).
    this.#cluster.bootLater(node, this.#chance.happens(0.3) ? 1 : this.#below(2_000));
  }

  /** The node loses what it has of one shard; the others go on from the same disk. */
  takeShard(node: SimNode, shard: SimShard): void {
    const what = WIPES[this.#chance.below(WIPES.length)] ?? WIPES[0];
    this.#cluster.kill(node, { power: true, silent: this.#chance.happens(0.3) });
    this.#cluster.note(node.name, `loses ${what.join(" and ")} of ${shard.name}`);
    node.wipeShard(shard.key, what);
    this.wipes += 1;
    this.#cluster.bootLater(node, this.#chance.happens(0.3) ? 1 : this.#below(2_000));
  }

  #wipeShard(node: SimNode): boolean {
    const shard = this.anyShard();
    if (shard.replicaOn(node) === null || !this.#mayHarm("wipeShard", node, [shard])) return false;
    this.takeShard(node, shard);
    return true;
  }

  #wipeLearner(): boolean {
    const learner = this.#cluster.shards
      .flatMap(({ record }) => record?.members ?? [])
      .find((member) => member.role === "learner");
    const node = this.#cluster.nodes.find(({ name }) => name === learner?.node);
    if (node === undefined || node.process === null) return false;
    return this.#wipe("wipeDuringRecovery", node);
  }

  /** A byte of the log changes while the node is down. */
  #corrupt(node: SimNode): boolean {
    if (!this.#mayHarm("corrupt", node)) return false;
    this.#cluster.kill(node, { power: false, silent: false });
    this.#cluster.bootLater(node, this.#below(1_000));
    const shard = this.anyShard();
    const dir = `/wal/${shard.name}/log`;
    // Real disk calls, without any latency: they settle within this event.
    void node.disk.list(dir).then(async (names) => {
      const name = this.#pick(names);
      if (name === undefined) return;
      const bytes = await node.disk.usedBytes(`${dir}/${name}`);
      const any = this.#chance.below(Math.min(bytes, 3_000));
      const records = await recordsOf(node.disk, dir, name);
      const newest = this.#cluster.options.corruptNewest ? records.at(-1) : undefined;
      const at = newest === undefined ? any : newest.end - 1;
      const record = records.find(({ start, end }) => start <= at && at < end)?.position ?? null;
      this.#cluster.note(node.name, `${shard.prefix}a byte of ${name} changes at ${at}`);
      node.disk.corrupt(`${dir}/${name}`, at, 1 << this.#chance.below(8));
      const harm = node.harmTo(shard.key);
      harm.damaged = true;
      harm.corrupted = true;
      if (record !== null) {
        shard.referee.recordDamaged(node.name, shard.lastUid(node.name), record);
      }
      this.damages += 1;
    });
    return true;
  }

  /** True when the atlas allows it; says so when it does not. */
  #mayHarm(fault: Fault, node: SimNode, shards?: readonly SimShard[]): boolean {
    if (this.atlas.mayLose(node, shards)) return true;
    this.spared.set(fault, (this.spared.get(fault) ?? 0) + 1);
    const why = this.atlas.whyNot(node, shards);
    this.#cluster.note(node.name, `is spared a ${fault}: ${why}`);
    return false;
  }

  /** Any shard; where there is one only, no chance is spent on it. */
  anyShard(): SimShard {
    const { shards, shard } = this.#cluster;
    return shards.length === 1 ? shard : (this.#pick(shards) ?? shard);
  }

  /** A time below this, in a hurry. */
  #below(boundMs: number): number {
    return this.#chance.below(boundMs) * this.#stretch;
  }

  #later(delayMs: number, act: () => void): void {
    this.#cluster.time.after(delayMs, null, "nemesis", () => {
      if (!this.#stopped) act();
    });
  }

  #pick<T>(from: readonly T[]): T | undefined {
    return from[this.#chance.below(Math.max(1, from.length))];
  }
}

function isOneOf<T extends Fault>(faults: readonly T[], fault: Fault): fault is T {
  return (faults as readonly Fault[]).includes(fault);
}
