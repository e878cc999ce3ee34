/** A volume set back to an older copy: it does not vote, however few answers arrive (R3, H19). */
import assert from "node:assert/strict";
import { CallFailed } from "../../../operator/controller/ports.ts";
import { FakeCluster } from "./fake-cluster.ts";

/** Loses the first `count` answers of `node` to `name`. */
function loseAnswers(cluster: FakeCluster, name: string, node: string, count: number): void {
  let left = count;
  cluster.onAnswer = (answered, by) => {
    if (answered !== name || by !== node || left === 0) return;
    left -= 1;
    throw new CallFailed(node, "the answer was lost", true);
  };
}

/** A steady cluster in a term later than that of the returned copy of a follower's volume. */
async function prepared(cluster: FakeCluster): Promise<{
  readonly leader: string;
  readonly victim: string;
  readonly other: string;
  readonly setBack: () => void;
}> {
  const coordinator = cluster.coordinator();
  const running = coordinator.run();
  await cluster.untilSteady();
  const first = cluster.leader() ?? "";
  const copies = new Map(
    ["a", "b", "c"].map((name) => [name, cluster.replica(name).copyVolume()] as const),
  );
  // A process later: the one that starts on the copy has the number of the one that promised, so
  // that neither its report nor its number shows anything.
  for (const name of ["a", "b", "c"]) {
    cluster.kill(name);
    cluster.start(name);
  }
  await cluster.clock.until("another term", 5_000, () => cluster.record.term > 0);
  await cluster.untilSteady();
  cluster.kill(first);
  await cluster.clock.until("another leader", 5_000, () => {
    const now = cluster.leader();
    return now !== null && now !== first;
  });
  cluster.start(first);
  await cluster.untilSteady();
  // The next coordinator saw nothing of what is written now: no report raises its floor.
  await coordinator.close();
  await running;
  const leader = cluster.leader() ?? "";
  // Whoever stayed through both terms; the other lacks what is written now.
  const victim = ["a", "b", "c"].find((name) => name !== leader && name !== first) ?? "";
  cluster.kill(first);
  await cluster.write("acknowledged");
  cluster.kill(leader);
  cluster.kill(victim);
  const copy = copies.get(victim);
  assert.ok(copy !== undefined);
  return { leader, victim, other: first, setBack: copy };
}

for (const lost of [0, 1, 3]) {
  describe(`Coordinator: a follower set back, ${lost} of its answers lost`, () => {
    it("does not count it, waits for who holds the data, and rebuilds it", async () => {
      const cluster = new FakeCluster(["a", "b", "c"]);
      const { leader, victim, other, setBack } = await prepared(cluster);
      setBack();
      cluster.start(victim);
      cluster.start(other);
      loseAnswers(cluster, "newTerm", victim, lost);
      const coordinator = cluster.coordinator();
      const running = coordinator.run();
      try {
        await cluster.clock.until("it is noted", 20_000, () =>
          cluster.record.members.some(
            ({ node, role, reason }) =>
              node === victim && role === "learner" && reason === "RolledBack",
          ),
        );
        await cluster.clock.pass(5_000);
        assert.equal(cluster.leader(), null, "two of three, one of them set back, elect nobody");
        cluster.start(leader);
        await cluster.untilSteady();
        for (const name of ["a", "b", "c"]) {
          const held = cluster.replica(name).log.map(({ value }) => value);
          assert.ok(held.includes("acknowledged"), `${name} lacks it: ${held.join()}`);
        }
      } finally {
        await coordinator.close();
        await running;
        await cluster.close();
      }
    });
  });
}

describe("a voter whose disk was set back to before it was a member", () => {
  it("is rebuilt, though nothing but its own word shows it (R3)", async () => {
    const cluster = new FakeCluster(["a", "b", "c"]);
    const coordinator = cluster.coordinator();
    const running = coordinator.run();
    await cluster.untilSteady();
    const victim = ["a", "b", "c"].find((name) => name !== cluster.leader()) ?? "";
    const uid = cluster.wipe(victim);
    const setBack = cluster.replica(victim).copyVolume();
    await cluster.clock.until("rebuilt", 20_000, () => {
      const member = cluster.record.members.find(({ node }) => node === victim);
      return member?.replicaUid === uid && member.role === "voter";
    });
    await cluster.untilSteady();
    cluster.kill(victim);
    setBack();
    // The number of the process that starts on the copy is that of the one that promised.
    cluster.replica(victim).bootCounter -= 1;
    cluster.start(victim);
    await cluster.clock.until("it learns", 20_000, () =>
      cluster.events.some(
        (event) => event.kind === "recoveryStarted" && event.reason === "RolledBack",
      ),
    );
    await cluster.untilSteady();
    await cluster.write("later");
    await coordinator.close();
    await running;
    await cluster.close();
  });
});

describe("a voter that its leader saw lose what it had acknowledged", () => {
  it("loses its vote at once, though its rebuild is held back, and elects nobody (R3)", async () => {
    const cluster = new FakeCluster(["a", "b", "c"]);
    cluster.policy = { ...cluster.policy, mode: "Paused" };
    const first = cluster.coordinator();
    const running = first.run();
    await cluster.untilSteady();
    const leader = cluster.leader() ?? "";
    const [away = "", victim = ""] = ["a", "b", "c"].filter((name) => name !== leader);
    cluster.kill(away);
    // The same term on the same disk: nothing but the leader's word shows what follows.
    const setBack = cluster.replica(victim).copyVolume();
    await cluster.write("acknowledged");
    setBack();
    const cursor = cluster.replica(leader).fed.get(victim);
    assert.ok(cursor !== undefined);
    cursor.regressed = true;
    await cluster.clock.pass(1_000);
    const member = cluster.record.members.find(({ node }) => node === victim);
    assert.deepEqual([member?.role, member?.reason], ["learner", "RolledBack"]);
    assert.ok(!cluster.calls.includes(`enrol ${victim}`), "the gate is closed");
    cluster.kill(leader);
    await first.close();
    await running;
    cluster.start(away);
    const second = cluster.coordinator();
    const runningAgain = second.run();
    try {
      await cluster.clock.pass(10_000);
      assert.equal(cluster.leader(), null, "two that lack it elect nobody");
      cluster.start(leader);
      await cluster.clock.until("a leader", 20_000, () => cluster.leader() !== null);
      const held = cluster.replica(cluster.leader() ?? "").log.map(({ value }) => value);
      assert.ok(held.includes("acknowledged"), held.join());
    } finally {
      await second.close();
      await runningAgain;
      await cluster.close();
    }
  });
});

describe("a voter whose vote was taken while another replica is being rebuilt", () => {
  it("waits for its turn: its rebuild has not begun yet", async () => {
    const cluster = new FakeCluster(["a", "b", "c"]);
    const coordinator = cluster.coordinator();
    const running = coordinator.run();
    try {
      await cluster.untilSteady();
      const leader = cluster.leader() ?? "";
      const [wiped = "", victim = ""] = ["a", "b", "c"].filter((name) => name !== leader);
      let held = true;
      cluster.onCall = (name) => {
        if (held && name === "addFollower") throw new CallFailed(leader, "held back", true);
      };
      cluster.wipe(wiped);
      const enrolled = (name: string): boolean => cluster.calls.includes(`enrol ${name}`);
      await cluster.clock.until("it is enrolled", 5_000, () => enrolled(wiped));
      const cursor = cluster.replica(leader).fed.get(victim);
      assert.ok(cursor !== undefined);
      cursor.regressed = true;
      await cluster.clock.pass(3_000);
      assert.equal(cluster.record.members.find(({ node }) => node === victim)?.role, "learner");
      assert.ok(!enrolled(victim), "one node at a time");
      held = false;
      await cluster.untilSteady();
    } finally {
      await coordinator.close();
      await running;
      await cluster.close();
    }
  });
});

describe("a voter that is back on another claim with all that it had acknowledged", () => {
  it("is not counted by its leader, though its rebuild is held back (I5, I11)", async () => {
    const cluster = new FakeCluster(["a", "b", "c"]);
    cluster.policy = { ...cluster.policy, mode: "Paused" };
    for (const [name, node] of cluster.nodes) node.claims = { data: name, wal: name };
    const coordinator = cluster.coordinator();
    const running = coordinator.run();
    const member = (name: string) => cluster.record.members.find(({ node }) => node === name);
    try {
      await cluster.untilSteady();
      await cluster.clock.until("claims are noted", 5_000, () =>
        cluster.record.members.every(({ pvcUids }) => pvcUids !== undefined),
      );
      const leader = cluster.replica(cluster.leader() ?? "");
      const [away = "", victim = ""] = ["a", "b", "c"].filter((name) => name !== leader.node);
      // The first call is lost: it is told again, for the leader goes on showing that vote.
      let lost = false;
      cluster.onCall = (name) => {
        if (lost || name !== "removeFollower") return;
        lost = true;
        throw new CallFailed(leader.node, "refused", false);
      };
      cluster.node(victim).claims = { data: "cloned", wal: "cloned" };
      await cluster.clock.pass(3_000);
      assert.equal(member(victim)?.role, "learner");
      assert.ok(!cluster.calls.includes(`enrol ${victim}`), "the gate is closed");
      cluster.kill(away);
      const { commit } = leader;
      leader.log.push({ term: leader.term, value: "on one voter only" });
      await cluster.clock.pass(3_000);
      assert.equal(leader.commit, commit, "it was committed with a replica that has no vote");
      cluster.start(away);
      await cluster.clock.until("committed by two voters", 5_000, () => leader.commit > commit);
      assert.equal(member(victim)?.role, "learner");
    } finally {
      await coordinator.close();
      await running;
      await cluster.close();
    }
  });
});
