import { StoreClient } from "../../operator/sidecar-client/store-client.ts";
import { StoreError } from "../../operator/sidecar-client/store-error.ts";
import type { Call, Expected, Operation, Outcome } from "../linearizability/history.ts";

type Random = () => number;

/** Pairs of keys: a scan ties the two of a pair together for the check of their order. */
const PAIRS = 8;
const REQUEST_MS = 5_000;
/** Pause of one client between two requests, at most. */
const THINK_MS = 40;
const UNKNOWN = Number.POSITIVE_INFINITY;

/** Clients that write, delete, read and scan, and keep every request and what came of it. */
export class TortureClients {
  readonly history: Operation[] = [];
  /** Where in it the last reads begin. */
  lastFrom = Number.POSITIVE_INFINITY;
  readonly #clients: readonly StoreClient[];
  readonly #random: Random;
  readonly #versions = new Map<string, number>();
  readonly #abort = new AbortController();
  #running: Promise<void>[] = [];
  #values = 0;

  constructor(servers: readonly string[], count: number, random: Random) {
    this.#random = random;
    this.#clients = Array.from(
      { length: count },
      () => new StoreClient({ servers, requestTimeoutMs: REQUEST_MS }),
    );
  }

  start(): void {
    this.#running = this.#clients.map((client, index) => this.#run(client, `client-${index}`));
  }

  /** Resolves when the last request of each client has ended. */
  async stop(): Promise<void> {
    this.#abort.abort();
    await Promise.all(this.#running);
  }

  async close(): Promise<void> {
    await this.stop();
    await Promise.all(this.#clients.map((client) => client.close()));
  }

  /** Reads every key once more, as one client: what was acknowledged has to be there. */
  async readAll(): Promise<void> {
    const [client] = this.#clients;
    if (client === undefined) return;
    this.lastFrom = this.history.length;
    for (let pair = 0; pair < PAIRS; pair += 1) {
      for (const half of ["a", "b"]) await this.#get(client, "client-last", `p${pair}-${half}`);
    }
  }

  async #run(client: StoreClient, name: string): Promise<void> {
    while (!this.#abort.signal.aborted) {
      await this.#one(client, name);
      const pauseMs = this.#random() * THINK_MS;
      await new Promise((resolve) => setTimeout(resolve, pauseMs));
    }
  }

  async #one(client: StoreClient, name: string): Promise<void> {
    const pair = Math.floor(this.#random() * PAIRS);
    const key = `p${pair}-${this.#random() < 0.5 ? "a" : "b"}`;
    const kind = this.#random();
    const known = this.#versions.get(`${name} ${key}`) ?? null;
    if (kind < 0.35) return this.#put(client, name, key, undefined);
    if (kind < 0.5) return this.#put(client, name, key, known);
    if (kind < 0.6)
      return this.#delete(client, name, key, this.#random() < 0.5 ? undefined : known);
    if (kind < 0.68) return this.#scan(client, name, pair);
    return this.#get(client, name, key);
  }

  #put(client: StoreClient, name: string, key: string, expected: Expected): Promise<void> {
    const value = `v${this.#values++}`;
    return this.#note(name, { kind: "put", key, value, expected }, async () => {
      const done = await client.put(key, Buffer.from(value), { ...ONCE, ...condition(expected) });
      if (!done.written) return { kind: "refused" };
      const { versionId } = done.version;
      this.#versions.set(`${name} ${key}`, versionId);
      return { kind: "written", versionId };
    });
  }

  #delete(client: StoreClient, name: string, key: string, expected: Expected): Promise<void> {
    return this.#note(name, { kind: "delete", key, expected }, async () => {
      const done = await client.delete(key, { ...ONCE, ...condition(expected) });
      // Only a repeated delete is that, and these are never repeated.
      if (done === "gone") throw new StoreError("UNKNOWN_OUTCOME", "sent twice");
      return { kind: done === "conflict" ? "refused" : done };
    });
  }

  #get(client: StoreClient, name: string, key: string): Promise<void> {
    return this.#note(name, { kind: "get", key }, async () => {
      const found = await client.get(key);
      if (found === null) return { kind: "absent" };
      const { versionId } = found.version;
      this.#versions.set(`${name} ${key}`, versionId);
      return { kind: "found", value: Buffer.from(found.value).toString(), versionId };
    });
  }

  #scan(client: StoreClient, name: string, pair: number): Promise<void> {
    const call = { kind: "scan", start: `p${pair}-`, end: `p${pair}-~` } as const;
    return this.#note(name, call, async () => {
      const pairs = [];
      const oneMoment = client.scan(call.start, call.end, { oneView: true });
      for await (const { key, value, version } of oneMoment) {
        pairs.push({ key, value: Buffer.from(value).toString(), versionId: version.versionId });
      }
      return { kind: "pairs", pairs };
    });
  }

  async #note(client: string, call: Call, ask: () => Promise<Outcome>): Promise<void> {
    const calledAt = performance.now();
    try {
      const outcome = await ask();
      this.history.push({ client, call, outcome, calledAt, returnedAt: performance.now() });
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
      const reads = call.kind === "get" || call.kind === "scan";
      // Of the others the client says that nothing was done.
      if (reads || error.code !== "UNKNOWN_OUTCOME") return;
      this.history.push({
        client,
        call,
        outcome: { kind: "unknown" },
        calledAt,
        returnedAt: UNKNOWN,
      });
    }
  }
}

const ONCE = { retryUnknown: false };

function condition(expected: Expected): { readonly expectedVersionId?: number } {
  return expected === undefined ? {} : { expectedVersionId: expected ?? -1 };
}
