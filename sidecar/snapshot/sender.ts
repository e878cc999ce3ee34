import type { Clock } from "../lib/ports/clock.ts";
import { type DuplexCall, TransportError } from "../lib/ports/duplex-call.ts";
import type { LogPosition } from "../protocol/entry.ts";
import { ProtocolError } from "../protocol/errors.ts";
import {
  type SnapshotChunk,
  SnapshotFormat,
  type SnapshotManifest,
  type SnapshotResponse,
} from "../protocol/gen/resilver.ts";
import { chunkCountOf, refusal } from "./manifest.ts";
import { MessageReader } from "./message-reader.ts";
import type { RateLimiter } from "./rate-limiter.ts";
import { type SnapshotForm, type SnapshotSource, rechunk } from "./source.ts";
import { WholeHash, chunkHash } from "./whole-hash.ts";

/** How far a transfer is, as the sender knows, in content bytes. */
export interface SendProgress {
  readonly snapshotId: string;
  readonly format: SnapshotFormat;
  /** Sent in this attempt; what the receiver already had does not count. */
  readonly bytesSent: number;
  /** What the receiver said it verified, from the snapshot's start. */
  readonly bytesVerified: number;
  /** An estimate unless the form is exact. */
  readonly bytesTotal: number;
}

/** One attempt to send a snapshot. */
export interface SendOptions {
  readonly source: SnapshotSource;
  /** Stays the same for all attempts from one pin, so that a transfer resumes. */
  readonly snapshotId: string;
  readonly call: DuplexCall<SnapshotChunk, SnapshotResponse>;
  readonly term: number;
  readonly chunkBytes: number;
  readonly rateLimiter: RateLimiter;
  readonly clock: Clock;
  /** Ends the attempt at once; the call is cancelled. */
  readonly signal: AbortSignal;
  readonly onProgress: (progress: SendProgress) => void;
}

/**
 * Sends one snapshot and resolves with the base that the receiver installed. Holds one or two
 * chunks in memory. Rejects with the receiver's refusal if there is one (it wins over a failure of
 * this side, part five of the seed), the signal's reason after an abort, the source's error, or
 * TransportError.
 */
export async function sendSnapshot(options: SendOptions): Promise<LogPosition> {
  if (options.signal.aborted) {
    // The stream is open already: its other end would wait for ever, and take no other snapshot.
    options.call.cancel();
    throw options.signal.reason;
  }
  const transfer = new Transfer(options);
  const onAbort = (): void => transfer.stop(options.signal.reason);
  options.signal.addEventListener("abort", onAbort, { once: true });
  try {
    return await transfer.run();
  } finally {
    options.signal.removeEventListener("abort", onAbort);
  }
}

interface HashedChunk {
  readonly content: Uint8Array;
  readonly hash: Uint8Array;
}

const EMPTY_CHUNK: HashedChunk = Object.freeze({
  content: new Uint8Array(0),
  hash: chunkHash(new Uint8Array(0)),
});

class Transfer {
  readonly #options: SendOptions;
  /** Ends the sending half, because the caller or the receiving half ended. */
  readonly #stop = new AbortController();
  readonly #reader: MessageReader<SnapshotResponse>;
  #form: SnapshotForm;
  #bytesSent = 0;
  #bytesVerified = 0;

  constructor(options: SendOptions) {
    this.#options = options;
    this.#reader = new MessageReader(options.call.messages, options.signal);
    const [form] = options.source.forms;
    if (form === undefined) throw new Error("a snapshot source without any form");
    this.#form = form;
  }

  stop(reason: unknown): void {
    this.#stop.abort(reason);
    this.#options.call.cancel();
  }

  async run(): Promise<LogPosition> {
    try {
      const resume = await this.#negotiate();
      let sendError: Error | null = null;
      const sending = this.#sendChunks(resume).catch((error: unknown) => {
        // Not when this half was merely told to stop: then the other half knows why.
        if (this.#stop.signal.aborted) return;
        sendError = error as Error;
        this.#options.call.fail(sendError);
      });
      const received = await settled(this.#awaitInstalled());
      this.#stop.abort();
      await sending;
      if (received.error === null) return this.#options.source.position;
      this.#options.signal.throwIfAborted();
      throw received.error instanceof ProtocolError
        ? received.error
        : (sendError ?? received.error);
    } catch (error) {
      this.#options.call.cancel();
      throw error;
    } finally {
      this.#reader.close();
    }
  }

  /** Offers the best form first; the receiver answers with the first chunk it wants. */
  async #negotiate(): Promise<number> {
    for (;;) {
      this.#options.call.write(this.#message({ manifest: this.#manifest() }));
      const response = await this.#response();
      if (!response.wantRecords) return this.#checkResume(response);
      const records = this.#options.source.forms.find(
        (form) => form.format === SnapshotFormat.RECORDS,
      );
      if (records === undefined || records === this.#form) {
        throw refusal("want_records", "true", "only where the offer was PAGES");
      }
      this.#form = records;
    }
  }

  #checkResume(response: SnapshotResponse): number {
    const { resumeChunk } = response;
    const max = this.#chunkCount() === 0 ? 2 ** 31 - 1 : this.#chunkCount();
    if (!Number.isSafeInteger(resumeChunk) || resumeChunk < 0 || resumeChunk > max) {
      throw refusal("resume_chunk", resumeChunk, `0 to ${max}`);
    }
    this.#bytesVerified = response.bytesVerified;
    return resumeChunk;
  }

  /**
   * Reads the content from its start always: the hash over all of it has to come from this side's
   * bytes, or damage of what the receiver already has would go unseen.
   */
  async #sendChunks(resume: number): Promise<void> {
    const { source, chunkBytes, clock } = this.#options;
    const hash = new WholeHash();
    let held: HashedChunk | null = null;
    let index = 0;
    const pieces = source.chunks(this.#form.format, chunkBytes);
    const send = async (
      chunk: HashedChunk,
      at: number,
      whole: Uint8Array | null,
    ): Promise<void> => {
      const sent = (): void => pieces.recycle?.(chunk.content);
      if (at < resume) sent();
      else await this.#sendChunk(chunk, at, whole, sent);
    };
    for await (const chunk of rechunk(pieces, chunkBytes)) {
      // One chunk is held back: the last one goes with the whole hash.
      if (held !== null) await send(held, index++, null);
      held = { content: chunk, hash: chunkHash(chunk) };
      hash.add(held.hash);
      await clock.yield();
      this.#stop.signal.throwIfAborted();
    }
    const count = index + 1;
    if (this.#form.exact && count !== this.#chunkCount()) {
      throw new Error(`the source gave ${count} chunks and had said ${this.#chunkCount()}`);
    }
    // Resuming past the end: the receiver has every chunk, and still wants the hash.
    const whole = hash.digest();
    if (resume >= count) await send(EMPTY_CHUNK, Math.max(count, resume), whole);
    else await send(held ?? EMPTY_CHUNK, index, whole);
    this.#options.call.end();
  }

  async #sendChunk(
    { content, hash }: HashedChunk,
    chunkIndex: number,
    wholeHash: Uint8Array | null,
    sent: () => void,
  ): Promise<void> {
    const { call, rateLimiter } = this.#options;
    await rateLimiter.take(content.length, this.#stop.signal);
    const message = this.#message({ content, chunkIndex, chunkHash: hash });
    if (wholeHash !== null) message.wholeHash = wholeHash;
    const roomLeft = call.write(message, sent);
    this.#bytesSent += content.length;
    this.#progress();
    if (!roomLeft) await call.drained();
    this.#stop.signal.throwIfAborted();
  }

  async #awaitInstalled(): Promise<void> {
    for (;;) {
      const response = await this.#response();
      this.#bytesVerified = response.bytesVerified;
      this.#progress();
      if (!response.installed) continue;
      const { offset } = this.#options.source.position;
      if (response.ackOffset !== offset)
        throw refusal("ack_offset", response.ackOffset, `${offset}`);
      return;
    }
  }

  async #response(): Promise<SnapshotResponse> {
    const response = await this.#reader.next();
    if (response !== null) return response;
    throw new TransportError("the receiver ended the snapshot stream before it had installed it");
  }

  #manifest(): SnapshotManifest {
    const { source, snapshotId, chunkBytes } = this.#options;
    const { format, formatDetail, bytes } = this.#form;
    const { term, offset, crc } = source.position;
    return {
      snapshotId,
      format,
      formatDetail,
      base: { term, offset, crc },
      records: source.records,
      bytes,
      chunkCount: this.#chunkCount(),
      chunkBytes,
    };
  }

  #chunkCount(): number {
    return this.#form.exact ? chunkCountOf(this.#form.bytes, this.#options.chunkBytes) : 0;
  }

  #message(part: Partial<SnapshotChunk>): SnapshotChunk {
    const { term, snapshotId } = this.#options;
    return {
      term,
      name: snapshotId,
      content: new Uint8Array(0),
      chunkIndex: 0,
      chunkCount: this.#chunkCount(),
      manifest: undefined,
      chunkHash: new Uint8Array(0),
      snapshotId,
      wholeHash: new Uint8Array(0),
      ...part,
    };
  }

  #progress(): void {
    this.#options.onProgress({
      snapshotId: this.#options.snapshotId,
      format: this.#form.format,
      bytesSent: this.#bytesSent,
      bytesVerified: this.#bytesVerified,
      bytesTotal: this.#form.bytes,
    });
  }
}

async function settled(work: Promise<void>): Promise<{ readonly error: Error | null }> {
  try {
    await work;
    return { error: null };
  } catch (error) {
    return { error: error as Error };
  }
}
