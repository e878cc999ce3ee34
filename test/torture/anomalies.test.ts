import assert from "node:assert/strict";
import type { Call, Operation, Outcome } from "../linearizability/history.ts";
import { countAnomalies } from "./anomalies.ts";

type Step = readonly [from: number, to: number, call: Call, outcome: Outcome];

const put = (key: string): Call => ({ kind: "put", key, value: "v", expected: undefined });
const get = (key: string): Call => ({ kind: "get", key });
const remove = (key: string): Call => ({ kind: "delete", key, expected: undefined });
const written = (versionId: number): Outcome => ({ kind: "written", versionId });
const found = (versionId: number): Outcome => ({ kind: "found", value: "v", versionId });
const pairs = (...keys: readonly string[]): Outcome => ({
  kind: "pairs",
  pairs: keys.map((key) => ({ key, value: "v", versionId: 9 })),
});
const absent: Outcome = { kind: "absent" };

function count(steps: readonly Step[], last: readonly Step[] = []): readonly number[] {
  const history = [...steps, ...last].map(([calledAt, returnedAt, call, outcome]): Operation => {
    return { client: "c", call, outcome, calledAt, returnedAt };
  });
  const { lost, staleReads, examples } = countAnomalies(history, steps.length);
  assert.equal(examples.length, lost + staleReads);
  return [lost, staleReads];
}

describe("torture: what is lost or stale is counted", () => {
  it("a read that began after a write was acknowledged shows it or a newer one", () => {
    assert.deepEqual(count([[0, 1, put("k"), written(9)]], [[2, 3, get("k"), found(9)]]), [0, 0]);
    assert.deepEqual(count([[0, 1, put("k"), written(9)]], [[2, 3, get("k"), found(12)]]), [0, 0]);
    assert.deepEqual(count([[0, 1, put("k"), written(9)]], [[2, 3, get("k"), found(8)]]), [1, 0]);
    assert.deepEqual(
      count([
        [0, 1, put("k"), written(9)],
        [2, 3, get("k"), found(8)],
        [0.5, 3, get("k"), found(8)],
      ]),
      [0, 1],
      "the last one began before the answer",
    );
  });

  it("a read that shows nothing needs a delete that may have come after the write", () => {
    const wrote: Step = [4, 6, put("k"), written(9)];
    const reads: Step = [8, 9, get("k"), absent];
    assert.deepEqual(count([wrote], [reads]), [1, 0]);
    assert.deepEqual(count([wrote, [5, 7, remove("k"), { kind: "deleted" }]], [reads]), [0, 0]);
    const unknown: Step = [0, Number.POSITIVE_INFINITY, remove("k"), { kind: "unknown" }];
    assert.deepEqual(count([wrote, unknown], [reads]), [0, 0]);
    assert.deepEqual(count([wrote, [1, 3, remove("k"), { kind: "deleted" }]], [reads]), [1, 0]);
    assert.deepEqual(count([wrote, [7, 8, remove("k"), { kind: "refused" }]], [reads]), [1, 0]);
    const later: Step = [10, 11, remove("k"), { kind: "deleted" }];
    assert.deepEqual(count([wrote, reads, later]), [0, 1]);
  });

  it("a scan shows every key in its range", () => {
    const scan: Call = { kind: "scan", start: "a", end: "c" };
    const wrote: readonly Step[] = [
      [0, 1, put("a"), written(8)],
      [0, 1, put("b"), written(9)],
      [0, 1, put("c"), written(10)],
    ];
    assert.deepEqual(count(wrote, [[2, 3, scan, pairs("a", "b")]]), [0, 0]);
    assert.deepEqual(count([...wrote, [2, 3, scan, pairs("b")]]), [0, 1]);
  });
});
