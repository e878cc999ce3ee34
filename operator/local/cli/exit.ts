/** Exit statuses of every command. */
export const EXIT = { done: 0, failed: 1, usage: 2 } as const;

/**
 * A command was given wrongly: exit status 2. The message names what, its value, and what is
 * allowed.
 */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

/** A command ended with a status of its own and has said why already. */
export class ExitRequest extends Error {
  override readonly name = "ExitRequest";
  readonly status: number;
  constructor(status: number) {
    super(`exit ${status}`);
    this.status = status;
  }
}

/** Resolves when the signal aborts. */
export function stopped(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener("abort", () => resolve(), { once: true });
  });
}

/** Where commands write, and how they are told to end. */
export interface Terminal {
  out(text: string | Uint8Array): void;
  err(text: string): void;
  /** What is written to `out` goes to a person's screen, not to a file or a pipe. */
  readonly isScreen: boolean;
  /** That, and columns may be redrawn and colours used. */
  readonly interactive: boolean;
  /** Aborts at Ctrl-C or SIGTERM. */
  readonly stop: AbortSignal;
  readonly env: NodeJS.ProcessEnv;
}
