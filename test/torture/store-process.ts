/**
 * The store of a torture in a process of its own, so that its coordinator can be killed in the
 * middle of what it does. One argument: {@link StoreProcessOptions} as JSON. Started again in the
 * same directory it takes over the sidecars that it finds, as a killed `up` does. It begins at its
 * first message: loading the code takes longer than a coordinator is missed for.
 */
import { once } from "node:events";
import { existsSync } from "node:fs";
import { resolve } from "node:path";
import { startUp } from "../../operator/local/up.ts";
import type { StoreProcessMessage, StoreProcessOptions } from "./store-messages.ts";

const COMPILED = process.env["RESILVER_TEST_SIDECAR"] ?? resolve("dist/sidecar/main.js");

function tell(message: StoreProcessMessage): void {
  // Whoever listened may be gone: then this process ends, too.
  if (process.connected) process.send?.(message, undefined, undefined, () => undefined);
}

let sidecars: { killAll(): Promise<void> } | null = null;
// Whoever started it is gone: nobody would ever end it, nor its sidecars.
process.once("disconnect", () => {
  void (sidecars?.killAll() ?? Promise.resolve()).finally(() => process.exit(1));
});
await once(process, "message");
const { dir, replicas, port, reachedAt } = JSON.parse(process.argv[2] ?? "") as StoreProcessOptions;
const session = await startUp({
  dir,
  replicas,
  port,
  defaultPort: "free",
  policy: { cooldownMs: 0 },
  ...(existsSync(COMPILED)
    ? { sidecarProgram: [process.execPath, "--enable-source-maps", COMPILED] as const }
    : {}),
  endpoints: () => reachedAt,
  events: ({ kind }) => tell({ kind: "event", event: kind }),
});
const { store } = session;
sidecars = store.platform;
let telling = false;
store.onChange(() => {
  if (telling) return;
  telling = true;
  setImmediate(() => {
    telling = false;
    tell({ kind: "status", status: store.status() });
  });
});
tell({ kind: "started" });
throw await store.fatal;
