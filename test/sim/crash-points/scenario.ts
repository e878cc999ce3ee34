import type { SimNode } from "../sim-node.ts";
import type { StoreLife } from "../store-life.ts";

/** One operation of the store, and whose disk it is watched on. */
export interface Scenario {
  readonly name: string;
  /** Before the operation: what it needs. False: it could not be had. */
  readonly prepare?: (life: StoreLife) => Promise<boolean>;
  /** Null while the store does not exist yet: node `a`. */
  readonly victim: (life: StoreLife) => SimNode;
  /** Starts the operation; `watch` once its first change of the disk is to be counted. */
  readonly act: (life: StoreLife, watch: () => void) => Promise<void>;
  /** The operation is over. */
  readonly done: (life: StoreLife) => boolean;
}

const WAIT_MS = 30_000;

function leader(life: StoreLife): SimNode {
  const { cluster } = life;
  return cluster.node(cluster.shard.record?.leader?.node ?? "a");
}

/** A voter that follows; always the same one. */
function follower(life: StoreLife): SimNode {
  const { cluster } = life;
  const name = cluster.shard.record?.ensemble.find(
    (node) => node !== cluster.shard.record?.leader?.node,
  );
  return cluster.node(name ?? "b");
}

function spare(life: StoreLife): SimNode {
  const { cluster } = life;
  const found = cluster.nodes.find(
    ({ name }) => cluster.shard.record?.ensemble.includes(name) !== true,
  );
  return found ?? cluster.node("d");
}

function writing(count: number): Scenario["act"] {
  return async (life, watch) => {
    watch();
    await life.writes(count);
  };
}

const settled = (life: StoreLife): boolean => life.settled() === null;

/** Has another node lead. */
function moves(watched: (life: StoreLife) => SimNode, to: (life: StoreLife) => SimNode): Scenario {
  let term = -1;
  return {
    name: "",
    victim: watched,
    act: async (life, watch) => {
      const { cluster } = life;
      term = cluster.shard.record?.term ?? -1;
      watch();
      cluster.coordinators[0]?.coordinator.preferLeader(cluster.shard.key, to(life).name);
    },
    done: (life) => (life.cluster.shard.record?.term ?? -1) > term && settled(life),
  };
}

/** A follower's disk is gone, and it is rebuilt. */
function rebuilt(victim: (life: StoreLife) => SimNode): Scenario {
  let uid = "";
  return {
    name: "",
    victim,
    act: async (life, watch) => {
      const { cluster } = life;
      const wiped = follower(life);
      uid = cluster.shard.lastUid(wiped.name);
      cluster.kill(wiped, { power: true, silent: false });
      wiped.wipe(["wal", "state"]);
      watch();
      cluster.boot(wiped);
    },
    done: (life) => cluster(life).shard.lastUid(follower(life).name) !== uid && settled(life),
  };
}

const cluster = (life: StoreLife): StoreLife["cluster"] => life.cluster;

/** A spare takes a follower's place. */
function swapped(victim: (life: StoreLife) => SimNode): Scenario {
  let wanted: readonly string[] = [];
  return {
    name: "",
    victim,
    act: async (life, watch) => {
      const { coordinators, shard } = life.cluster;
      const { record } = shard;
      const leaves = follower(life).name;
      const joins = spare(life).name;
      wanted = (record?.ensemble ?? []).map((node) => (node === leaves ? joins : node));
      watch();
      coordinators[0]?.coordinator.changeEnsemble(shard.key, wanted).catch(() => undefined);
    },
    done: (life) =>
      wanted.every((node) => life.cluster.shard.record?.ensemble.includes(node)) && settled(life),
  };
}

/** A leader that was cut off comes back with entries that nobody else has: they are cut. */
function conflicting(): Scenario {
  let old = "";
  return {
    name: "cut a conflicting tail",
    victim: (life) => life.cluster.node(old === "" ? leader(life).name : old),
    prepare: async (life) => {
      const { network, nodes, time, shard } = life.cluster;
      old = leader(life).name;
      const others = nodes.filter(({ name }) => name !== old);
      const coordinators = life.cluster.coordinators.map(({ process }) => process.name);
      for (const { name } of others) network.block(old, name);
      void life.workload.writeAll(4);
      await time.run(200, () => false);
      for (const name of [...others.map((other) => other.name), ...coordinators]) {
        network.block(old, name);
        network.block(name, old);
      }
      const term = shard.record?.term ?? -1;
      const moved = (): boolean => {
        const now = life.cluster.shard.record;
        return now !== null && now.term > term && now.leader !== null && now.leader.node !== old;
      };
      return time.run(WAIT_MS, moved);
    },
    act: async (life, watch) => {
      watch();
      life.cluster.network.unblockAll();
    },
    done: settled,
  };
}

/** Everything a replica does to its disks, one operation at a time. */
export const SCENARIOS: readonly (() => Scenario)[] = [
  () => ({
    name: "append to a follower's log",
    victim: follower,
    act: writing(4),
    done: settled,
  }),
  () => ({ name: "append to a leader's log", victim: leader, act: writing(4), done: settled }),
  () => ({
    name: "roll, checkpoint and trim",
    victim: follower,
    act: writing(30),
    done: settled,
  }),
  () => ({ ...moves(follower, follower), name: "be fenced and lead" }),
  () => ({ ...moves(leader, follower), name: "be fenced and follow" }),
  () => ({ ...rebuilt(follower), name: "format, be enrolled, install, be promoted" }),
  () => ({ ...rebuilt(leader), name: "pin and send a snapshot" }),
  () => ({
    name: "open again and replay",
    victim: follower,
    act: async (life, watch) => {
      const node = follower(life);
      life.cluster.kill(node, { power: false, silent: false });
      watch();
      life.cluster.boot(node);
    },
    done: settled,
  }),
  () => ({ ...swapped(spare), name: "join an ensemble" }),
  () => ({ ...swapped(follower), name: "leave an ensemble and be deleted" }),
  () => ({ ...swapped(leader), name: "lead through a joint state" }),
  conflicting,
];
