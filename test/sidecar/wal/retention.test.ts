import assert from "node:assert/strict";
import { retentionOffset } from "../../../sidecar/wal/retention.ts";

describe("Wal retention", () => {
  const spans = [
    { last: { offset: 9 }, newestTimestampMs: 1_000, end: 100 },
    { last: { offset: 19 }, newestTimestampMs: 2_000, end: 100 },
    { last: { offset: 29 }, newestTimestampMs: 3_000, end: 100 },
  ];
  const cases: [string, number, number, number, number][] = [
    ["lets nothing go that is young and fits", 3_000, 5_000, 1_000, -1],
    ["lets go what is older than the age", 3_000, 1_500, 1_000, 9],
    ["keeps an entry of exactly the age", 3_000, 2_000, 1_000, -1],
    ["lets go what exceeds the size", 3_000, 5_000, 250, 9],
    ["lets go until the rest fits", 3_000, 5_000, 100, 19],
    ["never lets the newest segment go", 90_000, 1, 1, 19],
  ];
  for (const [name, nowMs, retentionMs, retentionBytes, expected] of cases) {
    it(name, () => {
      assert.equal(retentionOffset(spans, -1, { nowMs, retentionMs, retentionBytes }), expected);
    });
  }

  it("lets nothing go of an empty log", () => {
    assert.equal(retentionOffset([], 7, { nowMs: 1, retentionMs: 1, retentionBytes: 1 }), 7);
  });
});
