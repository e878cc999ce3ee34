import type { Logger as WinstonLogger } from "winston";
import type { LogFields, Logger } from "../lib/ports/logger.ts";

/** Levels from the quietest to the most talkative. */
export const LOG_LEVELS = ["error", "warn", "info", "debug"] as const;

/** One of {@link LOG_LEVELS}. */
export type LogLevel = (typeof LOG_LEVELS)[number];

/** A logger that can be closed: resolves when everything was handed to the operating system. */
export type OpenLogger = Logger & { close(): Promise<void> };

interface Line {
  readonly level: LogLevel;
  readonly message: string;
  readonly time: string;
  readonly fields: LogFields;
}

/** Lines that wait while the library is loaded; nobody logs so much in a tenth of a second. */
const WAITING_LINES_MAX = 10_000;

/**
 * JSON lines on standard output: time (ISO 8601), level, message, then the fields of its logger and
 * of the line. The library is loaded beside the rest of the start-up; lines wait for it.
 */
export function openLogger(level: LogLevel, fields: LogFields): OpenLogger {
  const sink = new Sink(level);
  return { ...logger(sink, fields), close: () => sink.close() };
}

function logger(sink: Sink, own: LogFields): Logger {
  const at =
    (level: LogLevel) =>
    (message: string, fields?: LogFields): void => {
      sink.write({ level, message, time: new Date().toISOString(), fields: { ...own, ...fields } });
    };
  return {
    debug: at("debug"),
    info: at("info"),
    warn: at("warn"),
    error: at("error"),
    child: (fields) => logger(sink, { ...own, ...fields }),
  };
}

class Sink {
  readonly #rank: number;
  readonly #loading: Promise<WinstonLogger>;
  #target: WinstonLogger | null = null;
  #waiting: Line[] = [];

  constructor(level: LogLevel) {
    this.#rank = LOG_LEVELS.indexOf(level);
    this.#loading = openWinston(level).then((target) => {
      this.#target = target;
      for (const line of this.#waiting) this.write(line);
      this.#waiting = [];
      return target;
    });
  }

  write(line: Line): void {
    // Here already, so that a line that nobody wants costs nothing.
    if (LOG_LEVELS.indexOf(line.level) > this.#rank) return;
    const { level, message, time, fields } = line;
    if (this.#target !== null) this.#target.log({ ...fields, time, level, message });
    else if (this.#waiting.length < WAITING_LINES_MAX) this.#waiting.push(line);
  }

  async close(): Promise<void> {
    const target = await this.#loading;
    await new Promise((resolve) => {
      target.once("finish", resolve);
      target.end();
    });
  }
}

async function openWinston(level: LogLevel): Promise<WinstonLogger> {
  const { default: winston } = await import("winston");
  return winston.createLogger({
    level,
    format: winston.format.printf(({ time, level: lineLevel, message, ...fields }) =>
      JSON.stringify({ time, level: lineLevel, message, ...fields }),
    ),
    transports: [new winston.transports.Console()],
    // How the process ends is main.ts's business.
    exitOnError: false,
  });
}
