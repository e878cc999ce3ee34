/**
 * A leader whose process dies and is back within its term, before anybody saw it gone: R16 ends
 * with the process (it may have lost what it had not synced), with and without learners.
 */
import assert from "node:assert/strict";
import { FakeCluster } from "./fake-cluster.ts";

const NODES = ["a", "b", "c"];

for (const learners of [0, 1, 2]) {
  describe(`Coordinator: a leader back within its term, ${learners} learners`, () => {
    it(
      learners < 2 ? "raises the term and loses nothing" : "stops, and keeps what is left",
      async () => {
        const cluster = new FakeCluster(NODES);
        cluster.policy = { ...cluster.policy, maxConcurrent: 2 };
        const coordinator = cluster.coordinator();
        const running = coordinator.run();
        try {
          await cluster.untilSteady();
          await cluster.write("kept");
          const leader = cluster.leader() ?? "";
          const { term } = cluster.record;
          const wiped = NODES.filter((name) => name !== leader).slice(0, learners);
          // Enrolled and never promoted: the leader restarts while they learn.
          const uids = wiped.map((name) => cluster.wipe(name));
          cluster.records.beforeSave = (record) => {
            const promoted = record.members.some(
              ({ replicaUid, role }) => uids.includes(replicaUid) && role === "voter",
            );
            if (promoted && record.term === term) throw new Error("not now");
          };
          await cluster.clock.until("they learn", 10_000, () =>
            uids.every((uid) =>
              cluster.record.members.some((m) => m.replicaUid === uid && m.role === "learner"),
            ),
          );
          cluster.kill(leader);
          cluster.start(leader);
          cluster.records.beforeSave = () => undefined;
          if (learners < 2) {
            await cluster.untilSteady();
            assert.ok(cluster.record.term > term, "it does not lead its term twice (R7)");
            for (const name of NODES) {
              assert.ok(
                cluster.replica(name).log.some(({ value }) => value === "kept"),
                name,
              );
            }
            return;
          }
          const stop = (): string | undefined => coordinator.views()[0]?.stop?.reason;
          await cluster.clock.until("it stops", 10_000, () => stop() === "QuorumLost");
          await cluster.clock.pass(5_000);
          assert.equal(cluster.record.term, term, "nobody is fenced for nothing");
          assert.ok(uids.every((uid) => cluster.record.members.some((m) => m.replicaUid === uid)));
          assert.ok(cluster.replica(leader).log.some(({ value }) => value === "kept"));
        } finally {
          await coordinator.close();
          await running;
          await cluster.close();
        }
      },
    );
  });
}
