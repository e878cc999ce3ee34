import type { Offset } from "../protocol/entry.ts";

/** The entry asked for was trimmed away; `first` is the oldest one held (last + 1 when none is). */
export class WalTrimmed extends Error {
  override readonly name = "WalTrimmed";
  readonly first: Offset;
  constructor(offset: Offset, first: Offset) {
    super(`offset ${offset} was trimmed: the log starts at ${first}`);
    this.first = first;
  }
}

/** The entry asked for is not in the log (not yet, or no more after a truncation). */
export class WalBeyondEnd extends Error {
  override readonly name = "WalBeyondEnd";
  readonly last: Offset;
  constructor(offset: Offset, last: Offset) {
    super(`offset ${offset} is not in the log: it ends at ${last}`);
    this.last = last;
  }
}

/**
 * A file of the log is in a format that this version does not read. It is no damage: nothing was
 * changed, the replica stays who it is, and the version that wrote the file can go on with it.
 */
export class WalFormatUnknown extends Error {
  override readonly name = "WalFormatUnknown";
  constructor(path: string, format: number, allowed: string) {
    super(
      `${path}: format is ${format}, allowed: ${allowed}; nothing was changed, start the version ` +
        "that wrote it or a later one",
    );
  }
}

/**
 * A record that must be good is not: the replica is faulty (R14, I19). Nothing was changed on the
 * disk.
 */
export class WalCorrupt extends Error {
  override readonly name = "WalCorrupt";
  readonly offset: Offset;
  readonly path: string;
  constructor(offset: Offset, path: string, problem: string) {
    super(`${path}: entry ${offset}: ${problem}`);
    this.offset = offset;
    this.path = path;
  }
}
