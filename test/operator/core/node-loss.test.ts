import assert from "node:assert/strict";
import {
  type MachineState,
  type NodeLossInput,
  nodeLossStep,
  type PlacedPod,
  type VotesOfShard,
} from "../../../operator/core/node-loss.ts";

const claim = (name: string, machine: string | null, terminating = false) => ({
  name,
  uid: `uid-${name}`,
  terminating,
  machines: machine === null ? null : [machine],
});

const pod = (name: string, machine: string | null, unplaced = false): PlacedPod => ({
  name,
  unplaced,
  claims: [claim(`data-${name}`, machine), claim(`wal-${name}`, machine)],
});

const shard = (more: Partial<VotesOfShard> = {}): VotesOfShard => ({
  name: "default/0",
  known: true,
  ensemble: ["s-0", "s-1", "s-2"],
  changing: false,
  serving: true,
  voting: ["s-0", "s-1"],
  rebuilding: [],
  ...more,
});

/** The machine of `s-2` is gone, a majority votes, the time has passed: nothing is in the way. */
function input(more: Partial<NodeLossInput> = {}, machine: MachineState = "gone"): NodeLossInput {
  return {
    replace: true,
    mode: "Automatic",
    graceMs: 60_000,
    pods: [pod("s-0", null), pod("s-1", null), pod("s-2", "m2", true)],
    machines: new Map([["m2", machine]]),
    unplacedMs: new Map([["s-2", 60_000]]),
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
    }
  });

  it("has nothing to say of pods that run, or wait for something else", () => {
    const running = [pod("s-0", "m0"), pod("s-1", "m1"), pod("s-2", "m2")];
    assert.equal(nodeLossStep(input({ pods: running })).kind, "none");
    assert.equal(nodeLossStep(input({}, "ready")).kind, "none");
    const anywhere = [pod("s-2", null, true)];
    assert.equal(nodeLossStep(input({ pods: anywhere })).kind, "none");
  });

  it("takes silence for nobody's word, and says what a person can do", () => {
    assert.match(
      waits(input({}, "not ready")),
      /^s-2: its volumes are on m2 \(not ready\); when it will not come back, delete the Node/u,
    );
  });

  it("waits while one of a volume's machines is there", () => {
    const two = { ...claim("data-s-2", null), machines: ["m2", "m3"] };
    const pods = [{ name: "s-2", unplaced: true, claims: [two] }];
    const machines = new Map<string, MachineState>([
      ["m2", "gone"],
      ["m3", "not ready"],
    ]);
    assert.match(waits(input({ pods, machines })), /m3 \(not ready\); when it will not/u);
    assert.equal(nodeLossStep(input({ pods, machines: new Map([["m2", "gone"]]) })).kind, "none");
  });

  const obstacles: readonly (readonly [string, Partial<NodeLossInput>, RegExp])[] = [
    ["it is not asked for", { replace: false }, /set recovery.onNodeLoss to Replace/u],
    ["nothing is to happen by itself", { mode: "Manual" }, /recovery.mode is Manual/u],
    ["the grace time", { unplacedMs: new Map([["s-2", 18_500]]) }, /still so in 42 s/u],
    [
      "another pod is being rebuilt",
      { shards: [shard(), shard({ ensemble: ["s-0"], rebuilding: ["s-1"] })] },
      /s-1 is being rebuilt/u,
    ],
    ["no majority without it", { shards: [shard({ voting: ["s-0"] })] }, /1 of 3 replicas of/u],
    ["nobody leads", { shards: [shard({ serving: false })] }, /a majority is needed/u],
    ["the ensemble changes", { shards: [shard({ changing: true })] }, /is being changed/u],
    ["there are no shards", { shards: [] }, /nothing is known of its shards/u],
    [
      "a shard is not known",
      { shards: [shard(), shard({ known: false })] },
      /nothing is known of/u,
    ],
    [
      "the only copy",
      { shards: [shard({ ensemble: ["s-2"], voting: [] })] },
      /0 of 1 replicas of default\/0 vote/u,
    ],
    [
      "a claim is going already",
      {
        pods: [
          { name: "s-1", unplaced: false, claims: [claim("data-s-1", "m1", true)] },
          pod("s-2", "m2", true),
        ],
      },
      /a claim of s-1 is being deleted/u,
    ],
  ];
  for (const [why, more, told] of obstacles) {
    it(`waits: ${why}`, () => {
      assert.match(waits(input(more)), told);
    });
  }

  it("of two lost machines, goes on with the pod that nothing speaks against", () => {
    const pods = [pod("s-1", "m1", true), pod("s-2", "m2", true)];
    const machines = new Map<string, MachineState>([
      ["m1", "not ready"],
      ["m2", "gone"],
    ]);
    const five = shard({
      ensemble: ["s-0", "s-1", "s-2", "s-3", "s-4"],
      voting: ["s-0", "s-3", "s-4"],
    });
    const step = nodeLossStep(input({ pods, machines, shards: [five] }));
    assert.equal(step.kind === "replace" && step.pod, "s-2");
  });
});
