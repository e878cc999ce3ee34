import assert from "node:assert/strict";
import fc from "fast-check";
import type { DiskFile } from "../../../sidecar/lib/ports/disk.ts";
import { StateCorrupt } from "../../../sidecar/state/record.ts";
import { type Pair, PairFramer, PairParser } from "../../../sidecar/state/record-stream.ts";
import { RedoJournal } from "../../../sidecar/state/redo-journal.ts";
import { CrashDisk } from "./crash-disk.ts";

const bytes = fc.uint8Array({ maxLength: 40 });
const pairs = fc.array(fc.tuple(bytes, fc.option(bytes, { nil: null })), { maxLength: 30 });

function copyOf([key, value]: Pair): Pair {
  return [Uint8Array.from(key), value === null ? null : Uint8Array.from(value)];
}

describe("record stream", () => {
  it("comes back whole, whatever the chunks and the cuts", () => {
    fc.assert(
      fc.property(pairs, fc.integer({ min: 1, max: 70 }), fc.nat(97), (given, chunkBytes, cut) => {
        const framer = new PairFramer(chunkBytes);
        const chunks = given.flatMap(([key, value]) => framer.add(key, value));
        chunks.push(...framer.end());
        for (const chunk of chunks.slice(0, -1)) assert.equal(chunk.length, chunkBytes);
        const stream = Buffer.concat(chunks);
        const parser = new PairParser();
        const found: Pair[] = [];
        // One buffer for all pieces, as a receiver has it.
        const buffer = Buffer.alloc(cut + 1);
        for (let at = 0; at < stream.length; at += cut + 1) {
          const bytes = stream.copy(buffer, 0, at, at + cut + 1);
          for (const pair of parser.push(buffer.subarray(0, bytes))) found.push(copyOf(pair));
        }
        parser.end();
        assert.deepEqual(found, given);
      }),
    );
  });
});

const PAIRS: readonly Pair[] = [
  [Buffer.from("a"), Buffer.from("first value")],
  [Buffer.from("b"), null],
  [Buffer.from("c"), Buffer.alloc(0)],
];
const HEADER_BYTES = 28;
const BODY_AT = 4096;

async function journalOf(disk: CrashDisk): Promise<RedoJournal> {
  const journal = new RedoJournal(disk, "/state");
  const writer = await journal.begin(7);
  await writer.add(PAIRS);
  await writer.finish();
  return journal;
}

async function contents(journal: RedoJournal, id: number): Promise<readonly Pair[]> {
  const found: Pair[] = [];
  for await (const pair of journal.read(id)) found.push(copyOf(pair));
  return found;
}

describe("redo journal", () => {
  it("gives back what was written, after it was overwritten by a shorter one too", async () => {
    const disk = new CrashDisk();
    const journal = await journalOf(disk);
    const plain = PAIRS.map(copyOf);
    assert.deepEqual(await contents(journal, 7), plain);
    const writer = await journal.begin(8);
    await writer.add(PAIRS.slice(1, 2));
    await writer.finish();
    assert.deepEqual(await contents(journal, 8), plain.slice(1, 2));
    await assert.rejects(contents(journal, 7), StateCorrupt);
  });

  it("is refused when missing or changed anywhere, or cut at any length", async () => {
    await assert.rejects(contents(new RedoJournal(new CrashDisk(), "/state"), 7), StateCorrupt);
    const size = await (await new JournalFile().file()).size();
    for (let at = 0; at < size; at++) {
      if (at >= HEADER_BYTES && at < BODY_AT) continue;
      const changed = new JournalFile();
      const file = await changed.file();
      const byte = Buffer.alloc(1);
      await file.read(byte, at);
      await file.write([Buffer.from([(byte[0] ?? 0) ^ 4])], at);
      await assert.rejects(contents(changed.journal, 7), StateCorrupt, `byte ${at}`);
      const cut = new JournalFile();
      await (await cut.file()).truncate(at);
      await assert.rejects(contents(cut.journal, 7), StateCorrupt, `cut at ${at}`);
    }
  });
});

/** A complete journal and its file, to be damaged. */
class JournalFile {
  readonly #disk = new CrashDisk();
  readonly journal = new RedoJournal(this.#disk, "/state");

  async file(): Promise<DiskFile> {
    await journalOf(this.#disk);
    return this.#disk.open("/state/redo", { create: false });
  }
}
