import type { LogPosition, Offset } from "../protocol/entry.ts";

/** What retention needs to know of a segment. */
export interface SegmentSpan {
  /** Its last entry. */
  readonly last: Pick<LogPosition, "offset">;
  readonly newestTimestampMs: number;
  /** Where it ends: how many bytes it is. */
  readonly end: number;
}

/** How much log to keep: what is older than `retentionMs`, or beyond `retentionBytes`, may go. */
export interface Retention {
  readonly nowMs: number;
  readonly retentionMs: number;
  readonly retentionBytes: number;
}

/**
 * Highest offset that retention lets go; `none` when nothing may. `spans` are in log order; the
 * last one is being written to and stays. Pure. The caller takes the lowest of this and the other
 * bounds of R17.
 */
export function retentionOffset(
  spans: readonly SegmentSpan[],
  none: Offset,
  { nowMs, retentionMs, retentionBytes }: Retention,
): Offset {
  if (spans.length < 2) return none;
  let bytes = spans.reduce((sum, span) => sum + span.end, 0);
  let offset = none;
  for (const span of spans.slice(0, -1)) {
    if (span.newestTimestampMs >= nowMs - retentionMs && bytes <= retentionBytes) break;
    offset = span.last.offset;
    bytes -= span.end;
  }
  return offset;
}
