import type { Effect, Refusal } from "../core/effect.ts";
import type { DuplexCall } from "../lib/ports/duplex-call.ts";
import type { Ack, Append, Peer } from "../protocol/gen/resilver.ts";
import { protocolError } from "./pending-requests.ts";
import type { ReplicaLoop } from "./replica-loop.ts";

/** The Replicate streams that leaders opened to this replica. */
export class IncomingStreams {
  readonly #uid: string;
  readonly #loop: ReplicaLoop;
  readonly #admit: () => Promise<void> | undefined;
  readonly #streams = new Map<number, DuplexCall<Ack, Append>>();

  constructor(
    uid: string,
    loop: ReplicaLoop,
    /** A promise while the log has too much that is not yet durable: the stream waits. */
    admit: () => Promise<void> | undefined,
  ) {
    this.#uid = uid;
    this.#loop = loop;
    this.#admit = admit;
  }

  /** Serves one stream until it ends. */
  async serve(streamId: number, peer: Peer, call: DuplexCall<Ack, Append>): Promise<void> {
    this.#streams.set(streamId, call);
    this.#loop.feed({ kind: "streamOpened", streamId, peer });
    try {
      for await (const append of call.messages) {
        if (!this.#streams.has(streamId)) break;
        this.#loop.feed({ kind: "append", streamId, append });
        // What was fed while the log is being cut, say, is in nobody's count of bytes yet.
        await this.#loop.unblocked();
        await this.#admit();
      }
    } catch {
      // The leader's connection broke: it opens a new stream, nothing here depends on why.
    } finally {
      if (this.#streams.delete(streamId)) {
        this.#loop.feed({ kind: "streamClosed", streamId });
        call.end();
      }
    }
  }

  ack(effect: Effect & { kind: "ack" }): void {
    const { offset, round, synced, noSpace, entriesRefused, streamId } = effect;
    const mismatch = effect.mismatch ?? undefined;
    const observedUid = this.#uid;
    const ack: Ack = { offset, round, synced, observedUid, mismatch, noSpace, entriesRefused };
    this.#streams.get(streamId)?.write(ack);
  }

  close(streamId: number, refusal: Refusal | null): void {
    const call = this.#streams.get(streamId);
    if (call === undefined) return;
    this.#streams.delete(streamId);
    if (refusal === null) call.end();
    else call.fail(protocolError(refusal));
  }

  closeAll(): void {
    for (const call of this.#streams.values()) call.cancel();
    this.#streams.clear();
  }
}
