import { unreachable } from "../lib/assert.ts";
import type { LogEntry } from "../protocol/entry.ts";
import type { WriteRequest, WriteResponse } from "../protocol/gen/oxia-client.ts";
import { contentOf } from "../protocol/log-entry-value.ts";
import { type WriteTarget, writeSteps } from "./write-request.ts";

/** One entry being applied, in steps; returns the writer's response, null for a control entry. */
export type EntrySteps = Generator<void, WriteResponse | null, void>;

/** What an entry is applied to. */
export interface EntryHandlers {
  readonly target: WriteTarget;
  /** Called before the first write of the request. */
  writes(request: WriteRequest): void;
  barrier(lossEpoch: number): void;
}

/** Applies what the entry holds. Throws InvariantError for an entry that nobody could have made. */
export function* entrySteps(entry: LogEntry, handlers: EntryHandlers): EntrySteps {
  // All of it is understood before any of it is applied.
  const content = contentOf(entry);
  switch (content.kind) {
    case "write":
      handlers.writes(content.request);
      return yield* writeSteps(handlers.target, content.request, entry.timestampMs);
    case "barrier":
      handlers.barrier(content.lossEpoch);
      return null;
    default:
      return unreachable(content);
  }
}
