import type { CoordinatorEvent } from "../../core/events.ts";
import { shardKeyText as shardText } from "../../core/record.ts";
import type { PodStatus } from "../pod.ts";
import { startUp, type UpSession } from "../up.ts";
import { DEFAULT_PORT } from "../settings.ts";
import { stopped, type Terminal } from "./exit.ts";

/** Options of `up`. */
export interface UpOptions {
  readonly dir: string;
  readonly replicas?: number;
  readonly shards?: number;
  readonly namespaces?: readonly string[];
  readonly port?: number;
}

/** Runs a store until Ctrl-C, SIGTERM or `down`. Throws when the coordinator must not go on. */
export async function runUp(options: UpOptions, terminal: Terminal): Promise<void> {
  // Asked to end while the program was read: nothing was started yet.
  if (terminal.stop.aborted) return;
  const story = new Story(terminal);
  const session = await startUp({
    ...options,
    defaultPort: DEFAULT_PORT,
    events: (event) => story.tell(event),
  });
  const { store } = session;
  terminal.out(`store ${store.settings.storeId} in ${store.dir} (logs: <replica>/sidecar.log)\n`);
  for (const pod of store.status().pods) {
    terminal.out(
      `${pod.name}: clients ${pod.publicAddress}, metrics ${metricsUrl(pod.metricsAddress)}\n`,
    );
  }
  terminal.out(`coordinator: metrics ${metricsUrl(store.status().coordinatorMetricsAddress)}\n`);
  story.begin();
  store.onChange(() => story.watchPods(store.status().pods));
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

/**
 * Tells of what happens, after the addresses were told: what came earlier waits. That a replica
 * which has only just been started is not reachable yet is no news.
 */
class Story {
  private readonly terminal: Terminal;
  private readonly seen = new Set<string>();
  private readonly exits = new Map<string, string>();
  private waiting: string[] | null = [];

  constructor(terminal: Terminal) {
    this.terminal = terminal;
  }

  tell(event: CoordinatorEvent): void {
    if (event.kind === "nodeUp") this.seen.add(event.node);
    if (event.kind === "nodeDown" && !this.seen.has(event.node)) return;
    const text = eventText(event);
    if (text !== null) this.line(text);
  }

  begin(): void {
    const { waiting } = this;
    this.waiting = null;
    for (const text of waiting ?? []) this.line(text);
  }

  /** Tells of each process that ended by itself, once; one that cannot start never is reachable. */
  watchPods(pods: readonly PodStatus[]): void {
    for (const { name, state, lastExit, restarts } of pods) {
      if (state !== "waiting") continue;
      const exit = `${restarts} ${lastExit}`;
      if (this.exits.get(name) === exit) continue;
      this.exits.set(name, exit);
      this.line(`${name}: its process ended (${lastExit}), see its log; it is started again`);
    }
  }

  private line(text: string): void {
    if (this.waiting === null) this.terminal.out(`${text}\n`);
    else this.waiting.push(text);
  }
}

/** One line for what people want to hear of; null for the rest. Pure. */
export function eventText(event: CoordinatorEvent): string | null {
  switch (event.kind) {
    case "recoveryStarted":
      return `${shardText(event)}: ${event.node} is being rebuilt (${event.reason}): ${event.oldUid || "none"} -> ${event.newUid}`;
    case "recoveryDeferred":
      return `${shardText(event)}: ${event.node} waits (${event.gate}): ${event.message}`;
    case "recoveryCompleted":
      return `${shardText(event)}: ${event.node} votes again`;
    case "recoveryFailed":
      return `${shardText(event)}: the recovery of ${event.node} was given up: ${event.message}`;
    case "ensembleChanged":
      return `${shardText(event)}: its replicas are now ${event.ensemble.join(", ")}`;
    case "electionCompleted":
      return `${shardText(event)}: ${event.leader} leads term ${event.term}`;
    case "electionFailed":
      return `${shardText(event)}: no leader in term ${event.term}: ${event.message}`;
    case "stopped":
      return `${shardText(event)}: STOPPED: ${event.reason}: ${event.message}`;
    case "resumed":
      return `${shardText(event)}: goes on (${event.reason} is over)`;
    case "nodeDown":
      return `${event.node}: not reachable: ${event.message}`;
    case "nodeUp":
      return `${event.node}: reachable`;
    default:
      return null;
  }
}
