/** Why a replica is rebuilt, as people and metrics name it. */
import assert from "node:assert/strict";
import { recoveryReason } from "../../../operator/core/verdict.ts";
import { WipeReason } from "../../../sidecar/protocol/gen/resilver.ts";
import { replicaOf, voter } from "./shard-fixture.ts";

describe("the reason of a recovery", () => {
  const wiped = (wipeReason: WipeReason, pvcReplaced = false): string =>
    recoveryReason({
      member: voter("b"),
      replica: replicaOf("b", { replicaUid: "b2", wipeReason }),
      pvcReplaced,
    });

  const cases = [
    ["NEVER_FORMATTED", "VolumeEmpty"],
    ["VOLUME_EMPTY", "VolumeEmpty"],
    ["IDENTITY_MISMATCH", "IdentityMismatch"],
    ["CORRUPT", "Corrupt"],
    ["REQUESTED", "Requested"],
  ] as const;
  for (const [name, reason] of cases) {
    it(`${reason}, for what the node itself says (${name})`, () => {
      assert.equal(wiped(WipeReason[name]), reason);
    });
  }

  it("is another identity where a newer node gives a reason that is not known here", () => {
    assert.equal(wiped(99 as WipeReason), "IdentityMismatch");
  });

  it("is the claim, whatever lies on it", () => {
    assert.equal(wiped(WipeReason.CORRUPT, true), "PVCReplaced");
    const same = { member: voter("b"), replica: replicaOf("b"), pvcReplaced: true };
    assert.equal(recoveryReason(same), "PVCReplaced");
  });

  it("stays what it was for the replica that is being rebuilt; RolledBack else", () => {
    const replica = replicaOf("b", { wipeReason: WipeReason.CORRUPT });
    const member = voter("b", { role: "learner", reason: "VolumeEmpty" });
    assert.equal(recoveryReason({ member, replica, pvcReplaced: false }), "VolumeEmpty");
    const unnamed = { member: voter("b"), replica, pvcReplaced: false };
    assert.equal(recoveryReason(unnamed), "RolledBack");
  });
});
