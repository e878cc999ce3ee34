import assert from "node:assert/strict";
import { RecoveringNodes } from "../../../operator/controller/recovering-nodes.ts";
import { MemberRole } from "../../../sidecar/protocol/gen/resilver.ts";
import { ServingStatus } from "../../../sidecar/protocol/status.ts";
import { fed, nodeOf, replicaOf, withVoter } from "../core/shard-fixture.ts";
import { VirtualClock } from "./virtual-clock.ts";

describe("RecoveringNodes", () => {
  const record = withVoter("b", { role: "learner", enrolTerm: 5 });
  const feeding = (state: string) => {
    return {
      replica: replicaOf("a", { followers: [fed("b", { role: MemberRole.LEARNER, state })] }),
    };
  };

  /** What counts at once, and once it has been so for six seconds. */
  async function counted(
    leader: Partial<ReturnType<typeof nodeOf>>,
    learner: Partial<ReturnType<typeof nodeOf>> = {},
  ): Promise<readonly [boolean, boolean]> {
    const clock = new VirtualClock();
    const recovering = new RecoveringNodes(clock);
    const nodes = { a: nodeOf("a", leader), b: nodeOf("b", learner), c: nodeOf("c") };
    const count = (): boolean =>
      recovering.of(record, (node) => nodes[node as keyof typeof nodes]).includes("b");
    const first = count();
    await clock.pass(6_000);
    return [first, count()];
  }

  for (const state of ["Stream", "Snapshot", "NoSpace"]) {
    it(`counts a learner that is fed as ${state}, however long that takes`, async () => {
      assert.deepEqual(await counted(feeding(state)), [true, true]);
    });
  }

  for (const state of ["Down", "Connecting", "Probe"]) {
    it(`does not count one that has been ${state} for long: others would wait for ever`, async () => {
      assert.deepEqual(await counted(feeding(state)), [true, false]);
    });
  }

  it("does not count one that no leader has fed for long", async () => {
    assert.deepEqual(await counted({ reach: "down" }), [true, false]);
    const fenced = { replica: replicaOf("a", { status: ServingStatus.FENCED, followers: [] }) };
    assert.deepEqual(await counted(fenced), [true, false]);
  });

  it("does not count one that is away", async () => {
    assert.deepEqual(await counted(feeding("Stream"), { reach: "down" }), [false, false]);
  });
});
