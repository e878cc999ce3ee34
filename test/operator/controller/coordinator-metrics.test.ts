import assert from "node:assert/strict";
import { Registry } from "prom-client";
import type { ShardView } from "../../../operator/core/status.ts";
import {
  CoordinatorMetrics,
  type StoreViews,
} from "../../../operator/controller/coordinator-metrics.ts";
import { replicaView, shardViewOf, wholeShard } from "../local/status-fixture.ts";

describe("coordinator metrics", () => {
  const key = { namespace: "default", shard: 0 };
  const labels = 'store="s",namespace="default",shard="0"';

  it("counts recoveries and elections by their events", async () => {
    const registry = new Registry();
    const metrics = new CoordinatorMetrics(registry, () => []);
    const recovery = { ...key, node: "resilver-1", reason: "VolumeEmpty" } as const;
    metrics.count("s", { kind: "recoveryStarted", ...recovery, oldUid: "a", newUid: "b" });
    metrics.count("s", { kind: "recoveryDeferred", ...recovery, gate: "Cooldown", message: "" });
    metrics.count("s", {
      kind: "recoveryPhase",
      ...key,
      node: "resilver-1",
      phase: "Transferring",
      durationMs: 200,
    });
    metrics.count("s", { kind: "recoveryCompleted", ...recovery, uid: "b", durationMs: 1_000 });
    metrics.count("s", { kind: "recoveryFailed", ...recovery, message: "" });
    metrics.count("s", { kind: "electionStarted", ...key, term: 1, why: "LeaderDown" });
    metrics.count("s", {
      kind: "electionCompleted",
      ...key,
      term: 1,
      leader: "resilver-0",
      durationMs: 90,
    });
    metrics.count("s", { kind: "electionFailed", ...key, term: 2, message: "", durationMs: 90 });
    metrics.count("s", { kind: "nodeUp", node: "resilver-1" });
    const text = await registry.metrics();
    for (const line of [
      `resilver_recovery_started_total{${labels},pod="resilver-1",reason="VolumeEmpty"} 1`,
      `resilver_recovery_deferred_total{${labels},pod="resilver-1",gate="Cooldown"} 1`,
      `resilver_recovery_completed_total{${labels},pod="resilver-1",reason="VolumeEmpty"} 1`,
      `resilver_recovery_failed_total{${labels},pod="resilver-1",reason="VolumeEmpty"} 1`,
      `resilver_recovery_duration_seconds_sum{${labels},phase="Transferring"} 0.2`,
      `resilver_election_started_total{${labels}} 1`,
      `resilver_election_completed_total{${labels}} 1`,
      `resilver_election_failed_total{${labels}} 1`,
      `resilver_election_duration_seconds_sum{${labels}} 0.09`,
    ]) {
      assert.ok(text.includes(`${line}\n`), line);
    }
    metrics.count("other", { kind: "electionStarted", ...key, term: 1, why: "LeaderDown" });
    metrics.forget("s");
    const left = (await registry.metrics()).split("\n").filter((line) => line.includes("store="));
    assert.deepEqual(left, [
      'resilver_election_started_total{store="other",namespace="default",shard="0"} 1',
    ]);
  });

  it("shows who votes and how far a transfer is, and ends the series with what it describes", async () => {
    const learner = { role: "learner", bytesDone: 1, bytesTotal: 4 } as const;
    let views: readonly ShardView[] = [shardViewOf([replicaView("resilver-2", learner)])];
    const registry = new Registry();
    new CoordinatorMetrics(registry, () => [{ storeId: "s", views }]);
    const before = await registry.metrics();
    assert.ok(before.includes(`resilver_recovery_progress_ratio{${labels},pod="resilver-2"} 0.25`));
    assert.ok(before.includes(`resilver_replica_voter{${labels},pod="resilver-2"} 0`));
    const byLog = { role: "learner", phase: "CatchingUp", headOffset: 8, lagEntries: 3 } as const;
    views = [shardViewOf([replicaView("resilver-2", byLog)])];
    const log = await registry.metrics();
    assert.ok(log.includes(`resilver_recovery_progress_ratio{${labels},pod="resilver-2"} 0.75`));
    views = [wholeShard()];
    const after = await registry.metrics();
    assert.ok(after.includes(`resilver_replica_voter{${labels},pod="resilver-2"} 1`));
    assert.ok(!after.includes("resilver_recovery_progress_ratio{"));
  });

  it("says what people call a store, for as long as it is looked after", async () => {
    const called = { namespace: "shop", name: "carts" };
    let stores: readonly StoreViews[] = [
      { storeId: "s", views: [wholeShard()], called },
      { storeId: "local", views: [] },
    ];
    const registry = new Registry();
    new CoordinatorMetrics(registry, () => stores);
    const lines = async (): Promise<readonly string[]> =>
      (await registry.metrics())
        .split("\n")
        .filter((line) => line.startsWith("resilver_store_info"));
    assert.deepEqual(await lines(), [
      'resilver_store_info{store="s",store_namespace="shop",store_name="carts"} 1',
    ]);
    stores = [];
    assert.deepEqual(await lines(), []);
  });
});
