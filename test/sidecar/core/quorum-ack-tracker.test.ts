import assert from "node:assert/strict";
import { QuorumAckTracker } from "../../../sidecar/core/quorum-ack-tracker.ts";

const three = (): QuorumAckTracker => {
  const tracker = new QuorumAckTracker([["a", "b", "c"]]);
  for (const node of ["a", "b", "c"]) tracker.addVoter(node, -1);
  return tracker;
};

describe("replication core: quorums of acks", () => {
  it("take floor(n/2)+1 of the full ensemble, whoever of it votes (R2)", () => {
    for (const [size, needed] of [
      [1, 1],
      [2, 2],
      [3, 2],
      [4, 3],
      [5, 3],
    ] as const) {
      const nodes = Array.from({ length: size }, (_, index) => `n${index}`);
      const tracker = new QuorumAckTracker([nodes]);
      for (let acks = 1; acks <= size; acks += 1) {
        tracker.addVoter(`n${acks - 1}`, 7);
        const reached = acks >= needed;
        assert.equal(tracker.quorumOffset(), reached ? 7 : -1, `${acks} of ${size}`);
        assert.equal(
          tracker.hasQuorum(() => true),
          reached,
          `${acks} of ${size}`,
        );
      }
    }
  });

  it("never lose what was acknowledged to an older ack that comes late", () => {
    const tracker = three();
    tracker.ack("a", 5);
    tracker.ack("b", 5);
    tracker.ack("b", 3);
    assert.equal(tracker.ackedBy("b"), 5);
    assert.equal(tracker.quorumOffset(), 5);
  });

  it("leave out acks of nodes that are no voters (I11)", () => {
    const tracker = new QuorumAckTracker([["a", "b", "c"]]);
    tracker.addVoter("a", 5);
    tracker.ack("b", 5);
    assert.equal(tracker.isVoter("b"), false);
    assert.equal(tracker.ackedBy("b"), null);
    assert.equal(tracker.quorumOffset(), -1);
    tracker.addVoter("b", 2);
    assert.equal(tracker.quorumOffset(), 2);
  });

  it("leave out what a removed voter acknowledged and confirmed, also when it is back (H12)", () => {
    const tracker = three();
    for (const node of ["a", "b"]) tracker.ack(node, 5);
    tracker.removeVoter("b");
    assert.equal(tracker.quorumOffset(), -1);
    const both = (node: string): boolean => node !== "c";
    assert.equal(tracker.hasQuorum(both), false);
    tracker.addVoter("b", -1);
    assert.equal(tracker.quorumOffset(), -1);
    assert.equal(tracker.hasQuorum(both), true);
  });

  it("are quorums of both ensembles while a change is joint (R13)", () => {
    const tracker = three();
    tracker.setEnsembles([
      ["a", "b", "c"],
      ["b", "c", "d"],
    ]);
    tracker.addVoter("d", -1);
    tracker.ack("a", 9);
    tracker.ack("b", 9);
    assert.equal(tracker.quorumOffset(), -1);
    assert.equal(
      tracker.hasQuorum((node) => node === "a" || node === "b"),
      false,
    );
    tracker.ack("d", 4);
    assert.equal(tracker.quorumOffset(), 4);
    assert.equal(
      tracker.hasQuorum((node) => node !== "c"),
      true,
    );
    tracker.setEnsembles([["a", "b", "c"]]);
    assert.equal(tracker.quorumOffset(), 9);
  });

  it("are not taken of an ensemble without nodes: it would commit anything", () => {
    assert.throws(() => new QuorumAckTracker([]), /must not be empty/);
    assert.throws(() => new QuorumAckTracker([[]]), /must not be empty/);
    const tracker = three();
    assert.throws(() => tracker.setEnsembles([["a", "b", "c"], []]), /must not be empty/);
    tracker.ack("a", 1);
    tracker.ack("b", 1);
    assert.equal(tracker.quorumOffset(), 1);
  });
});
