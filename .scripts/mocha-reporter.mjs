/**
 * Mocha's own listing, ended by one line `N passed, N failed, N skipped`, with the reason of each
 * skipped test (test/support/skip.ts) above it. As one lane of several (RESILVER_TEST_TOTALS names
 * a file) the counts go there instead, for one sum at the end.
 */
import { writeFileSync } from "node:fs";
import Mocha from "mocha";

/** How long a run may take to end after its last test. */
const END_MS = 10_000;

export default class Reporter extends Mocha.reporters.Spec {
  /** Skipped tests, in order. */
  #skipped = [];

  constructor(runner, options) {
    super(runner, options);
    runner.on(Mocha.Runner.constants.EVENT_TEST_PENDING, (test) => this.#skipped.push(test));
  }

  epilogue() {
    const { passes, failures, tests } = this.stats;
    if (failures > 0) Mocha.reporters.Base.list(this.failures);
    for (const test of this.#skipped) {
      const reason = skipReason(test) ?? "no reason given";
      process.stdout.write(`skipped: ${test.fullTitle()}: ${reason}\n`);
    }
    const totals = { passed: passes, failed: failures, skipped: this.#skipped.length };
    const file = process.env.RESILVER_TEST_TOTALS;
    if (file !== undefined) {
      writeFileSync(file, JSON.stringify(totals));
      process.stdout.write(`${tests} tests, ${failures} failures\n`);
    } else {
      const { passed, failed, skipped } = totals;
      process.stdout.write(`${passed} passed, ${failed} failed, ${skipped} skipped\n`);
    }
    failIfNotEnding();
  }
}

/** Tests that leave a server or a timer behind would keep the run from ending without a word. */
function failIfNotEnding() {
  const timer = setTimeout(() => {
    const left = process.getActiveResourcesInfo().join(", ");
    process.stderr.write(`the tests left something open, the process does not end: ${left}\n`);
    // Mocha sets the status in a listener of its own; this one is called after it.
    process.once("exit", () => {
      process.exitCode = 1;
    });
    process.exit();
  }, END_MS);
  timer.unref();
}

/** The reason noted on the test, its hook's suite, or a suite around it. */
function skipReason(test) {
  for (let at = test; at !== undefined; at = at.parent) {
    if (at.skipReason !== undefined) return at.skipReason;
  }
  return undefined;
}
