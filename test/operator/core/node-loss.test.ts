import assert from "node:assert/strict";
import {
  type MachineState,
  type NodeLossInput,
  nodeLossStep,
  type PlacedPod,
  type VotesOfShard,
} from "../../../operator/core/node-loss.ts";

type Places = Readonly<Record<string, MachineState>>;

const claim = (name: string, places: Places | null) => ({
  name,
  uid: `uid-${name}`,
  machines:
    places === null
      ? null
      : Object.entries(places).map(([machine, state]) => ({ name: machine, state })),
});

/** A pod that runs. */
const whole = (name: string): PlacedPod => ({
  name,
  unplaced: false,
  stuckOn: null,
  ready: true,
  claims: [claim(`data-${name}`, null), claim(`wal-${name}`, null)],
});

/** A pod that waits for the machines of its volumes. */
const waiting = (name: string, places: Places | null): PlacedPod => ({
  ...whole(name),
  unplaced: true,
  ready: false,
  claims: [claim(`data-${name}`, places), claim(`wal-${name}`, places)],
});

const stuck = (name: string, state: MachineState): PlacedPod => ({
  ...whole(name),
  stuckOn: { name: "m2", state },
  ready: false,
});

const NAMES = ["s-0", "s-1", "s-2"];

const shard = (more: Partial<VotesOfShard> = {}): VotesOfShard => ({
  name: "default/0",
  known: true,
  initialized: true,
  stop: null,
  ensemble: NAMES,
  changing: false,
  serving: true,
  holding: ["s-0", "s-1"],
  answering: ["s-0", "s-1"],
  behind: ["s-2"],
  ...more,
});

/** The machine of `s-2` is gone, a majority votes, the time has passed: nothing is in the way. */
function input(more: Partial<NodeLossInput> = {}, machine: MachineState = "gone"): NodeLossInput {
  return {
    replace: true,
    mode: "Automatic",
    graceMs: 60_000,
    expected: NAMES,
    pods: [whole("s-0"), whole("s-1"), waiting("s-2", { m2: machine })],
    terminating: [],
    lostMs: new Map([["s-2", 60_000]]),
    shards: [shard()],
    ...more,
  };
}

function waits(given: NodeLossInput): string {
  const step = nodeLossStep(given);
  assert.equal(step.kind, "wait");
  return step.kind === "wait" ? `${step.pod}: ${step.why}` : "";
}

describe("loss of a machine", () => {
  it("replaces the claims of a pod whose machine is gone, or was declared out of service", () => {
    for (const machine of ["gone", "out of service"] as const) {
      const step = nodeLossStep(input({}, machine));
      assert.equal(step.kind, "replace");
      if (step.kind !== "replace") continue;
      assert.equal(step.pod, "s-2");
      assert.deepEqual(
        step.claims.map(({ name }) => name),
        ["data-s-2", "wal-s-2"],
      );
      assert.match(step.why, /^its volumes are on m2 \((gone|out of service)\)$/u);
      assert.deepEqual(step.witnesses, ["s-0", "s-1"]);
    }
  });

  it("has nothing to say of pods that run, or wait for something else", () => {
    assert.equal(nodeLossStep(input({ pods: NAMES.map(whole) })).kind, "none");
    assert.equal(nodeLossStep(input({}, "ready")).kind, "none");
    for (const places of [null, {}]) {
      const pods = [whole("s-0"), whole("s-1"), waiting("s-2", places)];
      assert.equal(nodeLossStep(input({ pods })).kind, "none");
    }
    assert.equal(nodeLossStep(input({ pods: [whole("s-0"), stuck("s-2", "ready")] })).kind, "none");
  });

  it("takes silence for nobody's word, and says what a person can do", () => {
    const advice = /switch it off, then delete the Node, or taint it/u;
    assert.match(waits(input({}, "not ready")), /^s-2: its volumes are on m2 \(not ready\); when/u);
    assert.match(waits(input({}, "not ready")), advice);
    // The usual beginning: the pod is still on the machine that has fallen silent.
    const pods = [whole("s-0"), whole("s-1"), stuck("s-2", "not ready")];
    assert.match(waits(input({ pods })), /^s-2: it is on m2 \(not ready\); when/u);
    assert.match(waits(input({ pods })), advice);
  });

  it("asks for no word that was given: the cluster removes the pod", () => {
    for (const state of ["gone", "out of service"] as const) {
      const pods = [whole("s-0"), whole("s-1"), stuck("s-2", state)];
      const said = waits(input({ pods }));
      assert.match(said, /^s-2: it is on m2 \([a-z ]+\); the cluster removes the pod by itself; /u);
      assert.match(said, /`kubectl delete pod s-2 --force` in its namespace$/u);
    }
  });

  it("keeps what is on a machine that is ready again under its taint", () => {
    assert.match(waits(input({}, "back")), /m2 \(back\); take the taint .* from it/u);
    const pods = [whole("s-0"), whole("s-1"), waiting("s-2", { m2: "gone", m3: "back" })];
    assert.match(waits(input({ pods })), /m3 \(back\); take the taint/u);
  });

  it("waits while one of a volume's machines is there", () => {
    const pods = [whole("s-0"), whole("s-1"), waiting("s-2", { m2: "gone", m3: "not ready" })];
    assert.match(waits(input({ pods })), /m3 \(not ready\); when it will not/u);
    const there = [whole("s-0"), whole("s-1"), waiting("s-2", { m2: "gone", m3: "ready" })];
    assert.equal(nodeLossStep(input({ pods: there })).kind, "none");
  });

  const obstacles: readonly (readonly [string, Partial<NodeLossInput>, RegExp])[] = [
    ["it is not asked for", { replace: false }, /set recovery.onNodeLoss to Replace/u],
    ["nothing is to happen by itself", { mode: "Manual" }, /recovery.mode is Manual/u],
    ["the grace time", { lostMs: new Map([["s-2", 18_500]]) }, /still so in 42 s/u],
    ["the time is not known", { lostMs: new Map() }, /still so in 60 s/u],
    [
      "another pod is being rebuilt",
      {
        shards: [
          shard(),
          shard({
            ensemble: ["s-0"],
            behind: ["s-1"],
            answering: ["s-0", "s-1"],
            holding: ["s-0"],
          }),
        ],
      },
      /s-1 is being rebuilt/u,
    ],
    [
      "another pod is not ready, though its process votes",
      { pods: [whole("s-0"), { ...whole("s-1"), ready: false }, waiting("s-2", { m2: "gone" })] },
      /s-1 is not ready/u,
    ],
    [
      "another pod is not there",
      { pods: [whole("s-0"), waiting("s-2", { m2: "gone" })] },
      /there is no pod s-1 now/u,
    ],
    ["no majority without it", { shards: [shard({ holding: ["s-0"] })] }, /1 of 3 replicas of/u],
    [
      "just half without it, of an even number",
      { shards: [shard({ ensemble: [...NAMES, "s-3"] })] },
      /2 of 4 replicas of .* a majority is needed/u,
    ],
    [
      "one of its claims has no uid yet",
      {
        pods: [whole("s-0"), whole("s-1"), waiting("s-2", { m2: "gone" })].map((pod) => ({
          ...pod,
          claims: pod.claims.map((one) => (one.name === "wal-s-2" ? { ...one, uid: "" } : one)),
        })),
      },
      /a claim has no uid yet/u,
    ],
    [
      "the voters that are left are processes of earlier pods, on machines said to be lost",
      {
        pods: [whole("s-0"), waiting("s-1", { m1: "gone" }), waiting("s-2", { m2: "gone" })],
        lostMs: new Map([
          ["s-1", 60_000],
          ["s-2", 60_000],
        ]),
        shards: [shard({ holding: NAMES, answering: ["s-0"], behind: [] })],
      },
      /1 of 3 replicas of default\/0 vote and hold/u,
    ],
    [
      "its own process still answers",
      { shards: [shard({ answering: NAMES })] },
      /a process of s-2 still answers.*switch that off/u,
    ],
    ["nobody leads", { shards: [shard({ serving: false })] }, /a majority is needed/u],
    ["the ensemble changes", { shards: [shard({ changing: true })] }, /is being changed/u],
    ["a shard is stopped", { shards: [shard(), shard({ stop: "RecordLost, x" })] }, /RecordLost/u],
    ["a shard was never started", { shards: [shard({ initialized: false })] }, /by hand/u],
    ["there are no shards", { shards: [] }, /nothing is known of its shards/u],
    [
      "a shard is not known",
      { shards: [shard(), shard({ known: false })] },
      /nothing is known of/u,
    ],
    [
      "the only copy",
      { shards: [shard({ ensemble: ["s-2"], holding: [] })] },
      /0 of 1 replicas of default\/0 vote/u,
    ],
    ["a claim is going already", { terminating: ["wal-s-1"] }, /wal-s-1 is being deleted/u],
  ];
  for (const [why, more, told] of obstacles) {
    it(`waits: ${why}`, () => {
      assert.match(waits(input(more)), told);
    });
  }

  it("does not wait for a new shard that waits for the pod, and has no place on it", () => {
    const fresh = shard({
      initialized: false,
      ensemble: ["s-0", "s-1"],
      holding: [],
      behind: ["s-1"],
    });
    assert.equal(nodeLossStep(input({ shards: [shard(), fresh] })).kind, "replace");
  });

  it("does not wait for a leader of a shard that has no replica on it", () => {
    const other = shard({ ensemble: ["s-0", "s-1"], behind: [], serving: false });
    assert.equal(nodeLossStep(input({ shards: [shard(), other] })).kind, "replace");
  });

  it("advises to keep the claims where they may be the last ones, whatever else is set", () => {
    const shards = [shard({ holding: ["s-0"] })];
    const kept = /; keep its claims, they may be needed: without it 1 of 3 replicas of default\/0/u;
    assert.match(waits(input({ replace: false, shards })), kept);
    assert.match(waits(input({ mode: "Manual", shards })), kept);
    assert.match(waits(input({ mode: "Paused", shards })), kept);
  });

  it("has the claims of a shard that was never started deleted only where no other needs them", () => {
    const fresh = shard({ name: "a/1", initialized: false, serving: false, holding: [] });
    for (const more of [{}, { replace: false }, { mode: "Manual" }] as const) {
      const free = waits(input({ ...more, shards: [fresh, shard()] }));
      assert.match(free, /; a\/1 was never started, .*; delete the claims and the pod by hand$/u);
      const needed = waits(input({ ...more, shards: [fresh, shard({ holding: ["s-0"] })] }));
      assert.match(needed, /1 of 3 replicas of default\/0 vote/u);
      assert.doesNotMatch(needed, /by hand/u);
    }
  });

  describe("of several lost machines", () => {
    const names = ["s-0", "s-1", "s-2", "s-3", "s-4"];
    const pods = (...last: readonly PlacedPod[]): readonly PlacedPod[] => [
      whole("s-0"),
      whole("s-1"),
      whole("s-2"),
      ...last,
    ];
    const given = (last: readonly PlacedPod[], answering: readonly string[] = names.slice(0, 3)) =>
      input({
        expected: names,
        pods: pods(...last),
        lostMs: new Map(names.map((name) => [name, 60_000])),
        shards: [
          shard({
            ensemble: names,
            holding: names.slice(0, 3),
            answering,
            behind: names.slice(3),
          }),
        ],
      });

    it("goes on with the pod that nothing speaks against", () => {
      const step = nodeLossStep(
        given([waiting("s-3", { m3: "not ready" }), waiting("s-4", { m4: "gone" })]),
      );
      assert.equal(step.kind === "replace" && step.pod, "s-4");
    });

    it("replaces one, and the next one when the first one votes again", () => {
      const lost = waiting("s-4", { m4: "gone" });
      const first = nodeLossStep(given([waiting("s-3", { m3: "gone" }), lost]));
      assert.equal(first.kind === "replace" && first.pod, "s-3");
      // Its pod is away, waits for a machine with its new claims, starts, and is rebuilt.
      assert.match(waits(given([lost])), /there is no pod s-3/u);
      assert.match(waits(given([waiting("s-3", null), lost])), /s-3 is not ready/u);
      assert.match(waits(given([stuck("s-3", "ready"), lost])), /s-3 is not ready/u);
      assert.match(waits(given([whole("s-3"), lost], names.slice(0, 4))), /s-3 is being rebuilt/u);
    });
  });
});
