import type { PowerLoss } from "./power-loss.ts";

const SECTOR_BYTES = 512;

type Change =
  | {
      readonly kind: "write";
      readonly position: number;
      readonly bytes: Uint8Array;
      /** Where the disk really puts it; null: nowhere. Absent: where it should. */
      readonly lands?: number | null;
    }
  | { readonly kind: "truncate"; readonly bytes: number };

/**
 * Bytes that grow in place. What was never written costs nothing: a log's segment is given its full
 * length at once, most of it stays empty, and it is copied at each power loss.
 */
class Contents {
  /** Zero from {@link #used} on. */
  #bytes = new Uint8Array(0);
  #used = 0;
  #length = 0;

  get length(): number {
    return this.#length;
  }

  /** Fills `into` with what is at `position`; how many bytes there were. */
  read(into: Uint8Array, position: number): number {
    const count = Math.max(0, Math.min(into.byteLength, this.#length - position));
    const end = Math.min(position + count, this.#used);
    if (position < end) into.set(this.#bytes.subarray(position, end));
    into.fill(0, Math.max(0, end - position), count);
    return count;
  }

  /** All of it. */
  all(): Uint8Array {
    const all = new Uint8Array(this.#length);
    all.set(this.#bytes.subarray(0, this.#used));
    return all;
  }

  /** What the change makes of a disk that may put it elsewhere. */
  applyAsDisk(change: Change): void {
    if (change.kind === "truncate" || change.lands === undefined) return this.apply(change);
    const end = change.position + change.bytes.byteLength;
    this.#length = Math.max(this.#length, end);
    if (change.lands === null || change.lands >= this.#length) return;
    this.#write(change.bytes.subarray(0, this.#length - change.lands), change.lands);
  }

  apply(change: Change): void {
    if (change.kind === "write") this.#write(change.bytes, change.position);
    else this.#truncate(change.bytes);
  }

  flip(offset: number, mask: number): void {
    if (offset >= this.#length) return;
    this.#write(Uint8Array.of((this.#bytes[offset] ?? 0) ^ mask), offset);
  }

  copy(): Contents {
    const copy = new Contents();
    copy.#bytes = this.#bytes.slice(0, this.#used);
    copy.#used = this.#used;
    copy.#length = this.#length;
    return copy;
  }

  #write(bytes: Uint8Array, position: number): void {
    const end = position + bytes.byteLength;
    if (end > this.#bytes.byteLength) {
      const grown = new Uint8Array(Math.max(end, this.#bytes.byteLength * 2));
      grown.set(this.#bytes.subarray(0, this.#used));
      this.#bytes = grown;
    }
    this.#bytes.set(bytes, position);
    this.#used = Math.max(this.#used, end);
    this.#length = Math.max(this.#length, end);
  }

  #truncate(length: number): void {
    if (length < this.#used) {
      this.#bytes.fill(0, length, this.#used);
      this.#used = length;
    }
    this.#length = length;
  }
}

/** Files made so far: each has a number. */
let files = 0;

/** A file's contents, durable and as read. */
export class SimFile {
  #durable = new Contents();
  #volatile = new Contents();
  #unsynced: Change[] = [];
  readonly #serial = files++;
  /** Sectors that cannot be read until they are written again. */
  readonly #unreadable = new Set<number>();

  /** Fills `into` with what a read at `position` sees; how many bytes there were. */
  read(into: Uint8Array, position: number): number {
    return this.#volatile.read(into, position);
  }

  /** All that a read sees. */
  bytes(): Uint8Array {
    return this.#volatile.all();
  }

  write(bytes: Uint8Array, position: number): void {
    this.#change({ kind: "write", position, bytes: bytes.slice() });
    this.#readableAgain(position, bytes.byteLength);
  }

  /** A write that is read back from memory, and that the disk puts elsewhere or nowhere. */
  writeAstray(bytes: Uint8Array, position: number, lands: number | null): void {
    this.#change({ kind: "write", position, bytes: bytes.slice(), lands });
  }

  /** Memory forgets what it knows: from now on is read what the disk really holds. */
  forgetPages(): void {
    this.#volatile = this.#durable.copy();
    for (const change of this.#unsynced) this.#volatile.apply(change);
    // What never left memory is written again, and finds its place then.
    this.#unsynced = this.#unsynced.map((change) =>
      change.kind === "write" ? { ...change, lands: change.position } : change,
    );
  }

  /** The sector that holds the byte cannot be read until it is written again. */
  failReads(offset: number): void {
    this.#unreadable.add(Math.floor(offset / SECTOR_BYTES));
  }

  healReads(): void {
    this.#unreadable.clear();
  }

  /** True when the range can be read. */
  isReadable(position: number, length: number): boolean {
    if (this.#unreadable.size === 0) return true;
    const last = Math.floor((Math.min(position + length, this.usedBytes()) - 1) / SECTOR_BYTES);
    const first = Math.floor(position / SECTOR_BYTES);
    return [...this.#unreadable].every((sector) => sector < first || sector > last);
  }

  #readableAgain(position: number, length: number): void {
    for (const sector of this.#unreadable) {
      const at = sector * SECTOR_BYTES;
      const whole = position <= at && position + length >= at + SECTOR_BYTES;
      if (whole) this.#unreadable.delete(sector);
    }
  }

  truncate(bytes: number): void {
    this.#change({ kind: "truncate", bytes });
  }

  sync(): void {
    for (const change of this.#unsynced) this.#durable.applyAsDisk(change);
    this.#unsynced = [];
  }

  /** A failed sync marks the pages clean: they are read back, and never written again. */
  loseUnsynced(): void {
    this.#unsynced = [];
  }

  /** Keeps any subset of the unsynced changes, of writes any prefix or subset of sectors. */
  losePower(loss: PowerLoss): void {
    if (this.#unsynced.length > 0) this.#durable = this.#surviving(loss);
    this.#unsynced = [];
    this.#volatile = this.#durable.copy();
  }

  /** What a power loss would leave of it, exactly; nothing is changed. */
  outcome(loss: PowerLoss): string {
    if (this.#unsynced.length === 0) return `#${this.#serial}`;
    return `=${Buffer.from(this.#surviving(loss).all()).toString("latin1")}`;
  }

  #surviving(loss: PowerLoss): Contents {
    const surviving = this.#durable.copy();
    for (const change of this.#unsynced) {
      for (const kept of survivors(change, loss)) surviving.applyAsDisk(kept);
    }
    return surviving;
  }

  corrupt(offset: number, mask: number): void {
    for (const contents of [this.#durable, this.#volatile]) contents.flip(offset, mask);
  }

  usedBytes(): number {
    return this.#volatile.length;
  }

  copy(): SimFile {
    const file = new SimFile();
    file.#durable = this.#volatile.copy();
    file.#volatile = this.#volatile.copy();
    return file;
  }

  #change(change: Change): void {
    this.#volatile.apply(change);
    this.#unsynced.push(change);
  }
}

function survivors(change: Change, loss: PowerLoss): readonly Change[] {
  if (change.kind === "truncate") return loss.keepsTruncation() ? [change] : [];
  const sectors = sectorsOf(change.position, change.bytes);
  const kept = loss.keptSectors(sectors.length);
  return sectors.filter((_, index) => kept(index));
}

function sectorsOf(position: number, bytes: Uint8Array): Change[] {
  const sectors: Change[] = [];
  for (let at = 0; at < bytes.byteLength; ) {
    const room = SECTOR_BYTES - ((position + at) % SECTOR_BYTES);
    const part = bytes.subarray(at, at + room);
    sectors.push({ kind: "write", position: position + at, bytes: part });
    at += part.byteLength;
  }
  return sectors;
}

type SimNode = SimFile | SimDirectory;

/**
 * One change of a directory's names. Changes with one `move` are kept or lost together while
 * unsynced.
 */
interface NameChange {
  readonly name: string;
  readonly node: SimNode | null;
  readonly move: object | null;
}

/** A directory's names, durable and as listed. */
export class SimDirectory {
  #durable = new Map<string, SimNode>();
  #volatile = new Map<string, SimNode>();
  #unsynced: NameChange[] = [];

  get(name: string): SimNode | undefined {
    return this.#volatile.get(name);
  }

  names(): readonly string[] {
    return [...this.#volatile.keys()].sort();
  }

  link(name: string, node: SimNode): void {
    this.#change({ name, node, move: null });
  }

  unlink(name: string): void {
    this.#change({ name, node: null, move: null });
  }

  /** Unlinks everything below. */
  clear(): void {
    for (const name of this.names()) {
      const node = this.#volatile.get(name);
      if (node instanceof SimDirectory) node.clear();
      this.unlink(name);
    }
  }

  move(name: string, target: SimDirectory, targetName: string, node: SimNode): void {
    const move = {};
    target.#change({ name: targetName, node, move });
    this.#change({ name, node: null, move });
  }

  sync(): void {
    // Of a move between directories only this half: the other one may still be lost (see
    // Disk.rename).
    for (const change of this.#unsynced) apply(this.#durable, change);
    this.#unsynced = [];
  }

  loseUnsynced(): void {
    this.#unsynced = [];
  }

  /** Syncs it and all below. */
  settle(): void {
    this.sync();
    for (const node of this.#durable.values()) {
      if (node instanceof SimFile) node.sync();
      else node.settle();
    }
  }

  /** `moves`: of those that were decided already, whether they are kept. */
  losePower(loss: PowerLoss, moves = new Map<object, boolean>()): void {
    this.#durable = this.#surviving(loss, moves);
    this.#unsynced = [];
    this.#volatile = new Map(this.#durable);
    for (const name of this.names()) this.#volatile.get(name)?.losePower(loss, moves);
  }

  /**
   * What a power loss would leave of it and of all below, exactly; nothing is changed. `seen`: of
   * what has two names.
   */
  outcome(
    loss: PowerLoss,
    moves = new Map<object, boolean>(),
    seen = new Map<SimNode, string>(),
  ): string {
    const names = this.#surviving(loss, moves);
    const parts = [...names.keys()].sort().map((name) => {
      const node = names.get(name) as SimNode;
      const text = seen.get(node) ?? node.outcome(loss, moves, seen);
      seen.set(node, text);
      return `${name}:${text.length}:${text}`;
    });
    return `${parts.length}[${parts.join("")}]`;
  }

  #surviving(loss: PowerLoss, moves: Map<object, boolean>): Map<string, SimNode> {
    const surviving = new Map(this.#durable);
    for (const change of this.#unsynced) {
      const { move } = change;
      const kept = (move === null ? undefined : moves.get(move)) ?? loss.keepsName();
      if (move !== null) moves.set(move, kept);
      if (kept) apply(surviving, change);
    }
    return surviving;
  }

  /** Removes a name at once and for good. */
  wipe(name: string): void {
    this.#unsynced = this.#unsynced.filter((change) => change.name !== name);
    this.#durable.delete(name);
    this.#volatile.delete(name);
  }

  /** Every file below, as listed, with its path from `prefix` on. */
  *files(prefix: string): Generator<readonly [path: string, file: SimFile]> {
    for (const name of this.names()) {
      const node = this.#volatile.get(name);
      const path = `${prefix}/${name}`;
      if (node instanceof SimFile) yield [path, node];
      else if (node !== undefined) yield* node.files(path);
    }
  }

  usedBytes(): number {
    let bytes = 0;
    for (const node of this.#volatile.values()) bytes += node.usedBytes();
    return bytes;
  }

  copyInto(target: SimDirectory): void {
    for (const [name, node] of this.#volatile) {
      if (node instanceof SimFile) {
        target.link(name, node.copy());
      } else {
        const child = new SimDirectory();
        node.copyInto(child);
        target.link(name, child);
      }
    }
    target.sync();
  }

  #change(change: NameChange): void {
    apply(this.#volatile, change);
    this.#unsynced.push(change);
  }
}

function apply(names: Map<string, SimNode>, { name, node }: NameChange): void {
  if (node === null) names.delete(name);
  else names.set(name, node);
}
