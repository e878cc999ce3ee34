import { crcOf } from "../../sidecar/lib/crc.ts";
import type { Disk, DiskFile } from "../../sidecar/lib/ports/disk.ts";
import type {
  Engine,
  EngineBatch,
  EngineFactory,
  EnginePin,
  SnapshotWriter,
} from "../../sidecar/state/engine.ts";
import { frameRecords, RecordWriter } from "../../sidecar/state/record-snapshot.ts";
import { PairFramer, PairParser } from "../../sidecar/state/record-stream.ts";

/**
 * An engine for the simulator: sorted pairs in memory, every commit appended to one file of the
 * simulated disk. So crashes, torn writes, wipes, renames and bit rot of that disk reach it as they
 * reach the log. Its contract is weaker than LMDB's: a commit is atomic, but survives a crash only
 * once flushed; commits survive in order.
 */
type Pairs = Map<string, Uint8Array>;

const FORMAT_DETAIL = "sim 1";
const FILE_NAME = "sim-engine";
const HEAD_BYTES = 8;
const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString("latin1");
const bytesOf = (key: string): Uint8Array => Buffer.from(key, "latin1");

/**
 * Engines on `disk`. `breathe` is awaited in each commit and flush: a delay of the simulated clock,
 * for instance.
 */
export function simEngineFactory(
  disk: Disk,
  breathe: () => Promise<void> = () => Promise.resolve(),
): EngineFactory {
  return {
    formatDetail: FORMAT_DETAIL,
    acceptPages: () => false,
    async open(dir) {
      await disk.makeDir(dir);
      const path = `${dir}/${FILE_NAME}`;
      const existed = await disk.exists(path);
      const file = await disk.open(path, { create: true });
      if (!existed) await disk.syncDir(dir);
      const pairs: Pairs = new Map();
      const end = await recover(file, pairs);
      return new SimEngine(file, pairs, end, breathe);
    },
    async writer(dir): Promise<SnapshotWriter> {
      return new RecordWriter(await this.open(dir));
    },
    resumedWriter: async () => null,
  };
}

/** True for the file that an engine keeps in its directory. */
export function isEngineFile(path: string): boolean {
  return path.endsWith(`/${FILE_NAME}`);
}

/** Applies the commits that are whole; cuts what follows. Returns where the file goes on. */
async function recover(file: DiskFile, pairs: Pairs): Promise<number> {
  const all = Buffer.alloc(await file.size());
  await file.read(all, 0);
  let at = 0;
  while (at + HEAD_BYTES <= all.length) {
    const end = at + HEAD_BYTES + all.readUInt32BE(at);
    const body = all.subarray(at + HEAD_BYTES, end);
    if (end > all.length || body.length === 0) break;
    if (crcOf(body) !== all.readUInt32BE(at + 4)) break;
    for (const [key, value] of new PairParser().push(body)) {
      if (value === null) pairs.delete(text(key));
      else pairs.set(text(key), Uint8Array.from(value));
    }
    at = end;
  }
  await file.truncate(at);
  await file.sync();
  return at;
}

class SimEngine implements Engine {
  readonly #file: DiskFile;
  readonly #pairs: Pairs;
  readonly #breathe: () => Promise<void>;
  #end: number;
  /** Of all pairs. */
  #bytes: number;

  constructor(file: DiskFile, pairs: Pairs, end: number, breathe: () => Promise<void>) {
    this.#file = file;
    this.#pairs = pairs;
    this.#end = end;
    this.#breathe = breathe;
    this.#bytes = bytesIn(pairs);
  }

  get(key: Uint8Array): Uint8Array | undefined {
    const found = this.#pairs.get(text(key));
    return found === undefined ? undefined : Uint8Array.from(found);
  }

  range(
    start: Uint8Array | null,
    end: Uint8Array | null,
    reverse: boolean,
  ): IterableIterator<[Uint8Array, Uint8Array]> {
    return sorted(this.#pairs, start, end, reverse);
  }

  async write(batch: EngineBatch): Promise<void> {
    await this.#breathe();
    const framer = new PairFramer(64 * 1024);
    const parts: Uint8Array[] = [];
    for (const [key, value] of batch.puts) parts.push(...framer.add(key, value));
    for (const key of batch.deletes) parts.push(...framer.add(key, null));
    parts.push(...framer.end());
    const body = Buffer.concat(parts);
    if (body.length === 0) return;
    const head = Buffer.alloc(HEAD_BYTES);
    head.writeUInt32BE(body.length, 0);
    head.writeUInt32BE(crcOf(body), 4);
    await this.#file.write([head, body], this.#end);
    this.#end += HEAD_BYTES + body.length;
    for (const [key, value] of batch.puts) this.#set(text(key), Uint8Array.from(value));
    for (const key of batch.deletes) this.#set(text(key), null);
  }

  #set(key: string, value: Uint8Array | null): void {
    const before = this.#pairs.get(key);
    if (before !== undefined) this.#bytes -= key.length + before.byteLength;
    if (value === null) this.#pairs.delete(key);
    else {
      this.#bytes += key.length + value.byteLength;
      this.#pairs.set(key, value);
    }
  }

  async flushed(): Promise<void> {
    await this.#breathe();
    await this.#file.sync();
  }

  async pin(): Promise<EnginePin> {
    const frozen = new Map(this.#pairs);
    return {
      format: "RECORDS",
      formatDetail: FORMAT_DETAIL,
      bytes: bytesIn(frozen),
      pages: () => {
        throw new Error("the simulated engine has no pages");
      },
      records: (chunkBytes) => frameRecords(sorted(frozen, null, null, false), chunkBytes),
      release: async () => undefined,
    };
  }

  bytes(): number {
    return this.#bytes;
  }

  async close(): Promise<void> {
    await this.#file.close();
  }
}

function bytesIn(pairs: Pairs): number {
  let bytes = 0;
  for (const [key, value] of pairs) bytes += key.length + value.byteLength;
  return bytes;
}

function sorted(
  pairs: Pairs,
  start: Uint8Array | null,
  end: Uint8Array | null,
  reverse: boolean,
): IterableIterator<[Uint8Array, Uint8Array]> {
  const from = start === null ? "" : text(start);
  const to = end === null ? null : text(end);
  const keys = [...pairs.keys()].filter((key) => key >= from && (to === null || key < to)).sort();
  if (reverse) keys.reverse();
  // Values are replaced, never changed, so a list of references is a view.
  const view = keys.map((key): [Uint8Array, Uint8Array] => [
    bytesOf(key),
    pairs.get(key) as Uint8Array,
  ]);
  return view[Symbol.iterator]();
}
