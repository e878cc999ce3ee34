import assert from "node:assert/strict";
import type { ShardView } from "../../../operator/core/status.ts";
import { isInSync } from "../../../operator/controller/store-status.ts";
import { BeginningShards } from "../../../operator/kube/beginning-shards.ts";
import { replicaView, shardViewOf } from "../local/status-fixture.ts";

const PODS = ["resilver-0", "resilver-1", "resilver-2"];
const SERVING = shardViewOf(PODS.map((pod) => replicaView(pod)));

/** The second shard, of which these pods' replicas do not vote. */
function second(away: readonly string[], change: Partial<ShardView> = {}): ShardView {
  const replicas = PODS.map((pod) => replicaView(pod, { voting: !away.includes(pod) }));
  return shardViewOf(replicas, { shard: 1, ...change });
}

const UNSERVED = second(PODS, { commitFloor: { term: -1, offset: -1 } });
const LED = second(["resilver-2"]);

describe("shards that were just made", () => {
  let beginning: BeginningShards;
  beforeEach(() => {
    beginning = new BeginningShards();
  });
  const inSync = (added: ShardView, nowMs: number): boolean | null =>
    isInSync(beginning.settled([SERVING, added], nowMs), "resilver-2");

  it("take no pod out of service that does not follow their first leader yet", () => {
    assert.equal(inSync(UNSERVED, 0), true);
    assert.equal(inSync(LED, 10), true);
    assert.equal(inSync(second([]), 20), true);
  });

  it("do once all have followed it", () => {
    inSync(UNSERVED, 0);
    inSync(second([]), 10);
    assert.equal(inSync(LED, 20), false);
  });

  it("do when one does not follow for 5 s, however long ago they were looked at before", () => {
    inSync(UNSERVED, 0);
    for (const nowMs of [60_000, 64_999]) assert.equal(inSync(LED, nowMs), true);
    assert.equal(inSync(LED, 65_000), false);
    assert.equal(inSync(LED, 65_001), false);
  });

  it("are none whose record was not believed, and is again", () => {
    const stop = { reason: "RecordLost", message: "there is none" } as const;
    inSync(UNSERVED, 0);
    inSync({ ...UNSERVED, stop }, 10);
    assert.equal(inSync(LED, 20), false);
  });

  it("are those that were seen before they served, and no others", () => {
    assert.equal(inSync(LED, 0), false);
  });
});
