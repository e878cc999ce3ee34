import assert from "node:assert/strict";
import { rolloutShard, rolloutStep, type RolloutPod } from "../../../operator/core/rollout.ts";
import { STOP_REASONS } from "../../../operator/core/stops.ts";
import { wantedEnsemble } from "../../../operator/core/scale.ts";
import { replicaView, shardViewOf } from "../local/status-fixture.ts";

const NAMES = ["s-0", "s-1", "s-2"];

function pods(changes: Readonly<Record<string, Partial<RolloutPod>>>): readonly RolloutPod[] {
  return NAMES.map((name) => ({
    name,
    updated: false,
    ready: true,
    running: true,
    terminating: false,
    claimTerminating: false,
    ...changes[name],
  }));
}

const shard = (leader: string | null, voting = NAMES) => [
  { name: "default/0", ensemble: NAMES, voting, leader },
];

function step(
  changes: Readonly<Record<string, Partial<RolloutPod>>>,
  leader: string | null = "s-2",
  voting = NAMES,
): string {
  const next = rolloutStep(pods(changes), shard(leader, voting), 3);
  switch (next.kind) {
    case "done":
      return "done";
    case "wait":
      return `wait: ${next.why}`;
    case "handOver":
      return `hand over ${next.pod} to ${next.shards.map(({ to }) => to).join()}`;
    case "evict":
      return `evict ${next.pod}`;
  }
}

const UPDATED = { updated: true };

describe("rollout", () => {
  it("followers first, the highest first, the leader last", () => {
    assert.equal(step({}), "evict s-1");
    assert.equal(step({ "s-1": UPDATED }), "evict s-0");
    assert.equal(step({ "s-0": UPDATED, "s-1": UPDATED }), "hand over s-2 to s-0");
    assert.equal(step({ "s-0": UPDATED, "s-1": UPDATED }, "s-0"), "evict s-2");
    assert.equal(step({ "s-0": UPDATED, "s-1": UPDATED, "s-2": UPDATED }), "done");
  });

  it("what does not serve goes before what does", () => {
    assert.equal(step({ "s-0": { ready: false } }, "s-2", ["s-1", "s-2"]), "evict s-0");
  });

  it("what does not serve goes first, whatever is still said of it", () => {
    assert.equal(step({ "s-0": { ready: false } }), "evict s-0");
    const down = { ready: false, running: false };
    assert.equal(step({ "s-0": down, "s-1": { ready: false } }), "evict s-0");
  });

  it("who leads one shard of several goes last", () => {
    const shards = [...shard("s-0"), ...shard("s-2").map((one) => ({ ...one, name: "a/1" }))];
    assert.deepEqual(rolloutStep(pods({}), shards, 3), { kind: "evict", pod: "s-1" });
  });

  it("counts as voters those that vote right now, not all replicas", () => {
    const views = [replicaView("s-0", { voting: false, lacksEntries: null }), replicaView("s-1")];
    const view = shardViewOf(views, { ensemble: NAMES, leader: "s-1" });
    const { voting, lacks } = rolloutShard(view);
    assert.deepEqual([voting, [...(lacks ?? [])]], [["s-1"], [["s-1", 0]]]);
  });

  it("leaves the survivor of a lost quorum where it is while the others are held back", () => {
    const survivor = { "s-0": { ready: false } };
    const down = { ready: false, running: false };
    const held = { ...down, updated: true };
    assert.equal(step(survivor, null, []), "wait: s-0 is needed for a majority of default/0");
    const others = { "s-1": held, "s-2": held };
    assert.equal(step({ ...survivor, ...others }, null, []), "wait: s-1 is not ready yet");
    const forced = { name: "default/0", ensemble: ["s-0"], voting: ["s-0"], leader: "s-0" };
    const waits = { kind: "wait", why: "s-1 is not ready yet" };
    assert.deepEqual(rolloutStep(pods(others), [forced], 3), waits);
    const letGo = { "s-0": UPDATED, "s-1": down, "s-2": down };
    assert.deepEqual(rolloutStep(pods(letGo), [forced], 3), { kind: "evict", pod: "s-2" });
  });

  it("never two at a time", () => {
    const waits = [
      step({ "s-0": { terminating: true } }),
      step({ "s-0": { updated: true, ready: false } }),
    ];
    assert.deepEqual(waits, ["wait: s-0 is being made anew", "wait: s-0 is not ready yet"]);
    assert.deepEqual(rolloutStep(pods({}).slice(1), shard("s-2"), 3), {
      kind: "wait",
      why: "2 of 3 pods are there",
    });
  });

  it("never one that a majority needs, nor one of which nothing is known", () => {
    assert.equal(step({}, "s-2", ["s-2"]), "wait: s-1 is needed for a majority of default/0");
    assert.equal(step({}, "s-2", ["s-1", "s-2"]), "evict s-0", "it does not vote anyway");
    assert.equal(step({}, null, []), "wait: s-2 is needed for a majority of default/0");
  });

  it("none of a majority while another of it is far behind, or nothing flows to it", () => {
    const next = (lacksEntries: number | null): unknown => {
      const lagging = replicaView("s-0", { lacksEntries });
      const leader = replicaView("s-2", { role: "leader" });
      const view = shardViewOf([lagging, replicaView("s-1"), leader], {
        ensemble: NAMES,
        leader: "s-2",
      });
      // The one that lags is as it ought to be, the leader has to go.
      const changes = { "s-0": UPDATED, "s-1": UPDATED };
      const step = rolloutStep(pods(changes), [rolloutShard(view)], 3);
      return step.kind === "wait" ? step.why : step.kind;
    };
    const waits = "s-2 is needed for a majority of default/0 until the others have caught up";
    assert.deepEqual([next(0), next(10_000)], ["handOver", "handOver"]);
    assert.deepEqual([next(10_001), next(null)], [waits, waits]);
  });

  it("a voter whose sidecar has ended since is no witness", () => {
    const down = { updated: true, running: false };
    const next = step({ "s-0": down, "s-1": { ready: false } });
    assert.equal(next, "wait: s-1 is needed for a majority of default/0");
  });

  it("pods that do not run at all can all be made anew: a broken image is mended so", () => {
    const down = { ready: false, running: false };
    assert.equal(step({ "s-0": down, "s-1": down, "s-2": down }, null, []), "evict s-2");
  });

  it("pods that do not run go before one that runs and is needed", () => {
    const down = { ready: false, running: false };
    const changes = { "s-0": down, "s-1": down, "s-2": { ready: false } };
    assert.equal(step(changes, null, []), "evict s-1");
  });

  it("one that has to stay holds no other up", () => {
    const changes = { "s-1": { ready: false, claimTerminating: true } };
    const shards = [
      { name: "a/0", ensemble: NAMES, voting: NAMES, leader: "s-2" },
      { name: "a/1", ensemble: ["s-1", "s-2", "s-3"], voting: ["s-1", "s-2"], leader: "s-2" },
    ];
    const next = rolloutStep(pods(changes).slice(0, 2), shards, 2);
    assert.deepEqual(next, { kind: "evict", pod: "s-0" });
  });

  it("a shard that was never written to holds nobody back", () => {
    const view = shardViewOf([], { ensemble: NAMES, leader: null, initialized: false });
    const next = rolloutStep(pods({}), [rolloutShard(view)], 3);
    assert.deepEqual(next, { kind: "evict", pod: "s-2" });
  });

  it("a leader is succeeded by an updated pod that keeps up, by the one that lacks least", () => {
    const ensemble = [...NAMES, "s-3", "s-4"];
    const [pod] = pods({});
    assert.ok(pod);
    const all = ensemble.map((name) => ({ ...pod, name, updated: name !== "s-2" }));
    const to = (...entries: readonly number[]): unknown => {
      const lacks = new Map(ensemble.map((name, at) => [name, entries[at] ?? null]));
      const shards = [{ name: "a/0", ensemble, voting: ensemble, leader: "s-2", lacks }];
      const next = rolloutStep(all, shards, 5);
      return next.kind === "handOver" ? next.shards[0]?.to : next.kind;
    };
    assert.equal(to(9, 3, 0, 500, 500), "s-1");
    assert.equal(to(2_000, 9, 0, 8, 7), "s-4");
    const shards = [{ name: "a/0", ensemble, voting: ensemble, leader: "s-2" }];
    const only = all.map((each) => ({ ...each, updated: each.name === "s-3" }));
    const leaderNext = only.filter(({ name }) => name === "s-2" || name === "s-3");
    assert.deepEqual(rolloutStep(leaderNext, shards, 2), {
      kind: "handOver",
      pod: "s-2",
      shards: [{ name: "a/0", to: "s-3" }],
    });
  });

  it("a leader is never its own successor, however little the others hold", () => {
    const [first] = pods({});
    assert.ok(first);
    const lacks = new Map([
      ["s-0", 0],
      ["s-1", 500],
      ["s-2", 400],
    ]);
    const shards = [{ name: "a/0", ensemble: NAMES, voting: NAMES, leader: "s-0", lacks }];
    assert.deepEqual(rolloutStep([first], shards, 1), {
      kind: "handOver",
      pod: "s-0",
      shards: [{ name: "a/0", to: "s-2" }],
    });
  });

  it("never one whose data goes with it while another replica does not vote", () => {
    const leaving = { "s-1": { ready: false, running: false, claimTerminating: true } };
    assert.match(step(leaving, "s-2", ["s-2"]), /^wait: s-1 would lose its data/);
    assert.equal(step(leaving, "s-2", ["s-0", "s-2"]), "evict s-1");
  });

  it("the only copy of a shard is done without for a while", () => {
    const alone = [{ name: "a/0", ensemble: ["s-0"], voting: ["s-0"], leader: "s-0" }];
    const [first] = pods({});
    assert.ok(first);
    assert.deepEqual(rolloutStep([first], alone, 1), { kind: "evict", pod: "s-0" });
  });

  it("the only copy of a shard stays while its claim is being deleted", () => {
    const alone = [{ name: "a/0", ensemble: ["s-0"], voting: ["s-0"], leader: "s-0" }];
    const going = pods({ "s-0": { claimTerminating: true } }).slice(0, 1);
    const why = "s-0 would lose the only copy of a/0";
    assert.deepEqual(rolloutStep(going, alone, 1), { kind: "wait", why });
  });

  it("a pod whose claim is being deleted stays where nothing was written as far as is known", () => {
    const fresh = shardViewOf([], { ensemble: NAMES, leader: null, initialized: false });
    const going = pods({ "s-2": { claimTerminating: true, ready: false } });
    const shards = [rolloutShard(fresh)];
    assert.deepEqual(rolloutStep(going, shards, 3), { kind: "evict", pod: "s-1" });
    const why = "s-2 would lose what it may hold of default/0";
    assert.deepEqual(rolloutStep(going.slice(2), shards, 1), { kind: "wait", why });
  });

  for (const reason of STOP_REASONS) {
    const distrusted = /^(Record|WrongStore)/u.test(reason);
    it(`under ${reason} ${distrusted ? "none is made anew" : "only those that hold nothing up"}`, () => {
      const stop = { reason, message: "x" };
      const down = { ready: false, running: false };
      for (const initialized of [false, true]) {
        const view = shardViewOf([], { ensemble: NAMES, leader: null, initialized, stop });
        const running = rolloutStep(pods({}), [rolloutShard(view)], 3);
        const ended = rolloutStep(pods({ "s-1": down }), [rolloutShard(view)], 3);
        const why = `nothing is made anew under ${reason} of default/0`;
        if (distrusted) {
          assert.deepEqual(
            [running, ended],
            [
              { kind: "wait", why },
              { kind: "wait", why },
            ],
          );
        } else {
          assert.deepEqual(ended, { kind: "evict", pod: "s-1" });
          if (initialized) assert.equal(running.kind, "wait");
        }
      }
    });
  }

  it("under a stop that believes the record none goes with its data", () => {
    const stop = { reason: "QuorumLost", message: "x" } as const;
    const view = shardViewOf([], { ensemble: NAMES, leader: null, stop });
    const going = pods({ "s-2": { ready: false, running: false, claimTerminating: true } });
    const why = "s-2 would lose its data while another replica of default/0 does not vote";
    assert.deepEqual(rolloutStep(going.slice(2), [rolloutShard(view)], 1), { kind: "wait", why });
  });
});

describe("wanted ensemble", () => {
  const cases: readonly (readonly [string, readonly string[], number, number, string | null])[] = [
    ["nothing to do", ["s-0", "s-1", "s-2"], 5, 3, null],
    ["more copies: those there are stay", ["s-1"], 3, 3, "s-1,s-0,s-2"],
    ["fewer copies", ["s-1", "s-0", "s-2"], 3, 1, "s-1"],
    ["a node that goes is replaced", ["s-3", "s-0", "s-4"], 3, 3, "s-0,s-1,s-2"],
    ["one too many is on a node that goes", ["s-0", "s-9", "s-1", "s-2"], 3, 3, "s-0,s-1,s-2"],
  ];
  for (const [what, desired, count, replicationFactor, wanted] of cases) {
    it(what, () => {
      const nodes = Array.from({ length: count }, (_, i) => `s-${i}`);
      const ensemble = wantedEnsemble({ desired, nodes, shard: 0, replicationFactor });
      assert.equal(ensemble?.join() ?? null, wanted);
    });
  }
});
