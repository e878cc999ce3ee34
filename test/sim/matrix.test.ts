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

  it("the time of a recovery begins at the cell's own loss, not at one that prepared it", async () => {
    const name = "steady/leader/wal/rebuilt/quiet/once";
    const cell = allCells().find((one) => cellText(one) === name);
    assert.ok(cell !== undefined);
    const lines: string[] = [];
    const { recoveryMs, violation } = await runCell(cell, (line) => lines.push(line));
    assert.equal(violation, null);
    const lost = lines.filter((line) => line.includes(" loses ") && !line.includes("power"));
    assert.ok(lost.length > 1, "it was prepared by a loss");
    const atMs = (line: string | undefined): number => Number(line?.split(" ")[0]);
    const restMs = atMs(lines.at(-1)) - atMs(lost.at(-1));
    assert.ok(recoveryMs > 0 && recoveryMs <= restMs, `${recoveryMs} ms of ${restMs} ms`);
  });

  it("comes to all that it names: a transfer's last chunk, both sides of an installation", async () => {
    for (const phase of ["last chunk", "before rename", "after rename"]) {
      const cell = allCells().find((one) => one.phase.name === phase && one.times === "twice");
      assert.ok(cell !== undefined);
      const { violation, reached, secondSpared } = await runCell(cell);
      assert.deepEqual([violation, reached, secondSpared], [null, true, false], phase);
    }
  });
});
