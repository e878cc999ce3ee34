import assert from "node:assert/strict";
import { parseReplicatedStore } from "../../../operator/api/v1alpha1/validation.ts";
import type { ShardView } from "../../../operator/core/status.ts";
import { STOP_REASONS } from "../../../operator/core/stops.ts";
import { podsToBe, type StoreSight } from "../../../operator/kube/store-view.ts";
import { RECORD, resource } from "../api/v1alpha1/resources.ts";
import { replicaView, shardViewOf } from "../local/status-fixture.ts";

const NAMES = ["demo-0", "demo-1", "demo-2", "demo-3", "demo-4"];
/** All replicas are on the first pod by now. */
const { next: _next, ...settled } = RECORD;
const MOVED = {
  ...settled,
  ensemble: ["demo-0"],
  desired: ["demo-0"],
  members: RECORD.members.slice(0, 1),
};

const view = (nodes: readonly string[], change: Partial<ShardView> = {}): ShardView =>
  shardViewOf(
    nodes.map((node) => replicaView(node)),
    { ensemble: nodes, ...change },
  );

type Sight = Pick<StoreSight, "records" | "shards">;

const OBJECT = { metadata: { name: "demo.default.0", namespace: "default" } };

/** Of a store that asks for one pod and has five. */
function pods(views: readonly ShardView[] | null, { records, shards }: Partial<Sight> = {}) {
  const store = parseReplicatedStore(resource("ReplicatedStore", { replicas: 1 }));
  const kept = records ?? [MOVED];
  const objects = shards ?? kept.map(() => OBJECT);
  return podsToBe({ store, records: kept, shards: objects }, 5, views);
}

describe("how many pods a store is to have", () => {
  it("as few as it asks for, when none of the others holds a replica", () => {
    assert.equal(pods([view(["demo-0"])]), 1);
    assert.equal(pods([view(["demo-0"])], { records: [RECORD] }), 3);
  });

  it("no fewer than now before the coordinator has looked", () => {
    assert.equal(pods(null), 5);
    assert.equal(pods(null, { records: [] }), 5);
  });

  it("no fewer than now while a StoreShard makes no sense", () => {
    assert.equal(pods([view(["demo-0"])], { records: [], shards: [OBJECT] }), 5);
  });

  it("as many as hold replicas by what the coordinator has, whatever caches say", () => {
    assert.equal(pods([view(NAMES.slice(0, 4))]), 4);
  });

  it("as few as it asks for, when nothing was ever written: it may be that none can start", () => {
    const fresh = { initialized: false, leader: null };
    assert.equal(pods([view(NAMES, fresh)], { records: [] }), 1);
  });

  for (const reason of STOP_REASONS) {
    const distrusted = /^(Record|WrongStore)/u.test(reason);
    it(`under ${reason} ${distrusted ? "no fewer than now" : "what the record says"}`, () => {
      const stop = { reason, message: "x" };
      const lost = view(["demo-0"], { initialized: false, stop });
      assert.equal(pods([lost], { records: [] }), distrusted ? 5 : 1);
      assert.equal(pods([view(["demo-0"]), lost]), distrusted ? 5 : 1);
    });
  }

  it("as many as it asks for, whatever is known", () => {
    const store = parseReplicatedStore(resource("ReplicatedStore", { replicas: 7 }));
    assert.equal(podsToBe({ store, records: [], shards: [] }, 5, null), 7);
    const few = parseReplicatedStore(resource("ReplicatedStore", { replicas: 3 }));
    assert.equal(podsToBe({ store: few, records: [], shards: [] }, 0, null), 3);
  });
});
