import { setTimeout as sleep } from "node:timers/promises";
import { OxiaClientService } from "../../sidecar/protocol/service.ts";
import { Backoff } from "./backoff.ts";
import { routesOf, type ShardRoute } from "./shard-map.ts";
import type { StoreChannels } from "./store-channels.ts";
import { CallError, callErrorOf } from "./store-error.ts";

/**
 * A stopped process still accepts connections, and one that is cut off answers nothing: a server
 * that does not speak for so long is passed over.
 */
const FIRST_ANSWER_MS = 1_000;

/**
 * Keeps the routes of one namespace current: follows one server's assignments stream and turns to
 * the next server when it breaks, is refused or is suspected. A redirect (NODE_IS_NOT_LEADER)
 * overrides the stream's word for that shard until the stream says something new.
 */
export class AssignmentWatch {
  private readonly channels: StoreChannels;
  private readonly namespace: string;
  private readonly servers: readonly string[];
  private readonly listeners = new Set<() => void>();
  private readonly stop = new AbortController();
  private attempt = new AbortController();
  private server = 0;
  private known: readonly ShardRoute[] | null = null;
  private failure: CallError | null = null;
  /** Servers in a row that refused for good: one that has just started knows no namespace yet. */
  private refusals = 0;
  private running: Promise<void> | null = null;

  constructor(channels: StoreChannels, namespace: string, servers: readonly string[]) {
    this.channels = channels;
    this.namespace = namespace;
    this.servers = servers;
  }

  /** The newest routes; null until a server answered. */
  get routes(): readonly ShardRoute[] | null {
    return this.known;
  }

  /** Why there are no routes yet; null when nothing failed. */
  get lastError(): CallError | null {
    return this.failure;
  }

  /** Every server refused, one after the other, and trying again will not help. */
  get refused(): boolean {
    return this.refusals >= this.servers.length;
  }

  start(): void {
    this.running ??= this.run();
  }

  /** Calls `changed` after each change of routes or failure. Returns the unsubscriber. */
  onChange(changed: () => void): () => void {
    this.listeners.add(changed);
    return () => this.listeners.delete(changed);
  }

  leaderOf(shard: number): string | null {
    const leader = this.known?.find((route) => route.shard === shard)?.leader ?? "";
    return leader === "" ? null : leader;
  }

  /** A server named another leader. */
  redirect(shard: number, leader: string): void {
    if (this.known === null || this.leaderOf(shard) === leader) return;
    this.known = this.known.map((route) => (route.shard === shard ? { ...route, leader } : route));
    this.notify();
  }

  /** The server followed now may be cut off or stopped: turn to the next one. */
  suspect(): void {
    this.attempt.abort();
  }

  async close(): Promise<void> {
    this.stop.abort();
    this.attempt.abort();
    await this.running;
    this.listeners.clear();
  }

  private async run(): Promise<void> {
    const backoff = new Backoff();
    while (!this.stop.signal.aborted) {
      this.attempt = new AbortController();
      try {
        await this.follow(this.servers[this.server] ?? "", backoff);
      } catch (error) {
        this.failure = callErrorOf(error);
        this.refusals = this.failure.retry ? 0 : this.refusals + 1;
        this.notify();
      }
      if (this.stop.signal.aborted) return;
      this.server = (this.server + 1) % this.servers.length;
      await sleep(backoff.next(), undefined, { signal: this.stop.signal }).catch(() => undefined);
    }
  }

  private async follow(server: string, backoff: Backoff): Promise<void> {
    const { attempt } = this;
    let silent = false;
    const patience = setTimeout(() => {
      silent = true;
      attempt.abort();
    }, FIRST_ANSWER_MS);
    try {
      await this.read(server, backoff, () => clearTimeout(patience));
    } catch (error) {
      if (!silent) throw error;
      throw new CallError(`${server}: no answer within ${FIRST_ANSWER_MS} ms`, null, true);
    } finally {
      clearTimeout(patience);
    }
  }

  private async read(server: string, backoff: Backoff, answered: () => void): Promise<void> {
    const stream = this.channels.serverStream(
      server,
      OxiaClientService.getShardAssignments,
      { namespace: this.namespace },
      this.attempt.signal,
    );
    for await (const message of stream) {
      answered();
      const routes = routesOf(message, this.namespace);
      if (routes === null) continue;
      backoff.reset();
      this.failure = null;
      this.refusals = 0;
      this.known = routes;
      this.notify();
    }
  }

  private notify(): void {
    for (const listener of this.listeners) listener();
  }
}
