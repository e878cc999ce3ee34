import { setTimeout as sleep } from "node:timers/promises";
import { sendControl } from "../control-client.ts";
import { renderStatus } from "../status-view.ts";
import type { StoreStatus } from "../store-status.ts";
import type { Terminal } from "./exit.ts";

/** Options of `status`. */
export interface StatusOptions {
  readonly dir: string;
  readonly json?: boolean;
  readonly watch?: boolean;
}

const WATCH_MS = 500;
/** Clears the screen and what was scrolled off, and goes to its corner. */
const CLEAR = "\u001b[2J\u001b[3J\u001b[H";

/** Prints the status of a running store, once or until stopped. */
export async function showStatus(options: StatusOptions, terminal: Terminal): Promise<void> {
  const { stop } = terminal;
  for (;;) {
    const asked = sendControl(options.dir, "status", {}, { signal: stop });
    const status = await asked.catch((error: unknown) => {
      // This is how it is ended.
      if (options.watch === true && stop.aborted) return null;
      throw error;
    });
    if (status === null) return;
    const text =
      options.json === true
        ? `${JSON.stringify(status, null, 2)}\n`
        : renderStatus(status as StoreStatus, { color: terminal.interactive });
    const redraw = options.watch === true && terminal.interactive;
    terminal.out(redraw ? `${CLEAR}${text}` : text);
    if (options.watch !== true) return;
    await sleep(WATCH_MS, undefined, { signal: stop }).catch(() => undefined);
    if (stop.aborted) return;
  }
}
