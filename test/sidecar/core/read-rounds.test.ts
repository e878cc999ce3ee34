import assert from "node:assert/strict";
import { ReadRounds } from "../../../sidecar/core/read-rounds.ts";

describe("replication core: rounds of reads (R15)", () => {
  it("release what waited when they began, at what was committed by then", () => {
    const reads = new ReadRounds();
    assert.equal(reads.start(3), false);
    reads.add(1);
    assert.equal(reads.start(3), true);
    reads.add(2);
    // One is on its way.
    assert.equal(reads.start(4), false);
    assert.equal(reads.pending, 2);
    assert.deepEqual(reads.finish(), { requestIds: [1], offset: 3 });
    assert.equal(reads.start(5), true);
    assert.deepEqual(reads.finish(), { requestIds: [2], offset: 5 });
    assert.equal(reads.finish(), null);
    assert.equal(reads.pending, 0);
  });

  it("are confirmed by answers to themselves or to later ones, in whatever order they come", () => {
    const reads = new ReadRounds();
    for (const id of [1, 2]) {
      reads.add(id);
      reads.start(0);
      reads.finish();
    }
    assert.equal(reads.round, 2);
    reads.confirm("a", 1);
    assert.equal(reads.hasConfirmed("a"), false);
    reads.confirm("a", 2);
    reads.confirm("a", 1);
    assert.equal(reads.hasConfirmed("a"), true);
    assert.equal(reads.hasConfirmed("b"), false);
  });

  it("forget what a replica confirmed that is another one now (R4)", () => {
    const reads = new ReadRounds();
    reads.add(1);
    reads.start(0);
    reads.confirm("a", 1);
    reads.forget("a");
    assert.equal(reads.hasConfirmed("a"), false);
  });

  it("end without anybody when all who waited have gone", () => {
    const reads = new ReadRounds();
    reads.add(1);
    reads.start(0);
    reads.add(2);
    reads.cancel(1);
    reads.cancel(2);
    assert.equal(reads.pending, 0);
    assert.equal(reads.finish(), null);
  });
});
