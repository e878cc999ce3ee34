import { startUp, type UpSession } from "../up.ts";
import type { CoordinatorEvent } from "../../core/events.ts";
import { DEFAULT_PORT } from "../settings.ts";
import type { Terminal } from "./exit.ts";

/** Options of `up`. */
export interface UpOptions {
  readonly dir: string;
  readonly replicas?: number;
  readonly shards?: number;
  readonly port?: number;
}

/** Runs a store until Ctrl-C, SIGTERM or `down`. Throws when the coordinator must not go on. */
export async function runUp(options: UpOptions, terminal: Terminal): Promise<void> {
  const session = await startUp({
    ...options,
    defaultPort: DEFAULT_PORT,
    events: (event) => {
      const text = eventText(event);
      if (text !== null) terminal.out(`${text}\n`);
    },
  });
  const { store } = session;
  terminal.out(`store ${store.settings.storeId} in ${store.dir}\n`);
  for (const pod of store.status().pods) {
    terminal.out(
      `${pod.name}: clients ${pod.publicAddress}, metrics ${metricsUrl(pod.metricsAddress)}\n`,
    );
  }
  terminal.out(`coordinator: metrics ${metricsUrl(store.status().coordinatorMetricsAddress)}\n`);
  const told = announceWhole(session, terminal);
  try {
    const failure = await Promise.race([store.fatal, session.downAsked, stopped(terminal.stop)]);
    if (failure instanceof Error) throw failure;
    terminal.out("stopping\n");
  } finally {
    await session.close();
    await told;
  }
}

function metricsUrl(address: string): string {
  return `http://${address}/metrics`;
}

/** Says once when all replicas vote. */
async function announceWhole(session: UpSession, terminal: Terminal): Promise<void> {
  const day = 24 * 3_600_000;
  const closed = Promise.race([session.downAsked, stopped(terminal.stop)]).then(() => false);
  const whole = session.store.whole(day).then(
    () => true,
    () => false,
  );
  if (await Promise.race([whole, closed])) terminal.out("ready: every replica votes\n");
}

function stopped(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener("abort", () => resolve(), { once: true });
  });
}

/** One line for what people want to hear of; null for the rest. Pure. */
export function eventText(event: CoordinatorEvent): string | null {
  switch (event.kind) {
    case "recoveryStarted":
      return `${event.node}: being rebuilt (${event.reason}): ${event.oldUid || "none"} -> ${event.newUid}`;
    case "recoveryDeferred":
      return `${event.node}: waits for ${event.gate}: ${event.message}`;
    case "recoveryCompleted":
      return `${event.node}: votes again`;
    case "recoveryFailed":
      return `${event.node}: the recovery was given up: ${event.message}`;
    case "electionCompleted":
      return `${event.namespace}/${event.shard}: ${event.leader} leads term ${event.term}`;
    case "electionFailed":
      return `${event.namespace}/${event.shard}: no leader in term ${event.term}: ${event.message}`;
    case "stopped":
      return `${event.namespace}/${event.shard}: STOPPED: ${event.reason}: ${event.message}`;
    case "resumed":
      return `${event.namespace}/${event.shard}: goes on (${event.reason} is over)`;
    case "nodeDown":
      return `${event.node}: not reachable: ${event.message}`;
    case "nodeUp":
      return `${event.node}: reachable`;
    default:
      return null;
  }
}
