import assert from "node:assert/strict";
import { LOG_LEVELS, openLogger } from "../../../sidecar/observability/logger.ts";

/** Runs `log` and returns the lines that reached standard output. */
async function linesOf(
  level: (typeof LOG_LEVELS)[number],
  log: (logger: ReturnType<typeof openLogger>) => void | Promise<void>,
): Promise<Record<string, unknown>[]> {
  const lines: string[] = [];
  const stdout = process.stdout;
  const write = stdout.write.bind(stdout);
  stdout.write = ((chunk: string) => {
    lines.push(String(chunk));
    return true;
  }) as typeof stdout.write;
  try {
    const logger = openLogger(level, { node: "n1" });
    await log(logger);
    await logger.close();
  } finally {
    stdout.write = write;
  }
  return lines.map((line) => JSON.parse(line) as Record<string, unknown>);
}

describe("Logger", () => {
  it("writes one JSON line for each call, in order, from the first one on", async () => {
    const lines = await linesOf("info", async (logger) => {
      logger.info("early", { shard: 1 });
      // The library is loaded beside the start-up; what was logged before it came waits for it.
      await import("winston");
      await new Promise((resolve) => setImmediate(resolve));
      logger.child({ shard: 2 }).warn("late", { term: 3, absent: undefined });
      logger.error("last");
    });
    assert.deepEqual(
      lines.map(({ time: _time, ...rest }) => rest),
      [
        { level: "info", message: "early", node: "n1", shard: 1 },
        { level: "warn", message: "late", node: "n1", shard: 2, term: 3 },
        { level: "error", message: "last", node: "n1" },
      ],
    );
    for (const { time } of lines) assert.ok(!Number.isNaN(Date.parse(String(time))));
  });

  it("drops what is below its level", async () => {
    const lines = await linesOf("warn", (logger) => {
      logger.debug("no");
      logger.info("no");
      logger.warn("yes");
    });
    assert.deepEqual(
      lines.map(({ message }) => message),
      ["yes"],
    );
  });
});
