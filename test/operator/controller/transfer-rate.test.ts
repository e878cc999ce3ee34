import assert from "node:assert/strict";
import { TransferRates } from "../../../operator/controller/transfer-rate.ts";

describe("TransferRates", () => {
  it("gives the rate of the last seconds and the time left", () => {
    const rates = new TransferRates();
    assert.deepEqual(rates.observe("a", 0, 1_000, 0), { bytesPerSecond: 0, etaMs: null });
    assert.deepEqual(rates.observe("a", 100, 1_000, 1_000), { bytesPerSecond: 100, etaMs: 9_000 });
    // Long ago it was slower: only the last three seconds count.
    for (let second = 2; second <= 10; second += 1) {
      rates.observe("a", 100 + (second - 1) * 50, 1_000, second * 1_000);
    }
    const { bytesPerSecond } = rates.observe("a", 600, 1_000, 11_000);
    assert.equal(bytesPerSecond, 50);
  });

  it("starts anew when a transfer goes back, and falls to nothing when it stands still", () => {
    const rates = new TransferRates();
    rates.observe("a", 500, 1_000, 0);
    assert.equal(rates.observe("a", 10, 1_000, 100).bytesPerSecond, 0);
    const moving = rates.observe("a", 110, 1_000, 1_100).bytesPerSecond;
    const standing = rates.observe("a", 110, 1_000, 60_000).bytesPerSecond;
    assert.ok(moving === 100 && standing < 2, `${moving}, ${standing}`);
  });

  it("forgets what is over", () => {
    const rates = new TransferRates();
    rates.observe("a", 0, 10, 0);
    rates.retain(new Set());
    assert.equal(rates.observe("a", 5, 10, 1_000).bytesPerSecond, 0);
  });
});
