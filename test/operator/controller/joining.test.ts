/** What is told of a replica that joins: it is built like one that was wiped, and told of so. */
import assert from "node:assert/strict";
import { FakeCluster, KEY } from "./fake-cluster.ts";

describe("Coordinator: a replica that joins", () => {
  it("is told of when it begins and when it votes", async () => {
    const cluster = new FakeCluster(["a", "b", "c", "d"]);
    const coordinator = cluster.coordinator();
    const running = coordinator.run();
    try {
      await cluster.untilSteady();
      await cluster.clock.during(coordinator.changeEnsemble(KEY, ["a", "b", "d"]));
      const joined = (): boolean => cluster.record.ensemble.join() === "a,b,d";
      await cluster.clock.until("d took c's place", 20_000, joined);
      const told = cluster.events.flatMap((event) =>
        event.kind === "recoveryStarted" || event.kind === "recoveryCompleted" ? [event] : [],
      );
      const uid = cluster.replica("d").uid;
      const [started, completed] = told;
      assert.ok(started?.kind === "recoveryStarted" && completed?.kind === "recoveryCompleted");
      assert.equal(told.length, 2);
      for (const { node, reason } of told) assert.deepEqual([node, reason], ["d", "Joining"]);
      assert.deepEqual([started.oldUid, started.newUid, completed.uid], ["", uid, uid]);
      assert.ok(completed.durationMs !== null);
    } finally {
      await coordinator.close();
      await running;
      await cluster.close();
    }
  });
});
