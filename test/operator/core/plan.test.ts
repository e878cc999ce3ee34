/** Single decisions of the plan: one thing is changed in a shard that is as it ought to be. */
import assert from "node:assert/strict";
import { DEFAULT_RECOVERY_POLICY } from "../../../operator/core/gates.ts";
import type { Observed, ObservedNode } from "../../../operator/core/observed.ts";
import { plan, withClaims, type Action, type Plan } from "../../../operator/core/plan.ts";
import type { ShardRecord } from "../../../operator/core/record.ts";
import { ServingStatus } from "../../../sidecar/protocol/gen/resilver.ts";
import {
  fed,
  NODES,
  nodeOf,
  observedOf,
  recordOf,
  replicaOf,
  voter,
  withVoter,
} from "./shard-fixture.ts";

function planned(record: ShardRecord, observed: Observed, policy = DEFAULT_RECOVERY_POLICY): Plan {
  return plan(record, observed, policy);
}

function actions(record: ShardRecord, observed: Observed): readonly Action[] {
  return planned(record, observed).actions;
}

/** A shard that never existed, on those nodes. */
function unborn(ensemble: readonly string[] = NODES): ShardRecord {
  return recordOf({
    ensemble,
    initialized: false,
    term: -1,
    generation: 0,
    leader: null,
    members: [],
    commitFloor: { term: -1, offset: -1 },
  });
}

const EMPTY: Partial<ObservedNode> = { replica: null };

/** A node whose replica was formatted for this shard and never held anything. */
function fresh(node: string, uid = `${node}1`): ObservedNode {
  const status = { status: ServingStatus.NOT_MEMBER, formattedBefore: false };
  const nothing = { head: undefined, commit: undefined, term: -1, generation: 0 };
  return nodeOf(node, { replica: replicaOf(node, { replicaUid: uid, ...status, ...nothing }) });
}

describe("plan: a shard that is as it ought to be", () => {
  it("needs nothing", () => {
    const nothing = { actions: [], stop: null, deferrals: [], waiting: null };
    assert.deepEqual(planned(recordOf(), observedOf()), nothing);
  });
});

describe("plan: opening", () => {
  it("is asked of the nodes that are here and have none open", () => {
    const observed = observedOf({ b: EMPTY, c: { ...EMPTY, reach: "down" } });
    const opens = actions(recordOf(), observed).filter(({ kind }) => kind === "openShard");
    assert.deepEqual(opens, [{ kind: "openShard", node: "b" }]);
  });

  it("of a new shard waits for every node: till then it would make a pod unready", () => {
    const away = observedOf({ a: EMPTY, b: EMPTY, c: { ...EMPTY, reach: "unknown" } });
    assert.deepEqual(actions(unborn(), away), []);
    const here = observedOf({ a: EMPTY, b: EMPTY, c: EMPTY });
    assert.deepEqual(
      actions(unborn(), here),
      NODES.map((node) => ({ kind: "openShard", node })),
    );
    // It asks for nodes of the store that are to hold no replica of it, too.
    const other = observedOf({ a: EMPTY, b: EMPTY, c: EMPTY, d: { ...EMPTY, reach: "down" } });
    assert.deepEqual(actions(unborn(), other), []);
  });

  it("does not grow a plan beyond its bound", () => {
    const ensemble = Array.from({ length: 40 }, (_, index) => `n${index}`);
    const changes = Object.fromEntries(ensemble.map((node) => [node, EMPTY]));
    const wide = observedOf({ a: EMPTY, b: EMPTY, c: EMPTY, ...changes });
    assert.equal(actions(unborn(ensemble), wide).length, 32);
  });
});

describe("plan: the bootstrap", () => {
  const all = { a: fresh("a"), b: fresh("b"), c: fresh("c") };

  it("saves the replicas that are there", () => {
    const members = NODES.map((node) => ({ node, uid: `${node}1` }));
    assert.deepEqual(actions(unborn(), observedOf(all)), [{ kind: "bootstrap", members }]);
  });

  it("waits for a replica that has no name yet", () => {
    const { actions: next, waiting } = planned(unborn(), observedOf({ ...all, b: fresh("b", "") }));
    assert.deepEqual(next, []);
    assert.match(waiting ?? "", /missing: b$/u);
  });

  it("waits until every node of the store has said that it holds nothing (R11)", () => {
    const unheard = observedOf({ ...all, d: { ...EMPTY, reach: "silent" } });
    const { actions: next, waiting } = planned(unborn(), unheard);
    assert.deepEqual(next, []);
    assert.match(waiting ?? "", /not heard: d$/u);
    const heard = observedOf({ ...all, d: EMPTY });
    assert.deepEqual(
      actions(unborn(), heard).map(({ kind }) => kind),
      ["bootstrap"],
    );
  });
});

describe("plan: a node that joins", () => {
  const joining = recordOf({
    desired: [...NODES, "d"],
    next: { ensemble: [...NODES, "d"], joint: false },
  });

  it("passes the gates like any other recovery", () => {
    const observed = observedOf({ d: { replica: fresh("d").replica } });
    assert.deepEqual(actions(joining, observed), [
      {
        kind: "recover",
        node: "d",
        oldUid: "",
        newUid: "d1",
        reason: "Joining",
        counted: true,
      },
    ]);
    const paused = { ...DEFAULT_RECOVERY_POLICY, mode: "Paused" } as const;
    const { actions: next, deferrals } = planned(joining, observed, paused);
    assert.deepEqual(next, []);
    assert.deepEqual(
      deferrals.map(({ node, gate, reason }) => [node, gate, reason]),
      [["d", "Paused", "Joining"]],
    );
  });
});

describe("plan: a change of members", () => {
  it("that adds one is given up when people want fewer by now", () => {
    const next = { ensemble: [...NODES, "d"], joint: false };
    const fewer = recordOf({ desired: ["a", "b"], next });
    assert.deepEqual(actions(fewer, observedOf()), [{ kind: "cancelChange" }]);
  });

  it("is not over while whoever leaves is away, nor stopped by it", () => {
    const record = recordOf({
      members: [...NODES.map((node) => voter(node)), voter("d", { role: "leaving" })],
    });
    assert.deepEqual(actions(record, observedOf()), []);
    assert.deepEqual(actions(record, observedOf({ d: { reach: "silent" } })), []);
    assert.deepEqual(actions(record, observedOf({ d: {} })), [{ kind: "retire", node: "d" }]);
  });
});

describe("plan: a voter that was set back", () => {
  const back = (node: string): Observed =>
    observedOf({ [node]: { replica: replicaOf(node, { rolledBack: true }) } });

  it("loses its vote at once", () => {
    assert.deepEqual(actions(recordOf(), back("b"))[0], { kind: "demote", node: "b", uid: "b1" });
  });

  it("keeps it while it leads the term without a restart: it holds everything (R16)", () => {
    assert.deepEqual(actions(recordOf(), back("a")), []);
  });

  it("loses it before anybody is elected", () => {
    const record = recordOf({ leader: null });
    assert.deepEqual(actions(record, back("a")), [{ kind: "demote", node: "a", uid: "a1" }]);
  });
});

describe("plan: claims", () => {
  const claims = { data: "d1", wal: "w1" };

  it("of a voter that is here are noted, once", () => {
    const noted = { kind: "noteClaims", claims: [{ node: "b", uid: "b1", claims }] };
    assert.deepEqual(actions(recordOf(), observedOf({ b: { claims } })), [noted]);
    const known = withVoter("b", { pvcUids: claims });
    assert.deepEqual(actions(known, observedOf({ b: { claims } })), []);
  });

  it("of whoever does not vote are not: it acknowledged nothing there", () => {
    const learner = withVoter("b", {
      role: "learner",
      enrolTerm: 5,
      target: { term: 5, offset: 10, crc: 0 },
    });
    const kinds = actions(learner, observedOf({ b: { claims } })).map(({ kind }) => kind);
    assert.ok(!kinds.includes("noteClaims"));
  });

  it("under another replica, or none that is here, are not", () => {
    for (const change of [
      { replica: replicaOf("b", { replicaUid: "b2" }) },
      { replica: null },
      { reach: "down" },
    ] as const) {
      const kinds = actions(recordOf(), observedOf({ b: { claims, ...change } }));
      assert.ok(!kinds.some(({ kind }) => kind === "noteClaims"));
    }
  });

  it("of a node that nothing is known of stop no plan", () => {
    const { nodes, ...about } = observedOf();
    const seen = { ...about, nodes: new Map([...nodes].filter(([node]) => node !== "b")) };
    assert.deepEqual(actions(recordOf(), seen), []);
  });

  it("are saved for the replicas that they were read for", () => {
    const noted = [
      { node: "b", uid: "b1", claims },
      { node: "c", uid: "c9", claims },
    ];
    assert.deepEqual(withClaims(recordOf(), noted).members, [
      voter("a"),
      voter("b", { pvcUids: claims }),
      voter("c"),
    ]);
  });
});

describe("plan: the floor", () => {
  const low = recordOf({ commitFloor: { term: 4, offset: 3 } });
  const leading = (change: Parameters<typeof replicaOf>[1]): readonly Action[] =>
    actions(low, observedOf({ a: { replica: replicaOf("a", change) } }));

  it("rises to what the leader committed in its own term (R6, R7)", () => {
    const floor = { term: 5, offset: 10 };
    assert.deepEqual(leading({}), [{ kind: "raiseFloor", floor }]);
  });

  it("stays while the leader's barrier is not committed", () => {
    assert.deepEqual(leading({ serving: false }), []);
    assert.deepEqual(leading({ commit: { term: 4, offset: 10, crc: 0 } }), []);
    assert.deepEqual(leading({ commit: undefined }), []);
  });
});

describe("plan: a smaller ensemble", () => {
  const pair = ["a", "b"];
  const kinds = (leader: Parameters<typeof replicaOf>[1], next?: ShardRecord["next"]) =>
    actions(
      recordOf({ desired: pair, ...(next === undefined ? {} : { next }) }),
      observedOf({ a: { replica: replicaOf("a", leader) } }),
    ).map(({ kind }) => kind);
  const begun = { ensemble: pair, joint: false };

  it("is begun, and then entered, under a leader that serves and feeds who stays", () => {
    assert.deepEqual(kinds({}), ["beginChange"]);
    assert.deepEqual(kinds({}, begun), ["startJoint"]);
  });

  it("neither under one that has committed nothing yet, nor with whom it does not reach", () => {
    assert.deepEqual(kinds({ serving: false }), []);
    assert.deepEqual(kinds({ serving: false }, begun), []);
    const followers = [fed("b", { state: "Connecting" }), fed("c")];
    assert.deepEqual(kinds({ followers }, begun), []);
  });
});

describe("plan: an election", () => {
  it("is called for when the leader is lost, and excludes it only when it was cut off", () => {
    const down = observedOf({ a: { reach: "down" } });
    assert.deepEqual(actions(recordOf(), down), [
      { kind: "elect", why: "LeaderDown", exclude: null },
    ]);
    const isolated = observedOf(
      { a: { replica: replicaOf("a", { followers: [] }) } },
      { leaderCutOffMs: 5_000 },
    );
    assert.deepEqual(actions(recordOf(), isolated), [
      { kind: "elect", why: "LeaderIsolated", exclude: "a" },
    ]);
  });

  it("waits while too few voters are reachable: a new term would only fence who still serves", () => {
    const away = observedOf({ a: { reach: "down" }, b: { reach: "silent" } });
    const { actions: next, stop, waiting } = planned(recordOf(), away);
    assert.deepEqual([next, stop], [[], null]);
    assert.match(waiting ?? "", /LeaderDown.*too few voters reachable: c$/u);
  });

  it("waits for the report of a leader that is not heard of yet", () => {
    const { actions: next, waiting } = planned(recordOf(), observedOf({ a: { reach: "unknown" } }));
    assert.deepEqual(next, []);
    assert.match(waiting ?? "", /leader's report/u);
  });
});
