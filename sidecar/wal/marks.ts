import { assert } from "../lib/assert.ts";
import { crcOf } from "../lib/crc.ts";
import type { Disk, DiskFile } from "../lib/ports/disk.ts";
import type { LogPosition, Offset } from "../protocol/entry.ts";
import { WalFormatUnknown } from "./errors.ts";
import { SECTOR_BYTES } from "./segment-codec.ts";

/*
 * The marks file has four slots, each in a sector of its own. Slots 0 and 1 are the control slots:
 * always written one after the other, each followed by a sync, so that one of them is good after
 * any crash. Slots 2 and 3 take turns after each sync of the log and are not synced themselves:
 * after a kill they hold the exact mark, after a power loss an older one or nothing (then the marks
 * in the records count). The commit offset is kept beside the mark, in the same way.
 *
 * The magic is "RMK" and the format's digit. Slots of format 1 are read too: they have no commit.
 */
const SLOT_BYTES = 80;
const MAGIC_BASE = 0x524d4b30;
const FORMAT = 2;
const FORMATS: readonly number[] = [1, FORMAT];
const CONTROL_SLOTS = [0, 1] as const;
const FAST_SLOTS = [2, 3] as const;

/** Name of the marks file in the log's directory. */
const MARKS_NAME = "marks";

/** What the log must remember beside its records. */
export interface LogControl {
  /** Raised by each truncation and reset; every record carries the one it was written under. */
  readonly generation: number;
  /** Records of an older generation above this offset were dropped. */
  readonly cut: Offset;
  /** Everything of a generation below this one was dropped by a reset. */
  readonly resetGeneration: number;
  /** Where the log starts while no segment says so. */
  readonly base: LogPosition;
  /** Highest offset known durable: a log that ends below it is damaged (I19). */
  readonly mark: Offset;
  /** Highest offset known committed (I9). */
  readonly commit: Offset;
}

/** The control of an empty log that starts at `base`, under a generation of its own. */
export function newControl(base: LogPosition, generation: number): LogControl {
  const at = base.offset;
  return { generation, resetGeneration: generation, cut: at, base, mark: at, commit: at };
}

interface Slot extends LogControl {
  readonly sequence: number;
}

/** The slots of one log, written in place. Not to be used by two callers at once. */
export class MarksFile {
  readonly #disk: Disk;
  readonly #path: string;
  #file: DiskFile | null = null;
  #sequence: number;
  #control: LogControl;
  #fastTurn = 0;
  #known: boolean;

  private constructor(
    disk: Disk,
    path: string,
    control: LogControl,
    slots: readonly (Slot | null)[],
  ) {
    this.#disk = disk;
    this.#path = path;
    this.#control = control;
    this.#sequence = slots.reduce((highest, slot) => Math.max(highest, slot?.sequence ?? 0), 0);
    this.#known = CONTROL_SLOTS.some((index) => (slots[index] ?? null) !== null);
  }

  /**
   * Goes on from `control`: what {@link readControl} returned, or a new log's. Writes nothing yet.
   */
  static async open(disk: Disk, dir: string, control: LogControl): Promise<MarksFile> {
    const path = `${dir}/${MARKS_NAME}`;
    const slots = readSlots(await disk.readFile(path));
    return new MarksFile(disk, path, control, slots);
  }

  /**
   * False while the file has no good control slot: then generations found in segments mean nothing.
   */
  get known(): boolean {
    return this.#known;
  }

  get control(): LogControl {
    return this.#control;
  }

  /** Durable when resolved, whatever happens then (both slots, each synced). */
  async writeControl(control: LogControl): Promise<void> {
    for (const slot of CONTROL_SLOTS) {
      const file = await this.#write(slot, control);
      await file.sync();
    }
    this.#control = control;
    this.#known = true;
  }

  /**
   * Notes that the log is durable up to `mark` and committed up to `commit`; survives the process,
   * not the machine, unless it is synced.
   */
  async writeMark(mark: Offset, commit: Offset, { sync = false } = {}): Promise<void> {
    const slot = this.#fastTurn === 0 ? FAST_SLOTS[0] : FAST_SLOTS[1];
    this.#fastTurn = 1 - this.#fastTurn;
    const file = await this.#write(slot, { ...this.#control, mark, commit });
    if (sync) await file.sync();
  }

  async close(): Promise<void> {
    await this.#file?.close();
  }

  async #write(slot: number, control: LogControl): Promise<DiskFile> {
    assert(control.generation >= this.#control.generation, "the log's generation must not fall");
    this.#sequence += 1;
    const bytes = encodeSlot({ ...control, sequence: this.#sequence });
    this.#file ??= await this.#disk.open(this.#path, { create: true });
    await this.#file.write([bytes], slot * SECTOR_BYTES);
    return this.#file;
  }
}

/**
 * What the marks file of `dir` says; null when it has no good control slot (or does not exist).
 * Throws {@link WalFormatUnknown} when a control slot is of another format instead.
 */
export async function readControl(disk: Disk, dir: string): Promise<LogControl | null> {
  const path = `${dir}/${MARKS_NAME}`;
  const bytes = await disk.readFile(path);
  const slots = readSlots(bytes);
  const control = newest(CONTROL_SLOTS.map((index) => slots[index] ?? null));
  if (control === null) {
    for (const index of CONTROL_SLOTS) {
      // The checksum may be another one too: the magic must do.
      const format = bytes === null ? null : formatOf(bytes.subarray(index * SECTOR_BYTES));
      if (format === null || FORMATS.includes(format)) continue;
      throw new WalFormatUnknown(path, format, FORMATS.join(", "));
    }
    return null;
  }
  const fast = newest(
    FAST_SLOTS.map((index) => slots[index] ?? null).map((slot) =>
      slot?.generation === control.generation ? slot : null,
    ),
  );
  const { generation, cut, resetGeneration, base } = control;
  const mark = Math.max(control.mark, fast?.mark ?? control.mark);
  const commit = Math.max(control.commit, fast?.commit ?? control.commit);
  return { generation, cut, resetGeneration, base, mark, commit };
}

function newest(slots: readonly (Slot | null)[]): Slot | null {
  let best: Slot | null = null;
  for (const slot of slots) {
    if (slot !== null && (best === null || slot.sequence > best.sequence)) best = slot;
  }
  return best;
}

function readSlots(bytes: Uint8Array | null): readonly (Slot | null)[] {
  if (bytes === null) return [];
  return [...CONTROL_SLOTS, ...FAST_SLOTS].map((index) => {
    const start = index * SECTOR_BYTES;
    return decodeSlot(bytes.subarray(start, start + SLOT_BYTES));
  });
}

/** The format that a slot's magic names; null when it is none. */
function formatOf(bytes: Uint8Array): number | null {
  if (bytes.byteLength < 4) return null;
  const format = new DataView(bytes.buffer, bytes.byteOffset, 4).getUint32(0) - MAGIC_BASE;
  return format >= 1 && format <= 9 ? format : null;
}

function encodeSlot(slot: Slot): Uint8Array {
  const bytes = new Uint8Array(SLOT_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, MAGIC_BASE + FORMAT);
  view.setFloat64(8, slot.sequence);
  view.setUint32(16, slot.generation);
  view.setUint32(20, slot.resetGeneration);
  view.setFloat64(24, slot.cut);
  view.setFloat64(32, slot.mark);
  view.setFloat64(40, slot.base.term);
  view.setFloat64(48, slot.base.offset);
  view.setUint32(56, slot.base.crc);
  view.setFloat64(64, slot.commit);
  view.setUint32(4, crcOf(bytes.subarray(8), MAGIC_BASE + FORMAT));
  return bytes;
}

function decodeSlot(bytes: Uint8Array): Slot | null {
  if (bytes.byteLength < SLOT_BYTES) return null;
  const view = new DataView(bytes.buffer, bytes.byteOffset, SLOT_BYTES);
  const format = formatOf(bytes);
  if (format === null || !FORMATS.includes(format)) return null;
  if (view.getUint32(4) !== crcOf(bytes.subarray(8), MAGIC_BASE + format)) return null;
  const base = {
    term: view.getFloat64(40),
    offset: view.getFloat64(48),
    crc: view.getUint32(56),
  };
  return {
    sequence: view.getFloat64(8),
    generation: view.getUint32(16),
    resetGeneration: view.getUint32(20),
    cut: view.getFloat64(24),
    mark: view.getFloat64(32),
    base,
    commit: format === 1 ? base.offset : view.getFloat64(64),
  };
}
