import assert from "node:assert/strict";
import { allCells, cellText } from "./matrix/cell.ts";
import { runCell } from "./matrix/run-cell.ts";

/** `npm run sim:matrix` runs all of them; no step divides any of the matrix's sides. */
const EVERY = 61;

describe("simulator: wipe matrix", function () {
  this.timeout(300_000);

  it(`every ${EVERY}th cell stays safe and recovers`, async () => {
    for (const cell of allCells()) {
      if (cell.index % EVERY !== 0) continue;
      const { violation } = await runCell(cell);
      const { invariant, message } = violation ?? {};
      assert.equal(violation, null, `${cellText(cell)}: ${invariant}: ${message}`);
    }
  });
});
