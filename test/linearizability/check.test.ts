import assert from "node:assert/strict";
import { isLinearizableByForce } from "./brute-force.ts";
import { checkLinearizable } from "./check.ts";
import type { Call, Operation, Outcome } from "./history.ts";
import { generateHistory } from "./random-history.ts";

const operation = (
  client: string,
  calledAt: number,
  returnedAt: number,
  call: Call,
  outcome: Outcome,
): Operation => ({ client, calledAt, returnedAt, call, outcome });

const put = (key: string, value: string, expected?: number | null): Call => ({
  kind: "put",
  key,
  value,
  expected,
});
const get = (key: string): Call => ({ kind: "get", key });
const written = (versionId: number): Outcome => ({ kind: "written", versionId });
const found = (value: string, versionId: number): Outcome => ({ kind: "found", value, versionId });
const NEVER = Number.POSITIVE_INFINITY;

const kindOf = (history: readonly Operation[]): string => checkLinearizable(history).kind;

describe("linearizability: planted violations", () => {
  it("a stale read after the newer write was acknowledged", () => {
    const history = [
      operation("a", 0, 1, put("k", "v1"), written(1)),
      operation("a", 2, 3, put("k", "v2"), written(2)),
      operation("b", 4, 5, get("k"), found("v1", 1)),
    ];
    const { kind, witness } = checkLinearizable(history);
    assert.equal(kind, "violation");
    assert.match(witness, /get k: v1, version 1/u);
  });

  it("an acknowledged write that is lost", () => {
    const history = [
      operation("a", 0, 1, put("k", "v1"), written(1)),
      operation("b", 2, 3, get("k"), { kind: "absent" }),
    ];
    assert.equal(kindOf(history), "violation");
  });

  it("a write that was seen, then gone", () => {
    const history = [
      operation("a", 0, NEVER, put("k", "v1"), { kind: "unknown" }),
      operation("b", 2, 3, get("k"), found("v1", 1)),
      operation("b", 4, 5, get("k"), { kind: "absent" }),
    ];
    assert.equal(kindOf(history), "violation");
  });

  it("two conditional puts that both found the same version", () => {
    const history = [
      operation("a", 0, 1, put("k", "v1"), written(1)),
      operation("a", 2, 5, put("k", "v2", 1), written(2)),
      operation("b", 2, 5, put("k", "v3", 1), written(3)),
    ];
    assert.equal(kindOf(history), "violation");
  });

  it("a conditional put refused though its version was there all the time", () => {
    const history = [
      operation("a", 0, 1, put("k", "v1"), written(1)),
      operation("b", 2, 3, put("k", "v2", 1), { kind: "refused" }),
    ];
    assert.equal(kindOf(history), "violation");
  });

  it("a scan that shows two moments at once", () => {
    const pairs = [
      { key: "a", value: "a1", versionId: 1 },
      { key: "b", value: "b2", versionId: 4 },
    ];
    const history = [
      operation("w", 0, 1, put("a", "a1"), written(1)),
      operation("w", 2, 3, put("b", "b1"), written(2)),
      operation("w", 4, 5, put("a", "a2"), written(3)),
      operation("w", 6, 7, put("b", "b2"), written(4)),
      operation("r", 3.5, 9, { kind: "scan", start: "a", end: "c" }, { kind: "pairs", pairs }),
    ];
    assert.equal(kindOf(history), "violation");
    const whole = history.map((one) =>
      one.client === "r"
        ? {
            ...one,
            outcome: {
              kind: "pairs",
              pairs: [{ ...pairs[0], value: "a2", versionId: 3 }, pairs[1]],
            },
          }
        : one,
    ) as readonly Operation[];
    assert.equal(kindOf(whole), "linearizable");
  });

  it("one version for two values", () => {
    const history = [
      operation("a", 0, 1, put("k", "v1"), written(1)),
      operation("b", 2, 3, put("k", "v2"), written(1)),
    ];
    assert.equal(kindOf(history), "violation");
  });
});

describe("linearizability: what is allowed", () => {
  it("an unknown write takes effect late, or never", () => {
    const write = operation("a", 0, NEVER, put("k", "v1"), { kind: "unknown" });
    const before = operation("b", 2, 3, get("k"), { kind: "absent" });
    const after = operation("b", 8, 9, get("k"), found("v1", 7));
    assert.equal(kindOf([write, before, after]), "linearizable");
    assert.equal(kindOf([write, before]), "linearizable");
  });

  it("concurrent reads see either, in one order", () => {
    const history = [
      operation("a", 0, 1, put("k", "v1"), written(1)),
      operation("a", 2, 9, put("k", "v2"), written(2)),
      operation("b", 3, 4, get("k"), found("v1", 1)),
      operation("c", 5, 6, get("k"), found("v2", 2)),
    ];
    assert.equal(kindOf(history), "linearizable");
    assert.equal(kindOf([...history, operation("d", 7, 8, get("k"), found("v1", 1))]), "violation");
  });

  it("says undecided, not yes, when it gives up", () => {
    const history = Array.from({ length: 30 }, (_, index) =>
      operation(`c${index}`, 0, 100, put("k", `v${index}`), written(index)),
    );
    const last = operation("r", 200, 201, get("k"), { kind: "absent" });
    assert.equal(checkLinearizable([...history, last], 1_000).kind, "undecided");
  });
});

describe("linearizability: random histories", function () {
  this.timeout(60_000);

  it("agrees with brute force on 6,000 small ones, good and spoilt", () => {
    let good = 0;
    for (let seed = 1; seed <= 6_000; seed += 1) {
      const history = generateHistory({
        seed,
        operations: 7,
        clients: 3,
        keys: 2,
        lost: 0.2,
        spoil: seed % 2 === 0,
      });
      const expected = isLinearizableByForce(history);
      const { kind } = checkLinearizable(history);
      assert.equal(kind, expected ? "linearizable" : "violation", `seed ${seed}`);
      if (expected) good += 1;
    }
    // Or one of the two answers was never asked for.
    assert.ok(good > 2_000 && good < 5_500, `${good} of 6,000 are linearizable`);
  });

  it("is done with 10,000 operations of 8 clients within the time limit", () => {
    const history = generateHistory({
      seed: 5,
      operations: 10_000,
      clients: 8,
      keys: 16,
      lost: 0.02,
      spoil: false,
    });
    assert.equal(checkLinearizable(history).kind, "linearizable");
  });

  it("finds one spoilt read among thousands of operations", () => {
    for (let seed = 1; seed <= 5; seed += 1) {
      const history = generateHistory({
        seed,
        operations: 3_000,
        clients: 4,
        keys: 8,
        lost: 0.02,
        spoil: false,
        scans: false,
      });
      const at = history.findLastIndex(({ outcome }) => outcome.kind === "found");
      const read = history[at] as Operation;
      const { key } = read.call as { readonly key: string };
      const old = history.find(
        ({ call, outcome }) =>
          call.kind === "put" && call.key === key && outcome.kind === "written",
      ) as Operation;
      const { versionId } = old.outcome as { readonly versionId: number };
      const { value } = old.call as { readonly value: string };
      const spoilt = history.with(at, { ...read, outcome: { kind: "found", value, versionId } });
      assert.equal(checkLinearizable(spoilt).kind, "violation", `seed ${seed}`);
    }
  });
});
