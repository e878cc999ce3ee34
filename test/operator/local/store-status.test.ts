import assert from "node:assert/strict";
import { isWhole, storeStatus } from "../../../operator/local/store-status.ts";
import { renderStatus } from "../../../operator/local/status-view.ts";
import { replicaView, shardViewOf, statusParts, wholeShard } from "./status-fixture.ts";

describe("store status", () => {
  it("is whole only when every replica of the full ensemble votes, is there and sound", () => {
    const whole = wholeShard();
    const [leader, second, third] = whole.replicas;
    assert.ok(leader && second && third);
    const is = (shard: typeof whole) => isWhole(storeStatus(statusParts([shard])));
    assert.equal(is(whole), true);
    assert.equal(isWhole(storeStatus(statusParts([]))), false);
    assert.equal(is({ ...whole, serving: false }), false);
    assert.equal(is({ ...whole, stop: { reason: "QuorumLost", message: "" } }), false);
    for (const change of [{ voting: false }, { fault: "bad" }]) {
      assert.equal(is({ ...whole, replicas: [leader, second, { ...third, ...change }] }), false);
    }
    // After a forced quorum the survivor alone is not whole.
    assert.equal(is({ ...whole, ensemble: ["resilver-0"], replicas: [leader] }), false);
  });

  it("adds rate and time left to transfers only", () => {
    const parts = statusParts([]);
    const learner = { role: "learner", phase: "Transferring", bytesTotal: 1_000 } as const;
    const at = (bytesDone: number, nowMs: number) => {
      const shard = shardViewOf([replicaView("resilver-1", { ...learner, bytesDone })]);
      return storeStatus({ ...parts, shards: [shard], nowMs }).shards[0]?.replicas[0];
    };
    assert.equal(at(0, 0)?.bytesPerSecond, 0);
    assert.deepEqual([at(500, 1_000)?.bytesPerSecond, at(500, 1_000)?.etaMs], [500, 1_000]);
    const voter = shardViewOf([replicaView("resilver-1", { bytesDone: 900, bytesTotal: 1_000 })]);
    const seen = storeStatus({ ...parts, shards: [voter], nowMs: 2_000 }).shards[0]?.replicas[0];
    assert.deepEqual([seen?.bytesPerSecond, seen?.etaMs], [0, null]);
  });

  it("shows a healthy store", () => {
    const text = renderStatus(storeStatus(statusParts([wholeShard()])), { color: false });
    assert.match(text, /store store-1 in \/data\/store \(pid 42\)/);
    assert.match(text, /default\/0: term 3, leader resilver-0, serving/);
    assert.match(text, /replica +process +status +role +uid +head +lag +recovery +done +rate +ETA/);
    assert.match(text, /resilver-0 +running +LEADER +leader +uid-of-r +1000 +0 +- +- +- +-/);
    assert.ok(!text.includes("\u001b"));
  });

  it("shows a recovery, its trouble, and a stop", () => {
    const learner = replicaView("resilver-2", {
      role: "learner",
      phase: "Transferring",
      reason: "VolumeEmpty",
      lagEntries: null,
      headOffset: -1,
      bytesDone: 512 * 1024,
      bytesTotal: 1024 * 1024,
      attempts: 2,
      lastErrors: ["disk full"],
    });
    const stop = { reason: "QuorumLost", message: "two of three are gone" } as const;
    const shard = shardViewOf([replicaView("resilver-0"), learner], { stop, serving: false });
    const text = renderStatus(storeStatus(statusParts([shard])), { color: false });
    assert.match(text, /learner .* Transferring \(VolumeEmpty\) +512\.0 KiB of 1\.0 MiB \(50%\)/);
    assert.match(text, /resilver-2: attempt 2, last error: disk full/);
    assert.match(text, /QuorumLost: two of three are gone/);
    assert.match(text, /not serving/);
  });

  it("shows entries where a replica is rebuilt by the log alone", () => {
    const change = {
      role: "learner",
      phase: "CatchingUp",
      headOffset: 49,
      lagEntries: 150,
    } as const;
    const shard = shardViewOf([replicaView("resilver-2", change)]);
    const text = renderStatus(storeStatus(statusParts([shard])), { color: false });
    assert.match(text, /learner .* CatchingUp +50 of 200 entries \(25%\)/);
  });

  it("shows processes while there is no record yet", () => {
    const text = renderStatus(storeStatus(statusParts([])), { color: false });
    assert.match(text, /no shard has a record yet\nresilver-0: running/);
  });

  it("uses colours only when asked", () => {
    const text = renderStatus(storeStatus(statusParts([wholeShard()])), { color: true });
    assert.ok(text.includes("\u001b[32m"));
  });
});
