/**
 * Structured log, one line per state change and none per message. Real in
 * `observability/logger.ts`. Fields are flat: strings, numbers and booleans that a person can
 * search for.
 */
export type LogFields = Readonly<Record<string, string | number | boolean | undefined>>;

/** See the file's header. A child adds its fields to every line. */
export interface Logger {
  debug(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  error(message: string, fields?: LogFields): void;
  child(fields: LogFields): Logger;
}

/** Drops every line: for tests and the simulator. */
export const SILENT_LOGGER: Logger = Object.freeze({
  debug(): void {},
  info(): void {},
  warn(): void {},
  error(): void {},
  child(): Logger {
    return SILENT_LOGGER;
  },
});
