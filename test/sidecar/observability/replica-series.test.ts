import assert from "node:assert/strict";
import type { MetricsRegistry } from "../../../sidecar/observability/metrics.ts";
import { openMetrics } from "../../../sidecar/observability/metrics.ts";
import { NAMESPACE, SHARD, STORE, TestCluster, TRIMMED } from "../runtime/cluster-fixture.ts";
import { HandCoordinator } from "../runtime/hand-coordinator.ts";

const LABELS = `store="${STORE}",namespace="${NAMESPACE}",shard="${SHARD}"`;

describe("series of a replica", function () {
  this.timeout(30_000);
  let metrics: MetricsRegistry;

  beforeEach(() => {
    metrics = openMetrics({ node: "c", statuses: () => [], anonymousMemoryBytes: () => null });
  });

  /** The series of a metric that are shown, by their other labels. */
  async function shown(name: string, labels = LABELS): Promise<Record<string, number>> {
    const found: Record<string, number> = {};
    for (const line of (await metrics.page()).split("\n")) {
      const series = /^(\w+)\{(.*)\} (\S+)$/u.exec(line);
      if (series?.[1] !== `resilver_${name}`) continue;
      const given = series[2] as string;
      assert.ok(given.includes(labels), line);
      found[given.replace(labels, "").replaceAll(/^,|,?pod="c"/gu, "")] = Number(series[3]);
    }
    return found;
  }

  it("tell of all that one counted, by store, namespace and shard", async () => {
    const replica = metrics.replica({ storeId: "s", namespace: "n", shard: 3 });
    const labels = 'store="s",namespace="n",shard="3"';
    assert.deepEqual(await shown("not_member_rejections_total", labels), { "": 0 });
    replica.notMemberRejections.inc();
    metrics.replica({ storeId: "s", namespace: "n", shard: 3 }).notMemberRejections.inc();
    replica.snapshotBytes("sent", 10);
    replica.walFsync(0.002);
    replica.walFsync(5);
    replica.append(0.002);
    assert.deepEqual(await shown("not_member_rejections_total", labels), { "": 2 });
    assert.deepEqual(await shown("recovery_bytes_total", labels), {
      'direction="sent"': 10,
      'direction="received"': 0,
    });
    assert.deepEqual(await shown("append_seconds_count", labels), { "": 1 });
    assert.deepEqual(await shown("wal_fsync_seconds_sum", labels), { "": 5.002 });
    const buckets = await shown("wal_fsync_seconds_bucket", labels);
    assert.equal(buckets['le="0.001"'], 0);
    assert.equal(buckets['le="0.0025"'], 1);
    assert.equal(buckets['le="+Inf"'], 2);
    replica.end();
    // What is still under way then counts for nobody.
    replica.append(1);
    assert.deepEqual(await shown("append_seconds_count", labels), {});
  });

  it("count a mixed-up volume, though nobody looked before it voted again", async () => {
    const cluster = await TestCluster.start(TRIMMED);
    const coordinator = new HandCoordinator(cluster);
    await coordinator.bootstrap("a");
    await cluster.writeToCheckpoint("a", "key");
    for (const name of ["b", "c"]) await cluster.stop(name);
    await cluster.replace("c", "state", "b");
    await cluster.open("b");
    cluster.metrics = metrics;
    await cluster.open("c");
    await coordinator.attach("b");
    await coordinator.enrol("c");
    await coordinator.promote("c");
    await cluster.write("a", "last", "value");
    await cluster.assertEqualStates("a");
    assert.deepEqual(await shown("storage_identity_mismatch_total"), { "": 1 });
    const bytes = await shown("recovery_bytes_total");
    assert.equal(bytes['direction="sent"'], 0);
    assert.ok((bytes['direction="received"'] ?? 0) > 0);
    assert.ok(((await shown("wal_fsync_seconds_count"))[""] ?? 0) > 0);

    await cluster.stop("c");
    await cluster.open("c");
    assert.deepEqual(await shown("storage_identity_mismatch_total"), { "": 1 });
    await cluster.node("c").deleteShard(NAMESPACE, SHARD, coordinator.term, STORE);
    for (const name of ["storage_identity_mismatch_total", "append_seconds_count"]) {
      assert.deepEqual(await shown(name), {});
    }
    await cluster.close();
  });
});
