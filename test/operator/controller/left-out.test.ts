import assert from "node:assert/strict";
import { LeftOut } from "../../../operator/controller/left-out.ts";
import { observedOf, recordOf, replicaOf } from "../core/shard-fixture.ts";

const FIVE = ["a", "b", "c", "d", "e"];

describe("whom elections leave out", () => {
  let leftOut: LeftOut;
  let term: number;

  beforeEach(() => {
    leftOut = new LeftOut();
    term = 5;
  });

  /** One election after the other; the leaders' last committed entry is of this term. */
  function elect(
    named: string | null,
    about: {
      readonly isolated?: boolean;
      readonly prefer?: string;
      readonly committed?: number;
      readonly away?: readonly string[];
    } = {},
  ): string {
    const { isolated = named !== null, prefer = null, committed = 4, away = [] } = about;
    const record = recordOf({ ensemble: FIVE, term });
    term += 1;
    const replica = (node: string) =>
      replicaOf(node, { commit: { term: committed, offset: 1, crc: 0 } });
    const nodes = FIVE.map((node) => [
      node,
      away.includes(node)
        ? { reach: "down" as const, replica: null }
        : { reach: "up" as const, replica: replica(node) },
    ]);
    const observed = observedOf(Object.fromEntries(nodes));
    const left = leftOut.next({ record, observed, named, isolated, prefer });
    return [...left].sort().join("");
  }

  it("a leader that is cut off, and those before it that were: they would win in turn", () => {
    assert.equal(elect("c"), "c");
    leftOut.won();
    assert.equal(elect("d"), "cd");
    leftOut.won();
    assert.equal(elect("c"), "cd");
  });

  it("not more than the others can do without, the newest first", () => {
    elect("c");
    elect("d");
    assert.equal(elect("e"), "de");
    assert.equal(elect("a", { away: ["b"] }), "a");
  });

  it("nobody for what was before a leader that committed", () => {
    elect("c");
    assert.equal(elect("d", { committed: 6 }), "d");
  });

  it("none of the former where a leader goes for another reason, or is wished for", () => {
    elect("c");
    assert.equal(elect("d", { isolated: false }), "d");
    assert.equal(elect("d", { prefer: "c" }), "d");
  });

  it("once more whom the failed election did; then it is open to all", () => {
    elect("c");
    elect("d");
    assert.equal(elect(null), "cd");
    assert.equal(elect(null), "");
    elect("c");
    leftOut.won();
    assert.equal(elect(null), "");
  });
});
