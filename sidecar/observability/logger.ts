import winston from "winston";
import type { LogFields, Logger } from "../lib/ports/logger.ts";

/** Levels from the quietest to the most talkative. */
export const LOG_LEVELS = ["error", "warn", "info", "debug"] as const;

/** One of {@link LOG_LEVELS}. */
export type LogLevel = (typeof LOG_LEVELS)[number];

/**
 * JSON lines on standard output: time (ISO 8601), level, message, then the fields of this line and of
 * its logger. `close` resolves when everything was handed to the operating system.
 */
export function openLogger(
  level: LogLevel,
  fields: LogFields,
): Logger & { close(): Promise<void> } {
  const base = winston.createLogger({
    level,
    format: winston.format.printf((info) => {
      const { level: lineLevel, message, ...rest } = info;
      return JSON.stringify({
        time: new Date().toISOString(),
        level: lineLevel,
        message,
        ...rest,
      });
    }),
    transports: [new winston.transports.Console()],
    // Uncaught errors are main.ts's business, which decides how the process ends.
    exitOnError: false,
  });
  const close = (): Promise<void> =>
    new Promise((resolve) => {
      base.once("finish", resolve);
      base.end();
    });
  return { ...wrap(base.child(fields)), close };
}

function wrap(target: winston.Logger): Logger {
  return {
    debug: (message, fields) => target.debug(message, fields),
    info: (message, fields) => target.info(message, fields),
    warn: (message, fields) => target.warn(message, fields),
    error: (message, fields) => target.error(message, fields),
    child: (fields) => wrap(target.child(fields)),
  } as Logger;
}
