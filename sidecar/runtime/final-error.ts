import { InvariantError } from "../lib/assert.ts";
import { isFatal } from "../lib/ports/disk.ts";
import { StateCorrupt } from "../state/record.ts";
import { WalCorrupt } from "../wal/errors.ts";

/**
 * True when the work that failed must not be tried again by this process (R14): a failed sync,
 * which would seem to succeed the next time, a broken invariant, damage in what was stored here.
 */
export function endsReplica(error: unknown): boolean {
  if (isFatal(error) || error instanceof InvariantError) return true;
  return error instanceof StateCorrupt || error instanceof WalCorrupt;
}
