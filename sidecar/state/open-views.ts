import type { Clock } from "../lib/ports/clock.ts";
import { LIMITS } from "../limits.ts";
import type { Offset } from "../protocol/entry.ts";
import { ProtocolError } from "../protocol/errors.ts";
import type { KeyRange } from "./key-order.ts";
import { ReadView, tooLongRead, type ViewSource } from "./read-view.ts";

/** The refusal of a read of a state that is closed: another one may take its place. */
export function closedRead(): ProtocolError {
  return new ProtocolError("RESOURCE_UNAVAILABLE", "this shard's state is closed; read it again");
}

/** The open views of one state: how many clients may have, for how long, and their end. */
export class OpenViews {
  readonly #clock: Clock;
  readonly #sourceAt: (offset: Offset) => ViewSource;
  /** With when each is closed for its age. */
  readonly #endMs = new Map<ReadView, number>();
  #closed = false;

  constructor(clock: Clock, sourceAt: (offset: Offset) => ViewSource) {
    this.#clock = clock;
    this.#sourceAt = sourceAt;
  }

  get some(): boolean {
    return this.#endMs.size > 0;
  }

  /** A view for the state's own work, which ends it. */
  open(range: KeyRange, offset: Offset): ReadView {
    return this.#add(range, false, offset, Number.POSITIVE_INFINITY);
  }

  /** A view for a client. It may have gone or stall, so the view is closed for its age. */
  openForClient(range: KeyRange, reverse: boolean, offset: Offset): ReadView {
    if (this.#endMs.size >= LIMITS.readViewsMax) {
      const many = `${this.#endMs.size} reads are open on this shard`;
      throw new ProtocolError("RESOURCE_UNAVAILABLE", `${many}; allowed: ${LIMITS.readViewsMax}`);
    }
    const endMs = this.#clock.monotonicMs() + LIMITS.readViewMsMax;
    return this.#add(range, reverse, offset, endMs);
  }

  #add(range: KeyRange, reverse: boolean, offset: Offset, endMs: number): ReadView {
    if (this.#closed) throw closedRead();
    const closed = (view: ReadView): void => void this.#endMs.delete(view);
    const view = new ReadView(this.#sourceAt(offset), range, reverse, closed);
    this.#endMs.set(view, endMs);
    return view;
  }

  closeOld(): void {
    const nowMs = this.#clock.monotonicMs();
    for (const [view, endMs] of this.#endMs) if (endMs < nowMs) view.close(tooLongRead());
  }

  /** Closes all; there are no others after it. */
  close(): void {
    this.#closed = true;
    for (const view of this.#endMs.keys()) view.close(closedRead());
  }
}
