import assert from "node:assert/strict";
import { withConditions } from "../../../../operator/api/v1alpha1/conditions.ts";
import { parseDuration } from "../../../../operator/api/v1alpha1/duration.ts";
import { parseQuantity } from "../../../../operator/api/v1alpha1/quantity.ts";

describe("conditions", () => {
  const available = { type: "Available", status: true, reason: "Led", message: "serves" };
  const first = withConditions([], [available], 1, "2026-01-01T00:00:00Z");

  it("keeps the time of transition while the status stays", () => {
    const later = { ...available, reason: "Other" };
    const [condition] = withConditions(first, [later], 2, "2026-01-02T00:00:00Z");
    assert.deepEqual(condition, {
      type: "Available",
      status: "True",
      observedGeneration: 2,
      lastTransitionTime: "2026-01-01T00:00:00Z",
      reason: "Other",
      message: "serves",
    });
  });

  it("moves it when the status changes", () => {
    const gone = { ...available, status: false };
    const [condition] = withConditions(first, [gone], 1, "2026-01-02T00:00:00Z");
    assert.equal(condition?.status, "False");
    assert.equal(condition.lastTransitionTime, "2026-01-02T00:00:00Z");
  });

  it("leaves the conditions of others alone, in a steady order", () => {
    const other = { type: "Aardvark", status: "Unknown" as const, reason: "r", message: "" };
    const both = withConditions(first, [other], 1, "2026-01-02T00:00:00Z");
    assert.deepEqual(
      both.map(({ type, status }) => `${type} ${status}`),
      ["Aardvark Unknown", "Available True"],
    );
  });
});

describe("quantities and durations", () => {
  for (const [text, bytes] of [
    ["1024", 1024],
    ["1k", 1_000],
    ["10Gi", 10_737_418_240],
    ["8Pi", 2 ** 53],
    ["", null],
    ["0", null],
    ["10GB", null],
    ["1.5Gi", null],
  ] as const) {
    it(`quantity "${text}"`, () => {
      // Beyond exact numbers a size is refused rather than rounded.
      assert.equal(parseQuantity(text), bytes === 2 ** 53 ? null : bytes);
    });
  }
  for (const [text, ms] of [
    ["0", 0],
    ["10s", 10_000],
    ["1h30m", 5_400_000],
    ["250ms", 250],
    ["", null],
    ["10", null],
    ["30m1h", null],
    ["-1s", null],
  ] as const) {
    it(`duration "${text}"`, () => {
      assert.equal(parseDuration(text), ms);
    });
  }
});
