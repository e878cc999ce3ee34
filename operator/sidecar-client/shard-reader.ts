import { setMaxListeners } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import type {
  GetRequest,
  GetResponse,
  RangeScanRequest,
} from "../../sidecar/protocol/gen/oxia-client.ts";
import { type MethodDefinition, OxiaClientService } from "../../sidecar/protocol/service.ts";
import type { AssignmentWatch } from "./assignment-watch.ts";
import { Backoff } from "./backoff.ts";
import type { StoreChannels } from "./store-channels.ts";
import { CallError, callErrorOf, StoreError, type StoreErrorCode } from "./store-error.ts";

/** Gets sent in one request. */
const GETS_MAX = 200;
/** Requests under way at once, per shard. */
const READS_MAX = 16;
/** A leader that is silent for so long is suspected; after it was replaced it is left at once. */
const SUSPECT_MS = 600;

/** How often the deadlines of gets are looked at. */
const TICK_MS = 100;

interface PendingGet {
  readonly request: GetRequest;
  readonly deadlineMs: number;
  /** A request with this one in it was refused: send it alone, to find which one it was. */
  alone: boolean;
  lastError: CallError | null;
  readonly resolve: (response: GetResponse) => void;
  readonly reject: (error: StoreError) => void;
}

/** What a reader needs from its client. */
export interface ShardReaderOptions {
  readonly shard: number;
  readonly channels: StoreChannels;
  readonly assignments: AssignmentWatch;
}

/** Which keys: from `startInclusive` to before `endExclusive`, empty: to the end. */
export interface KeyRange {
  readonly startInclusive: string;
  readonly endExclusive: string;
}

/** A list or a scan: how it is called, and what its pages hold. */
export interface RangeKind<Page, Item> {
  readonly method: MethodDefinition<RangeScanRequest, Page, false, true>;
  readonly itemsOf: (page: Page) => readonly Item[];
  readonly keyOf: (item: Item) => string;
}

/** All reads of one shard. Reads change nothing, so they are tried again until their deadline. */
export class ShardReader {
  private readonly options: ShardReaderOptions;
  private readonly stop = new AbortController();
  /** Not answered: in the queue, under way, or waiting to be tried again. */
  private readonly pending = new Set<PendingGet>();
  private readonly queue: PendingGet[] = [];
  private reads = 0;
  private turn: NodeJS.Immediate | null = null;
  private ticker: NodeJS.Timeout | null = null;

  constructor(options: ShardReaderOptions) {
    this.options = options;
    // One for each request under way; Node would warn of a leak from the eleventh.
    setMaxListeners(0, this.stop.signal);
  }

  /** One get; many made in the same turn share a request, and nothing else. */
  async get(request: GetRequest, deadlineMs: number): Promise<GetResponse> {
    this.throwIfClosed();
    return await new Promise((resolve, reject) => {
      const get = { request, deadlineMs, alone: false, lastError: null, resolve, reject };
      this.pending.add(get);
      this.queue.push(get);
      this.ticker ??= setInterval(() => this.expire(this.pending, performance.now()), TICK_MS);
      this.turn ??= setImmediate(() => {
        this.turn = null;
        this.flush();
      });
    });
  }

  /**
   * The items of a list or scan. A call that is interrupted, or takes longer than the server keeps
   * a view, goes on behind the last key: what follows is as of then. `timeoutMs` is for each wait.
   */
  async *range<Page, Item>(
    kind: RangeKind<Page, Item>,
    range: KeyRange,
    options: { readonly timeoutMs: number; readonly oneView: boolean },
  ): AsyncGenerator<Item, void, void> {
    const backoff = new Backoff();
    const { shard } = this.options;
    let last: string | null = null;
    let deadlineMs = performance.now() + options.timeoutMs;
    for (;;) {
      this.throwIfClosed();
      const startInclusive: string = last ?? range.startInclusive;
      const request = { ...range, shard, startInclusive, includeInternalKeys: false };
      try {
        for await (const page of this.attempt(kind.method, request, () => deadlineMs)) {
          for (const item of kind.itemsOf(page)) {
            const key: string = kind.keyOf(item);
            // Where the attempt before was interrupted; it may be gone since.
            if (key === last) continue;
            last = key;
            // The caller may take its time.
            deadlineMs = Number.POSITIVE_INFINITY;
            yield item;
            deadlineMs = performance.now() + options.timeoutMs;
            backoff.reset();
          }
        }
        return;
      } catch (error) {
        this.throwIfClosed();
        const failure = callErrorOf(error);
        const broken = last !== null && options.oneView;
        if (broken) throw new StoreError("UNAVAILABLE", failure.message, failure);
        await this.beforeRetry(failure, deadlineMs, backoff);
      }
    }
  }

  close(): void {
    this.stop.abort();
    clearImmediate(this.turn ?? undefined);
    this.queue.length = 0;
    for (const get of this.pending) this.fail(get, "CLOSED", "the client was closed");
  }

  private throwIfClosed(): void {
    if (this.stop.signal.aborted) throw new StoreError("CLOSED", "the client was closed");
  }

  private flush(): void {
    while (this.reads < READS_MAX) {
      const batch = this.cutBatch();
      if (batch.length === 0) return;
      this.reads += 1;
      this.read(batch)
        .catch((error: unknown) => {
          for (const get of batch) this.fail(get, "UNAVAILABLE", String(error));
        })
        .finally(() => {
          this.reads -= 1;
          this.flush();
        });
    }
  }

  private cutBatch(): readonly PendingGet[] {
    const batch: PendingGet[] = [];
    let taken = 0;
    for (const get of this.queue) {
      if (this.pending.has(get)) {
        const split = get.alone || batch[0]?.alone === true;
        if (batch.length > 0 && (split || batch.length >= GETS_MAX)) break;
        batch.push(get);
      }
      taken += 1;
    }
    this.queue.splice(0, taken);
    return batch;
  }

  private async read(batch: readonly PendingGet[]): Promise<void> {
    const backoff = new Backoff();
    let waiting = batch;
    while (waiting.length > 0 && !this.stop.signal.aborted) {
      try {
        await this.ask(waiting);
        return;
      } catch (error) {
        const failure = callErrorOf(error);
        if (!failure.retry) {
          this.refused(waiting, failure);
          return;
        }
        this.followRedirect(failure);
        for (const get of waiting) get.lastError = failure;
        const delayMs = backoff.next();
        this.expire(waiting, performance.now() + delayMs);
        await sleep(delayMs, undefined, { signal: this.stop.signal }).catch(() => undefined);
      }
      waiting = waiting.filter((get) => this.pending.has(get));
    }
  }

  /** One request for all of `batch`. The call outlasts those of them that expire meanwhile. */
  private async ask(batch: readonly PendingGet[]): Promise<void> {
    const request = { shard: this.options.shard, gets: batch.map((get) => get.request) };
    const deadlineMs = Math.max(...batch.map((get) => get.deadlineMs));
    const answers: GetResponse[] = [];
    const stream = this.attempt(OxiaClientService.read, request, () => deadlineMs);
    for await (const message of stream) answers.push(...message.gets);
    if (answers.length !== batch.length) {
      throw new CallError(`${answers.length} answers to ${batch.length} gets`, null, true);
    }
    for (const [index, get] of batch.entries()) {
      const answer = answers[index];
      if (answer === undefined || !this.pending.has(get)) continue;
      this.settled(get);
      get.resolve(answer);
    }
  }

  /** Refused for the sake of one of them: the others must not fail with it. */
  private refused(batch: readonly PendingGet[], error: CallError): void {
    if (batch.length > 1) {
      for (const get of batch) get.alone = true;
      this.queue.unshift(...batch);
      return;
    }
    for (const get of batch) this.fail(get, "REFUSED", error.message, error);
  }

  private expire(gets: Iterable<PendingGet>, nowMs: number): void {
    for (const get of gets) {
      if (nowMs < get.deadlineMs) continue;
      const { shard } = this.options;
      const why = get.lastError?.message ?? `the leader of shard ${shard} did not answer in time`;
      this.fail(get, "UNAVAILABLE", why, get.lastError ?? undefined);
    }
  }

  private fail(get: PendingGet, code: StoreErrorCode, message: string, cause?: CallError): void {
    if (!this.pending.has(get)) return;
    this.settled(get);
    get.reject(new StoreError(code, message, cause));
  }

  private settled(get: PendingGet): void {
    this.pending.delete(get);
    if (this.pending.size > 0 || this.ticker === null) return;
    clearInterval(this.ticker);
    this.ticker = null;
  }

  /** One call to the leader known now; ends when it is silent while another leader is named. */
  private async *attempt<Request, Response>(
    method: MethodDefinition<Request, Response, false, true>,
    request: Request,
    deadlineMs: () => number,
  ): AsyncGenerator<Response, void, void> {
    const { assignments, channels, shard } = this.options;
    const leader = assignments.leaderOf(shard);
    if (leader === null) throw new CallError(`shard ${shard} has no leader`, null, true);
    const cancel = new AbortController();
    const onStop = () => cancel.abort();
    this.stop.signal.addEventListener("abort", onStop);
    let progressMs = performance.now();
    const watch = setInterval(() => {
      const nowMs = performance.now();
      const silent = nowMs - progressMs >= SUSPECT_MS;
      const moved = assignments.leaderOf(shard) !== leader;
      if (nowMs >= deadlineMs() || (silent && moved)) cancel.abort();
      else if (silent) {
        progressMs = nowMs;
        assignments.suspect();
      }
    }, 100);
    try {
      for await (const message of channels.serverStream(leader, method, request, cancel.signal)) {
        // As long as the caller is at it nobody is silent.
        progressMs = Number.POSITIVE_INFINITY;
        yield message;
        progressMs = performance.now();
      }
    } finally {
      clearInterval(watch);
      this.stop.signal.removeEventListener("abort", onStop);
    }
  }

  private async beforeRetry(error: CallError, deadlineMs: number, backoff: Backoff): Promise<void> {
    if (!error.retry) throw new StoreError("REFUSED", error.message, error);
    this.followRedirect(error);
    const delayMs = backoff.next();
    if (performance.now() + delayMs >= deadlineMs) {
      throw new StoreError("UNAVAILABLE", error.message, error);
    }
    await sleep(delayMs, undefined, { signal: this.stop.signal }).catch(() => undefined);
  }

  private followRedirect(error: CallError): void {
    const leader = error.refusal?.metadata["leader"] ?? "";
    if (error.refusal?.reason === "NODE_IS_NOT_LEADER" && leader !== "") {
      this.options.assignments.redirect(this.options.shard, leader);
    }
  }
}
