import { LIMITS } from "../limits.ts";
import { SnapshotFormat } from "../protocol/gen/resilver.ts";
import type { Manifest } from "../snapshot/manifest.ts";
import type { PinnedSource } from "../snapshot/pins.ts";
import type { SnapshotForm } from "../snapshot/source.ts";
import type { SnapshotWriter, SnapshotWriters } from "../snapshot/stage.ts";
import type { EngineFactory } from "../state/engine.ts";
import type { ShardState } from "../state/shard-state.ts";

/** What records are called on the wire; a new framing gets a new name. */
const RECORDS_DETAIL = "records-1";

/**
 * Pins the newest durable checkpoint of a state for sending: pages first, records always (DESIGN
 * section 6). What came after it is still in the log (R17) and reaches the receiver from there;
 * where that is much, it is made durable first, which takes less time.
 */
export async function pinnedSource(state: ShardState): Promise<PinnedSource> {
  const pin = await state.pin(LIMITS.pinAppliedBytesMax);
  const { engine, position, records } = pin;
  const pages: SnapshotForm[] =
    engine.format === "PAGES"
      ? [
          {
            format: SnapshotFormat.PAGES,
            formatDetail: engine.formatDetail,
            bytes: engine.bytes,
            exact: true,
          },
        ]
      : [];
  const sorted: SnapshotForm = {
    format: SnapshotFormat.RECORDS,
    formatDetail: RECORDS_DETAIL,
    bytes: engine.bytes,
    exact: false,
  };
  return {
    position,
    records,
    forms: [...pages, sorted],
    chunks: (format, chunkBytes) =>
      format === SnapshotFormat.PAGES ? engine.pages(chunkBytes) : engine.records(chunkBytes),
    release: () => pin.release(),
  };
}

/** Writes received content with the state engine. */
export function engineWriters(engine: EngineFactory): SnapshotWriters {
  return {
    accepts: ({ format, formatDetail }) =>
      format === SnapshotFormat.PAGES
        ? engine.acceptPages(formatDetail)
        : formatDetail === RECORDS_DETAIL,
    open: async (
      dir: string,
      manifest: Manifest,
      resumeBytes: number,
    ): Promise<SnapshotWriter | null> => {
      const layout = manifest.format === SnapshotFormat.PAGES ? "PAGES" : "RECORDS";
      if (resumeBytes > 0) return engine.resumedWriter(dir, layout, resumeBytes);
      return engine.writer(dir, layout);
    },
  };
}
