import type { ClientDuplexStream } from "@grpc/grpc-js";
import type { WriteRequest, WriteResponse } from "../../sidecar/protocol/gen/oxia-client.ts";
import { OxiaClientService } from "../../sidecar/protocol/service.ts";
import type { AssignmentWatch } from "./assignment-watch.ts";
import { Backoff } from "./backoff.ts";
import type { StoreChannels } from "./store-channels.ts";
import { CallError, callErrorOf } from "./store-error.ts";
import {
  type BatchLimits,
  cutBatch,
  requestOf,
  settleBatch,
  type WriteOperation,
} from "./write-batch.ts";

/** Requests sent and not answered, per shard. */
const IN_FLIGHT_MAX = 32;
/** How often deadlines and stalls are looked at. */
const TICK_MS = 100;
/** A leader that answers nothing for so long may be gone: ask another server who leads. */
const SUSPECT_MS = 600;
/** How long an old leader may still answer after another one was named. */
const OLD_LEADER_GRACE_MS = 200;

interface Stream {
  readonly call: ClientDuplexStream<WriteRequest, WriteResponse>;
  readonly leader: string;
  /** Sent and not answered, oldest first: answers come in request order. */
  readonly inFlight: WriteOperation[][];
  /**
   * Nothing is handed over before: what waits for a connection has certainly not been done, and
   * stays so when there never is one.
   */
  connected: boolean;
  /** Ends the wait for the connection. */
  forget: () => void;
  blocked: boolean;
  lastProgressMs: number;
  /** When another leader was first seen; null: this one still leads. */
  supersededMs: number | null;
}

/** What a writer needs from its client. */
export interface ShardWriterOptions {
  readonly shard: number;
  readonly namespace: string;
  readonly channels: StoreChannels;
  readonly assignments: AssignmentWatch;
  readonly limits: BatchLimits;
  /** How long a batch waits for company; 0: until the end of the current turn. */
  readonly lingerMs: number;
}

/**
 * All writes of one shard: batched onto one WriteStream to its leader. When the stream breaks, what
 * was sent is in doubt: unconditional writes are sent again in their order, conditional ones are
 * reported as UNKNOWN_OUTCOME. A request that was refused before anything was done is sent again as
 * it was, conditional or not. Nothing is sent again after its deadline, nor while there is no
 * connection.
 */
export class ShardWriter {
  private readonly options: ShardWriterOptions;
  private readonly backoff = new Backoff();
  private readonly queue: WriteOperation[] = [];
  private readonly unsubscribe: () => void;
  private stream: Stream | null = null;
  private flushTimer: NodeJS.Timeout | null = null;
  private flushTurn: NodeJS.Immediate | null = null;
  private retryTimer: NodeJS.Timeout | null = null;
  private ticker: NodeJS.Timeout | null = null;
  /** Leader of the last broken stream: only its own word waits for the back-off. */
  private failedLeader: string | null = null;
  /** What went wrong since the last answer. */
  private lastError: CallError | null = null;
  private closed = false;

  constructor(options: ShardWriterOptions) {
    this.options = options;
    this.unsubscribe = options.assignments.onChange(() => this.leaderChanged());
  }

  add(operation: WriteOperation): void {
    this.queue.push(operation);
    this.ticker ??= setInterval(() => this.tick(performance.now()), TICK_MS);
    this.scheduleFlush();
  }

  close(): void {
    this.closed = true;
    this.unsubscribe();
    this.clearTimers();
    const inFlight = this.dropStream();
    for (const operation of [...inFlight, ...this.queue.splice(0)]) {
      operation.giveUp("CLOSED", "the client was closed");
    }
  }

  private clearTimers(): void {
    for (const timer of [this.flushTimer, this.retryTimer, this.ticker])
      clearTimeout(timer ?? undefined);
    clearImmediate(this.flushTurn ?? undefined);
    this.flushTimer = this.retryTimer = this.ticker = this.flushTurn = null;
  }

  private scheduleFlush(): void {
    if (this.flushTimer !== null || this.flushTurn !== null || this.closed) return;
    const run = () => {
      this.flushTimer = this.flushTurn = null;
      this.flush();
    };
    if (this.options.lingerMs > 0) this.flushTimer = setTimeout(run, this.options.lingerMs);
    else this.flushTurn = setImmediate(run);
  }

  private flush(): void {
    if (this.closed || this.retryTimer !== null || this.queue.length === 0) return;
    const stream = this.stream ?? this.open();
    if (stream === null || !stream.connected) return;
    while (this.queue.length > 0 && !stream.blocked && stream.inFlight.length < IN_FLIGHT_MAX) {
      const batch = cutBatch(this.queue, this.options.limits);
      if (batch.length === 0) continue;
      for (const operation of batch) operation.sent = true;
      if (stream.inFlight.length === 0) stream.lastProgressMs = performance.now();
      stream.inFlight.push(batch);
      stream.blocked = !stream.call.write(requestOf(this.options.shard, batch));
    }
  }

  private open(): Stream | null {
    const { assignments, channels, namespace, shard } = this.options;
    const leader = assignments.leaderOf(shard);
    // No leader known: the assignments will say when there is one.
    if (leader === null) return null;
    const headers = { namespace, "shard-id": String(shard) };
    const call = channels.duplex(leader, OxiaClientService.writeStream, headers);
    const stream: Stream = {
      call,
      leader,
      inFlight: [],
      connected: false,
      forget: () => undefined,
      blocked: false,
      lastProgressMs: performance.now(),
      supersededMs: null,
    };
    call.on("data", (response: WriteResponse) => this.answered(stream, response));
    call.on("drain", () => {
      stream.blocked = false;
      this.scheduleFlush();
    });
    call.on("error", (error) => this.broken(stream, callErrorOf(error)));
    call.on("end", () => {
      // An "error" event, where there is one, follows "end" in the same turn and says more.
      setImmediate(() =>
        this.broken(stream, new CallError("the server ended the stream", null, true)),
      );
    });
    this.stream = stream;
    stream.forget = channels.onceConnected(leader, () => {
      stream.connected = true;
      this.scheduleFlush();
    });
    return stream;
  }

  private answered(stream: Stream, response: WriteResponse): void {
    if (this.stream !== stream) return;
    const batch = stream.inFlight.shift();
    if (batch === undefined || !settleBatch(batch, response)) {
      if (batch !== undefined) stream.inFlight.unshift(batch);
      this.broken(stream, new CallError("the answer does not fit the request", null, true));
      return;
    }
    stream.lastProgressMs = performance.now();
    this.backoff.reset();
    this.failedLeader = null;
    this.lastError = null;
    if (this.queue.length > 0) this.flush();
  }

  private broken(stream: Stream, error: CallError): void {
    if (this.stream !== stream) return;
    this.lastError = error;
    const [first = [], ...rest] = stream.inFlight;
    this.dropStream();
    const again = [...this.afterFailure(first, error), ...this.afterOther(rest.flat(), error)];
    this.queue.unshift(...again);
    this.failedLeader = stream.leader;
    if (error.refusal?.reason === "NODE_IS_NOT_LEADER") {
      const leader = error.refusal.metadata["leader"] ?? "";
      // A redirect to somebody else is followed at once; it arrives through leaderChanged().
      if (leader !== "" && leader !== stream.leader) {
        this.options.assignments.redirect(this.options.shard, leader);
      }
    }
    this.retryLater();
  }

  /** The operations of the request that the failure answers: which of them to send again. */
  private afterFailure(
    batch: readonly WriteOperation[],
    error: CallError,
  ): readonly WriteOperation[] {
    if (!error.nothingDone) return this.afterDoubt(batch, error);
    for (const operation of batch) operation.sent = false;
    if (error.retry) return this.afterPostponed(batch, error);
    // Refused for the sake of one of them.
    if (batch.length > 1) {
      for (const operation of batch) operation.alone = true;
      return [...batch];
    }
    for (const operation of batch) operation.refuse(error.message, error);
    return [];
  }

  /**
   * For now it cannot be done. Another leader is found soon; room on a volume takes a person, and
   * who wants to be told rather than served late is told.
   */
  private afterPostponed(
    batch: readonly WriteOperation[],
    error: CallError,
  ): readonly WriteOperation[] {
    if (error.refusal?.reason !== "NO_SPACE") return batch;
    for (const operation of batch)
      if (operation.conditional) operation.refuse(error.message, error);
    return batch.filter(({ conditional }) => !conditional);
  }

  /** The operations of the requests that were sent after it. */
  private afterOther(
    operations: readonly WriteOperation[],
    error: CallError,
  ): readonly WriteOperation[] {
    if (!error.nothingDoneAfter) return this.afterDoubt(operations, error);
    for (const operation of operations) operation.sent = false;
    return operations;
  }

  private afterDoubt(operations: readonly WriteOperation[], error: CallError): WriteOperation[] {
    const again: WriteOperation[] = [];
    for (const operation of operations) {
      operation.sent = false;
      operation.inDoubt = true;
      // Without a refusal by name: nobody there would take it later either.
      const isFinal = error.refusal === null && !error.retry;
      if (operation.conditional || isFinal) operation.giveUp("UNAVAILABLE", error.message, error);
      else again.push(operation);
    }
    return again;
  }

  private retryLater(): void {
    if (this.closed || this.retryTimer !== null) return;
    const leader = this.options.assignments.leaderOf(this.options.shard);
    const delayMs = leader !== null && leader !== this.failedLeader ? 0 : this.backoff.next();
    this.retryTimer = setTimeout(() => {
      this.retryTimer = null;
      this.flush();
    }, delayMs);
  }

  private leaderChanged(): void {
    const leader = this.options.assignments.leaderOf(this.options.shard);
    if (this.stream !== null) {
      const moved = leader !== null && leader !== this.stream.leader;
      this.stream.supersededMs = moved ? (this.stream.supersededMs ?? performance.now()) : null;
      return;
    }
    if (leader === null || leader === this.failedLeader || this.queue.length === 0) return;
    clearTimeout(this.retryTimer ?? undefined);
    this.retryTimer = null;
    this.scheduleFlush();
  }

  private tick(nowMs: number): void {
    for (const operation of this.queue) {
      if (nowMs >= operation.deadlineMs) {
        operation.giveUp("UNAVAILABLE", this.whyNot(), this.lastError ?? undefined);
      }
    }
    const waiting = this.queue.filter((operation) => !operation.settled);
    if (waiting.length < this.queue.length) this.queue.splice(0, this.queue.length, ...waiting);
    const stream = this.stream;
    const waits = stream !== null && (stream.inFlight.length > 0 || !stream.connected);
    if (waits) this.checkStream(stream, nowMs);
    const idle = this.queue.length === 0 && (this.stream?.inFlight.length ?? 0) === 0;
    if (idle && this.ticker !== null) {
      clearInterval(this.ticker);
      this.ticker = null;
    }
  }

  private checkStream(stream: Stream, nowMs: number): void {
    for (const operation of stream.inFlight.flat()) {
      if (nowMs >= operation.deadlineMs) operation.giveUp("UNAVAILABLE", this.whyNot());
    }
    // A new leader that the stream was not opened to, or nobody left who waits for the answers.
    const superseded =
      stream.supersededMs !== null && nowMs - stream.supersededMs >= OLD_LEADER_GRACE_MS;
    const abandoned =
      stream.connected && stream.inFlight.every((batch) => batch.every(({ settled }) => settled));
    if (superseded || abandoned) {
      this.broken(stream, new CallError(`${stream.leader} no longer answers`, null, true));
    } else if (nowMs - stream.lastProgressMs >= SUSPECT_MS) {
      stream.lastProgressMs = nowMs;
      this.options.assignments.suspect();
    }
  }

  private whyNot(): string {
    const { assignments, shard, namespace } = this.options;
    const leader = assignments.leaderOf(shard);
    if (leader === null) return `shard ${shard} of namespace ${namespace} has no leader`;
    return this.lastError?.message ?? `${leader} did not answer in time`;
  }

  private dropStream(): WriteOperation[] {
    const stream = this.stream;
    this.stream = null;
    if (stream === null) return [];
    stream.forget();
    stream.call.on("error", () => undefined);
    stream.call.cancel();
    return stream.inFlight.splice(0).flat();
  }
}
