/**
 * `npm test`: installs and compiles what is missing, runs every lane of tests, ends with one line
 * `N passed, N failed, N skipped`. With arguments they go to mocha as they are, in one run:
 * `npm test -- 'test/sidecar/wal/*.test.ts' --grep torn`.
 */
import { compile, installDependencies, run, tool } from "./bootstrap.mjs";

installDependencies();
compile();
const args = process.argv.slice(2);
if (args.length > 0) {
  run(process.execPath, [tool("mocha", "bin/mocha.js"), ...args]);
} else {
  const { closingLine, runLanes } = await import("./lanes.mjs");
  const totals = runLanes();
  process.stdout.write(`\n${closingLine(totals)}\n`);
  process.exitCode = totals.failed === 0 && totals.passed > 0 ? 0 : 1;
}
