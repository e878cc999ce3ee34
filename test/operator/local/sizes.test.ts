import assert from "node:assert/strict";
import { formatDuration, formatSize, parseSize } from "../../../operator/local/sizes.ts";

describe("sizes", () => {
  it("reads sizes as people write them", () => {
    const cases: readonly (readonly [string, number | null])[] = [
      ["128MiB", 134_217_728],
      ["1GiB", 1_073_741_824],
      ["1.5 KiB", 1_536],
      ["2MB", 2_000_000],
      ["4096", 4_096],
      ["10B", 10],
      ["", null],
      ["MiB", null],
      ["-1MiB", null],
      ["1 parsec", null],
      ["1mib", null],
      ["99999999999GiB", null],
    ];
    for (const [text, bytes] of cases) assert.equal(parseSize(text), bytes, text);
  });

  it("writes sizes and durations for people", () => {
    assert.equal(formatSize(0), "0 B");
    assert.equal(formatSize(1023), "1023 B");
    assert.equal(formatSize(1536), "1.5 KiB");
    assert.equal(formatSize(134_217_728), "128.0 MiB");
    assert.equal(formatSize(3 * 1024 ** 3), "3.00 GiB");
    assert.equal(formatDuration(999), "999 ms");
    assert.equal(formatDuration(12_345), "12.3 s");
    assert.equal(formatDuration(245_000), "4 min 5 s");
  });
});
