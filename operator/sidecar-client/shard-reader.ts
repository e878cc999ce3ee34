import { setMaxListeners } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import type { GetRequest, GetResponse } from "../../sidecar/protocol/gen/oxia-client.ts";
import { type MethodDefinition, OxiaClientService } from "../../sidecar/protocol/service.ts";
import type { AssignmentWatch } from "./assignment-watch.ts";
import { Backoff } from "./backoff.ts";
import type { StoreChannels } from "./store-channels.ts";
import { CallError, callErrorOf, StoreError } from "./store-error.ts";

/** Gets sent in one request. */
const GETS_MAX = 200;
/** Requests under way at once, per shard. */
const READS_MAX = 16;
/** A leader that is silent for so long is suspected; after it was replaced it is left at once. */
const SUSPECT_MS = 600;

interface PendingGet {
  readonly request: GetRequest;
  readonly deadlineMs: number;
  readonly resolve: (response: GetResponse) => void;
  readonly reject: (error: StoreError) => void;
}

/** What a reader needs from its client. */
export interface ShardReaderOptions {
  readonly shard: number;
  readonly channels: StoreChannels;
  readonly assignments: AssignmentWatch;
}

/** All reads of one shard. Reads change nothing, so they are tried again until their deadline. */
export class ShardReader {
  private readonly options: ShardReaderOptions;
  private readonly stop = new AbortController();
  private readonly gets: PendingGet[] = [];
  private reads = 0;
  private turn: NodeJS.Immediate | null = null;

  constructor(options: ShardReaderOptions) {
    this.options = options;
    // One for each request under way; Node would warn of a leak from the eleventh.
    setMaxListeners(0, this.stop.signal);
  }

  /** One get; many made in the same turn share a request. */
  get(request: GetRequest, deadlineMs: number): Promise<GetResponse> {
    return new Promise((resolve, reject) => {
      this.gets.push({ request, deadlineMs, resolve, reject });
      this.turn ??= setImmediate(() => {
        this.turn = null;
        this.flush();
      });
    });
  }

  /** Messages of a list or scan. Only a call that has yielded nothing yet is tried again. */
  async *stream<Request, Response>(
    method: MethodDefinition<Request, Response, false, true>,
    request: Request,
    deadlineMs: number,
  ): AsyncGenerator<Response, void, void> {
    const backoff = new Backoff();
    for (;;) {
      let yielded = false;
      try {
        for await (const message of this.attempt(method, request, deadlineMs)) {
          yielded = true;
          yield message;
        }
        return;
      } catch (error) {
        const failure = callErrorOf(error);
        if (yielded) throw new StoreError("UNAVAILABLE", failure.message, failure);
        await this.beforeRetry(failure, deadlineMs, backoff);
      }
    }
  }

  close(): void {
    this.stop.abort();
    clearImmediate(this.turn ?? undefined);
    for (const get of this.gets.splice(0)) {
      get.reject(new StoreError("CLOSED", "the client was closed"));
    }
  }

  private flush(): void {
    while (this.gets.length > 0 && this.reads < READS_MAX) {
      const batch = this.gets.splice(0, GETS_MAX);
      this.reads += 1;
      this.read(batch)
        .catch((error: unknown) => {
          const failure =
            error instanceof StoreError ? error : new StoreError("UNAVAILABLE", String(error));
          for (const get of batch) get.reject(failure);
        })
        .finally(() => {
          this.reads -= 1;
          this.flush();
        });
    }
  }

  private async read(batch: readonly PendingGet[]): Promise<void> {
    const { shard } = this.options;
    const request = { shard, gets: batch.map((get) => get.request) };
    const deadlineMs = Math.min(...batch.map((get) => get.deadlineMs));
    const backoff = new Backoff();
    for (;;) {
      try {
        const answers: GetResponse[] = [];
        const stream = this.attempt(OxiaClientService.read, request, deadlineMs);
        for await (const message of stream) answers.push(...message.gets);
        if (answers.length !== batch.length) {
          throw new CallError(`${answers.length} answers to ${batch.length} gets`, null, true);
        }
        for (const [index, get] of batch.entries()) {
          const answer = answers[index];
          if (answer !== undefined) get.resolve(answer);
        }
        return;
      } catch (error) {
        await this.beforeRetry(callErrorOf(error), deadlineMs, backoff);
      }
    }
  }

  /** One call to the leader known now; ends when it is silent while another leader is named. */
  private async *attempt<Request, Response>(
    method: MethodDefinition<Request, Response, false, true>,
    request: Request,
    deadlineMs: number,
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
      if (nowMs >= deadlineMs || (silent && moved)) cancel.abort();
      else if (silent) {
        progressMs = nowMs;
        assignments.suspect();
      }
    }, 100);
    try {
      for await (const message of channels.serverStream(leader, method, request, cancel.signal)) {
        progressMs = performance.now();
        yield message;
        progressMs = performance.now();
      }
    } finally {
      clearInterval(watch);
      this.stop.signal.removeEventListener("abort", onStop);
    }
  }

  private async beforeRetry(error: CallError, deadlineMs: number, backoff: Backoff): Promise<void> {
    if (this.stop.signal.aborted) throw new StoreError("CLOSED", "the client was closed");
    if (!error.retry) throw new StoreError("REFUSED", error.message, error);
    const leader = error.refusal?.metadata["leader"] ?? "";
    if (error.refusal?.reason === "NODE_IS_NOT_LEADER" && leader !== "") {
      this.options.assignments.redirect(this.options.shard, leader);
    }
    const delayMs = backoff.next();
    if (performance.now() + delayMs >= deadlineMs) {
      throw new StoreError("UNAVAILABLE", error.message, error);
    }
    await sleep(delayMs, undefined, { signal: this.stop.signal }).catch(() => undefined);
  }
}
