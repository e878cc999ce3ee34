import type {
  DeleteRangeRequest,
  DeleteRequest,
  PutRequest,
  PutResponse,
  Status,
  WriteRequest,
  WriteResponse,
} from "../../sidecar/protocol/gen/oxia-client.ts";
import { MESSAGE_BYTES_MAX } from "./store-channels.ts";
import { StoreError, type StoreErrorCode } from "./store-error.ts";

/** What one operation of a batch was answered. `put` is set for puts. */
export interface WriteResult {
  readonly status: Status;
  readonly put: PutResponse | null;
  /** It was sent before, and that attempt may have been done: this may be the second time. */
  readonly repeated: boolean;
}

/** The request part of one write. */
export type WriteBody =
  | { readonly kind: "put"; readonly request: PutRequest }
  | { readonly kind: "delete"; readonly request: DeleteRequest }
  | { readonly kind: "deleteRange"; readonly request: DeleteRangeRequest };

/** One write on its way. It is settled exactly once; later answers are ignored. */
export class WriteOperation {
  readonly body: WriteBody;
  /** Size in a request, at most. */
  readonly bytes: number;
  /** Doing it twice is not the same as once: never sent again once it may have been done. */
  readonly conditional: boolean;
  /** Monotonic milliseconds. */
  readonly deadlineMs: number;
  /** The present attempt was sent and is not answered: it may have been done. */
  sent = false;
  /** An earlier attempt may have been done. No later refusal takes that back. */
  inDoubt = false;
  /** A batch with this one in it was refused: send it alone, to find which one it was. */
  alone = false;
  settled = false;
  private readonly done: (outcome: WriteResult | StoreError) => void;

  constructor(
    body: WriteBody,
    options: { readonly conditional: boolean; readonly deadlineMs: number },
    done: (outcome: WriteResult | StoreError) => void,
  ) {
    this.body = body;
    this.bytes = bytesOf(body);
    this.conditional = options.conditional;
    this.deadlineMs = options.deadlineMs;
    this.done = done;
  }

  settle(outcome: WriteResult | StoreError): void {
    if (this.settled) return;
    this.settled = true;
    this.done(outcome);
  }

  /** Ends it without an answer: what the caller learns depends on whether it was sent. */
  giveUp(code: "UNAVAILABLE" | "ABORTED" | "CLOSED", message: string, cause?: unknown): void {
    this.fail(code, this.sent, message, cause);
  }

  /** Ends it by a refusal of the present attempt, which says nothing about those before it. */
  refuse(message: string, cause: unknown): void {
    this.fail("REFUSED", false, message, cause);
  }

  private fail(code: StoreErrorCode, mayBeDone: boolean, message: string, cause: unknown): void {
    const error =
      mayBeDone || this.inDoubt
        ? new StoreError("UNKNOWN_OUTCOME", `the write may have been done: ${message}`, cause)
        : new StoreError(code, message, cause);
    this.settle(error);
  }
}

/** More than the tags, lengths and numbers of one operation take. */
const HEAD_BYTES = 64;

function bytesOf({ kind, request }: WriteBody): number {
  if (kind === "deleteRange") {
    return textBytes(request.startInclusive) + textBytes(request.endExclusive) + HEAD_BYTES;
  }
  const value = kind === "put" ? request.value.byteLength : 0;
  return textBytes(request.key) + textBytes(request.partitionKey) + value + HEAD_BYTES;
}

function textBytes(text = ""): number {
  return Buffer.byteLength(text);
}

/**
 * Operations of one request, all together: with its head it still is a message that can be sent.
 * The library ends the whole call for one that cannot, and with it the requests before.
 */
export const OPERATION_BYTES_MAX = MESSAGE_BYTES_MAX - 64;

/** Bounds of one request: as Oxia's clients have them. */
export interface BatchLimits {
  readonly operationsMax: number;
  readonly bytesMax: number;
}

const ORDER = { put: 0, delete: 1, deleteRange: 2 } as const;

/**
 * Takes the next batch from the front of `queue`, dropping settled ones. Within one request puts
 * come before deletes before ranges, so the batch ends where that would change the caller's order.
 */
export function cutBatch(queue: WriteOperation[], limits: BatchLimits): WriteOperation[] {
  const batch: WriteOperation[] = [];
  let bytes = 0;
  let rank = 0;
  let taken = 0;
  for (const operation of queue) {
    if (!operation.settled) {
      const operationRank = ORDER[operation.body.kind];
      const full =
        batch.length >= limits.operationsMax || bytes + operation.bytes > limits.bytesMax;
      const split = operation.alone || batch[0]?.alone === true || operationRank < rank;
      if (batch.length > 0 && (full || split)) break;
      batch.push(operation);
      bytes += operation.bytes;
      rank = operationRank;
    }
    taken += 1;
  }
  queue.splice(0, taken);
  return batch;
}

/** The request for a batch of one shard. */
export function requestOf(shard: number, batch: readonly WriteOperation[]): WriteRequest {
  const request: WriteRequest = { shard, puts: [], deletes: [], deleteRanges: [] };
  for (const { body } of batch) {
    if (body.kind === "put") request.puts.push(body.request);
    else if (body.kind === "delete") request.deletes.push(body.request);
    else request.deleteRanges.push(body.request);
  }
  return request;
}

/** Gives each operation of a batch its answer. False: the answer does not fit the batch. */
export function settleBatch(batch: readonly WriteOperation[], response: WriteResponse): boolean {
  const puts = batch.filter(({ body }) => body.kind === "put");
  const deletes = batch.filter(({ body }) => body.kind === "delete");
  const ranges = batch.filter(({ body }) => body.kind === "deleteRange");
  const fits =
    response.puts.length === puts.length &&
    response.deletes.length === deletes.length &&
    response.deleteRanges.length === ranges.length;
  if (!fits) return false;
  for (const [index, put] of response.puts.entries()) {
    answer(puts[index], put.status, put);
  }
  for (const [index, { status }] of response.deletes.entries()) {
    answer(deletes[index], status, null);
  }
  for (const [index, { status }] of response.deleteRanges.entries()) {
    answer(ranges[index], status, null);
  }
  return true;
}

function answer(
  operation: WriteOperation | undefined,
  status: Status,
  put: PutResponse | null,
): void {
  operation?.settle({ status, put, repeated: operation.inDoubt });
}
