/** How far a learner has come, as people are told. */
import assert from "node:assert/strict";
import { learnerPhase } from "../../../operator/core/observed.ts";
import type { RecordMember } from "../../../operator/core/record.ts";
import { FollowerProgress, ReplicaStatus } from "../../../sidecar/protocol/gen/resilver.ts";
import { observedOf } from "./shard-fixture.ts";

const LEARNER: RecordMember = {
  node: "c",
  replicaUid: "c2",
  role: "learner",
  ackedTerm: -1,
  enrolTerm: 3,
};
const NOTHING_SEEN = observedOf({}, { nodes: new Map() });

function fedAs(follower: Partial<FollowerProgress>): ReplicaStatus {
  const fed = { node: "c", replicaUid: "c2", ...follower };
  return ReplicaStatus.fromPartial({ followers: [fed] });
}

describe("the phase of a learner that is fed the log alone", () => {
  const phaseWith = (leader: ReplicaStatus | null, member = LEARNER): string =>
    learnerPhase(leader, NOTHING_SEEN, member);

  it("goes from Enrolled by CatchingUp to Promoting", () => {
    assert.equal(phaseWith(null), "Enrolled");
    assert.equal(phaseWith(fedAs({ state: "Connecting" })), "Enrolled");
    assert.equal(phaseWith(fedAs({ state: "Stream" })), "CatchingUp");
    assert.equal(phaseWith(fedAs({ state: "Stream", reachedTarget: true })), "Promoting");
  });

  it("is not concluded from what the leader says of the replica before it", () => {
    const old = fedAs({ replicaUid: "c1", state: "Stream", reachedTarget: true });
    assert.equal(phaseWith(old), "Enrolled");
  });

  it("is Detected until it was enrolled", () => {
    const { enrolTerm: _enrolTerm, ...member } = LEARNER;
    assert.equal(phaseWith(fedAs({ state: "Stream" }), member), "Detected");
  });
});
