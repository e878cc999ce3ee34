/**
 * Random faults, two coordinators at once, records that conflict, are lost or old: nothing
 * acknowledged is lost.
 */
import assert from "node:assert/strict";
import type { Coordinator } from "../../../operator/controller/coordinator.ts";
import { ServingStatus } from "../../../sidecar/protocol/gen/resilver.ts";
import { FakeCluster, KEY } from "./fake-cluster.ts";

const NODES = ["a", "b", "c"];

/** The same numbers for the same seed. */
function random(seed: number): (below: number) => number {
  let state = seed * 2_654_435_761 + 1;
  return (below) => {
    state = (Math.imul(state ^ (state >>> 15), 2_246_822_519) + 0x9e3779b9) >>> 0;
    return Math.floor(((state ^ (state >>> 13)) >>> 0) % below);
  };
}

interface Running {
  readonly coordinator: Coordinator;
  readonly ended: Promise<void>;
}

function start(cluster: FakeCluster): Running {
  const coordinator = cluster.coordinator();
  return { coordinator, ended: coordinator.run() };
}

async function stop(running: Running): Promise<void> {
  await running.coordinator.close();
  await running.ended;
}

/** Appends at the leader; remembers it when it was committed by a leader nobody had replaced. */
async function write(cluster: FakeCluster, value: string, acknowledged: string[]): Promise<void> {
  const leader = cluster.leader();
  if (leader === null) return;
  const replica = cluster.replica(leader);
  const { term, uid } = replica;
  const offset = replica.log.push({ term, value }) - 1;
  const same = (): boolean =>
    replica.uid === uid && replica.term === term && replica.status === ServingStatus.LEADER;
  await cluster.clock
    .until("an answer", 2_000, () => replica.commit >= offset || !same())
    .catch(() => 0);
  if (same() && replica.commit >= offset) acknowledged.push(value);
}

/**
 * One fault, never more than the rules say can be survived: one wipe at a time, from a whole shard.
 */
function fault(cluster: FakeCluster, pick: (below: number) => number): void {
  const node = NODES[pick(NODES.length)] ?? "a";
  const others = NODES.filter((other) => other !== node);
  const allUp = others.every((other) => cluster.node(other).up && !cluster.node(other).frozen);
  const choice = pick(6);
  if (!cluster.node(node).up) cluster.start(node);
  else if (cluster.node(node).frozen) cluster.node(node).frozen = false;
  else if (choice === 0 && allUp && cluster.steady()) cluster.wipe(node);
  else if (choice === 1) cluster.kill(node);
  else if (choice === 2) cluster.node(node).frozen = true;
  else if (choice === 3) {
    cluster.kill(node);
    cluster.start(node);
  }
}

async function assertRefused(
  cluster: FakeCluster,
  order: Promise<void>,
  reason: string,
): Promise<void> {
  await assert.rejects(cluster.clock.during(order, 5_000), (error: Error) => {
    assert.ok(error instanceof RangeError, String(error));
    assert.ok(error.message.startsWith(`${reason}: `), error.message);
    return true;
  });
}

async function run(seed: number, coordinators: number): Promise<void> {
  const pick = random(seed);
  const cluster = new FakeCluster(NODES);
  const running = Array.from({ length: coordinators }, () => start(cluster));
  const acknowledged: string[] = [];
  const leaders = new Map<number, string>();
  try {
    await cluster.untilSteady();
    for (let step = 0; step < 40; step += 1) {
      fault(cluster, pick);
      if (pick(8) === 0) {
        const old = running.shift();
        if (old !== undefined) await stop(old);
        running.push(start(cluster));
      }
      await write(cluster, `w${step}`, acknowledged);
      await cluster.clock.pass(pick(1_000));
      for (const name of NODES) {
        const { status, term, uid } = cluster.replica(name);
        if (status !== ServingStatus.LEADER) continue;
        assert.equal(leaders.get(term) ?? uid, uid, `two leaders in term ${term} (I1)`);
        leaders.set(term, uid);
      }
    }
    for (const name of NODES) {
      cluster.node(name).frozen = false;
      if (!cluster.node(name).up) cluster.start(name);
    }
    await cluster.untilSteady(60_000);
    await write(cluster, "last", acknowledged);
    assert.ok(acknowledged.includes("last"), "writes go on");
    const held = new Set(cluster.replica(cluster.leader() ?? "").log.map((entry) => entry.value));
    const lost = acknowledged.filter((value) => !held.has(value));
    assert.deepEqual(lost, [], `lost of ${acknowledged.length}`);
  } finally {
    for (const one of running) await stop(one);
    await cluster.close();
  }
}

describe("Coordinator under faults", () => {
  const seeds = Number(process.env["SEEDS"] ?? 25);

  it("loses nothing acknowledged", async () => {
    for (let seed = 1; seed <= seeds; seed += 1) {
      await run(seed, 1).catch((error: unknown) => {
        throw new Error(`seed ${seed}: ${String(error)}`, { cause: error });
      });
    }
  }).timeout(120_000);

  it("with two coordinators at once, too: one of them always gives way", async () => {
    for (let seed = 1; seed <= seeds; seed += 1) {
      await run(seed, 2).catch((error: unknown) => {
        throw new Error(`seed ${seed}: ${String(error)}`, { cause: error });
      });
    }
  }).timeout(120_000);

  it("reads the record again after a conflict, and goes on", async () => {
    const cluster = new FakeCluster(NODES);
    const running = start(cluster);
    try {
      await cluster.untilSteady();
      // Somebody else saves in between, once.
      cluster.records.beforeSave = () => {
        cluster.records.beforeSave = () => undefined;
        cluster.records.version += 1;
        throw new Error("the answer was lost");
      };
      cluster.kill(cluster.leader() ?? "");
      await cluster.clock.until("another leader", 5_000, () => cluster.leader() !== null);
      await cluster.clock.until("it is recorded", 5_000, () => {
        return cluster.record.leader?.node === cluster.leader();
      });
    } finally {
      await stop(running);
      await cluster.close();
    }
  });

  it("stops while a new shard's node holds another store's data, and asks each process anew", async () => {
    const cluster = new FakeCluster(NODES);
    for (const name of NODES) cluster.node(name).foreign = true;
    const running = start(cluster);
    const stopped = () => running.coordinator.views()[0]?.stop ?? null;
    try {
      await cluster.clock.until("it stops", 5_000, () => stopped()?.reason === "RecordLost");
      assert.match(stopped()?.message ?? "", /store s2 wrote \(its volumes are of the store s2\)/u);
      const faults = running.coordinator.views()[0]?.replicas.map(({ fault: told }) => told) ?? [];
      assert.ok(faults.includes("its volumes are of the store s2"), faults.join());
      await cluster.clock.pass(5_000);
      assert.equal(cluster.records.text, null, "nothing is recorded");
      for (const name of NODES) {
        cluster.kill(name);
        cluster.node(name).foreign = false;
        cluster.start(name);
      }
      await cluster.untilSteady();
      assert.equal(stopped(), null);
    } finally {
      await stop(running);
      await cluster.close();
    }
  });

  it("stops when its record is lost or old, and goes on when it is back", async () => {
    const cluster = new FakeCluster(NODES);
    let running = start(cluster);
    const reason = (): string | undefined => running.coordinator.views()[0]?.stop?.reason;
    try {
      await cluster.untilSteady();
      const old = cluster.records.text;
      cluster.kill(cluster.leader() ?? "");
      await cluster.clock.until("another leader", 5_000, () => cluster.leader() !== null);
      for (const name of NODES) if (!cluster.node(name).up) cluster.start(name);
      await cluster.untilSteady();
      const newest = cluster.records.text;
      for (const [text, expected] of [
        [null, "RecordLost"],
        [old, "RecordStale"],
        ["{}", "RecordInvalid"],
      ] as const) {
        await stop(running);
        cluster.records.text = text;
        cluster.records.version += 1;
        cluster.calls.length = 0;
        running = start(cluster);
        await cluster.clock.until(expected, 5_000, () => reason() === expected);
        await cluster.clock.pass(5_000);
        // Each change of it would raise its generation, until nothing told it from the newest.
        if (expected !== "RecordInvalid") {
          const order = { survivor: "a", acknowledgeDataLoss: "" };
          await assertRefused(cluster, running.coordinator.changeEnsemble(KEY, NODES), expected);
          await assertRefused(cluster, running.coordinator.forceQuorum(KEY, order), expected);
        }
        assert.equal(cluster.records.text, text, "the record is left alone");
        const changing = cluster.calls.filter((call) => !call.startsWith("openShard"));
        assert.deepEqual(changing, [], "and so are the replicas");
        assert.notEqual(cluster.leader(), null, "who serve on");
        cluster.records.text = newest;
        cluster.records.version += 1;
        await cluster.clock.until("it goes on", 5_000, () => reason() === undefined);
      }
      await cluster.untilSteady();
    } finally {
      await stop(running);
      await cluster.close();
    }
  });
});
