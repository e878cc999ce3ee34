import { assert, InvariantError } from "../lib/assert.ts";
import type { LogEntry } from "../protocol/entry.ts";
import type { WriteRequest, WriteResponse } from "../protocol/gen/oxia-client.ts";
import { LogEntryValue } from "../protocol/gen/resilver.ts";
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
  const { value } = LogEntryValue.decode(entry.value);
  switch (value?.$case) {
    case "requests": {
      const { writes } = value.value;
      assert(writes.length === 1, `an entry holds ${writes.length} write requests instead of one`);
      const request = writes[0] as WriteRequest;
      handlers.writes(request);
      return yield* writeSteps(handlers.target, request, entry.timestampMs);
    }
    case "controlRequest": {
      const { request } = value.value;
      if (request?.$case === "barrier") handlers.barrier(request.value.lossEpoch);
      return null;
    }
    default:
      throw new InvariantError(`entry ${entry.offset} holds neither writes nor a control request`);
  }
}
