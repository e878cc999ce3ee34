/** What the end of a snapshot transfer means for its snapshot and for the next attempt. */
import { TransportError } from "../lib/ports/duplex-call.ts";
import { ProtocolError, type Reason } from "../protocol/errors.ts";

/** The receiver is there and will take the same snapshot, only not now. */
const FOR_NOW: ReadonlySet<Reason> = new Set(["INVALID_TERM", "RESOURCE_UNAVAILABLE"]);

/** The leader itself ended a transfer, for the sake of its own volumes (R17). */
export class TransferDropped extends Error {
  override readonly name = "TransferDropped";
}

/** See the file's header. */
export interface TransferEnd {
  /** The next attempt may go on with the same snapshot, if it comes soon. */
  readonly keep: boolean;
  /** The next attempt would end like this one, and cost another snapshot: it has to wait. */
  readonly refused: boolean;
}

/**
 * Judges a transfer by what ended it. A kept snapshot keeps every page that the state frees: one
 * that the receiver has no room for, say, must go at once (R17).
 */
export function transferEnd(error: unknown, signal: AbortSignal, pinned: boolean): TransferEnd {
  if (signal.aborted) {
    const dropped = signal.reason instanceof TransferDropped;
    return { keep: !dropped, refused: dropped };
  }
  if (error instanceof TransportError) return { keep: true, refused: false };
  if (!(error instanceof ProtocolError)) return { keep: false, refused: true };
  // Before it is pinned, a refusal is a matter of this process: a turn that is not free yet.
  if (!pinned || FOR_NOW.has(error.reason)) return { keep: true, refused: false };
  return { keep: false, refused: true };
}
