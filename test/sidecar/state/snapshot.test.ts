import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { type Disk, DiskError } from "../../../sidecar/lib/ports/disk.ts";
import type { SnapshotLayout } from "../../../sidecar/state/engine.ts";
import type { PieceStream } from "../../../sidecar/snapshot/source.ts";
import { lmdbEngineFactory } from "../../../sidecar/state/lmdb-engine.ts";
import { MemoryBudget } from "../../../sidecar/state/memory-budget.ts";
import { StateCorrupt } from "../../../sidecar/state/record.ts";
import type { ShardState, StatePin } from "../../../sidecar/state/shard-state.ts";
import { simEngineFactory } from "../../sim/sim-engine.ts";
import {
  clock,
  disk,
  engines,
  NEVER,
  openState,
  put,
  remove,
  TestLog,
  withDir,
} from "./state-fixture.ts";

const CHUNK_BYTES = 64 * 1024;

function chunksOf(pin: StatePin, layout: SnapshotLayout): PieceStream {
  return layout === "PAGES" ? pin.engine.pages(CHUNK_BYTES) : pin.engine.records(CHUNK_BYTES);
}

/** Heavy random overwrites and deletes with checkpoints, as long as the transfer goes on. */
async function churn(state: ShardState, log: TestLog, going: () => boolean): Promise<number> {
  let round = 0;
  for (; going() || round < 6; round++) {
    const puts = Array.from({ length: 2_000 }, (_, at) =>
      put(`k/${(at * 7919 + round * 104729) % 16_000}`, Buffer.alloc(200, round)),
    );
    const deletes = Array.from({ length: 200 }, (_, at) =>
      remove(`k/${(at * 31 + round * 17) % 16_000}`),
    );
    state.apply(log.write({ puts, deletes }));
    await state.checkpoint();
  }
  return round;
}

/** A disk on which writes from `bytes` on find no room. */
function fullAfter(bytes: number): Disk {
  return Object.assign(Object.create(disk) as Disk, {
    open: async (...args: Parameters<Disk["open"]>) => {
      const file = await disk.open(...args);
      const write = file.write.bind(file);
      return Object.assign(file, {
        write: async (parts: readonly Uint8Array[], position: number) => {
          if (position >= bytes) {
            throw new DiskError("NO_SPACE", args[0], "full", { fatal: false });
          }
          await write(parts, position);
        },
      });
    },
  });
}

describe("state snapshots", () => {
  it("a write that fails while the next bytes come in is not forgotten", () =>
    withDir(async (dir) => {
      const full = lmdbEngineFactory(fullAfter(2 * CHUNK_BYTES));
      const writer = await full.writer(join(dir, "to"), "PAGES");
      const chunk = Buffer.alloc(CHUNK_BYTES, 1);
      await writer.append(chunk);
      await writer.append(chunk);
      await writer.sync();
      await writer.append(chunk);
      await assert.rejects(writer.sync(), { code: "NO_SPACE" });
      await assert.rejects(writer.append(chunk), { code: "NO_SPACE" });
      await assert.rejects(writer.finish(), { code: "NO_SPACE" });
      await writer.abort();
    }));

  for (const layout of ["PAGES", "RECORDS"] as const) {
    it(`ship exactly the pinned state as ${layout} under heavy writes`, () =>
      withDir(async (dir) => {
        const state = await openState(join(dir, "from"));
        const log = new TestLog();
        for (let at = 0; at < 8; at++) {
          const puts = Array.from({ length: 2_000 }, (_, each) =>
            put(`k/${at * 2_000 + each}`, Buffer.alloc(200, at)),
          );
          state.apply(log.write({ puts }));
        }
        state.apply(log.write({ puts: [put("large", Buffer.alloc(1024 * 1024, 5))] }));
        await state.checkpoint();
        const expected = await state.checksum(NEVER);
        const pin = await state.pin();
        assert.equal(pin.engine.format, "PAGES");
        assert.ok(engines.acceptPages(pin.engine.formatDetail));
        assert.equal(pin.records, expected.records);

        const to = join(dir, "to");
        const writer = await engines.writer(to, layout);
        let going = true;
        const churning = churn(state, log, () => going);
        let bytes = 0;
        const pieces = chunksOf(pin, layout);
        for await (const chunk of pieces) {
          // Odd cuts: the receiver's chunks need not be the sender's.
          const cut = chunk.byteLength % 1_000;
          await writer.append(chunk.subarray(0, cut));
          await writer.append(chunk.subarray(cut));
          bytes += chunk.byteLength;
          // Its buffer holds another chunk from now on; the writer must have what was in it.
          pieces.recycle?.(chunk);
          await clock.yield();
        }
        going = false;
        assert.ok((await churning) > 5);
        await writer.sync();
        await writer.finish();
        await pin.release();
        if (layout === "PAGES") assert.equal(bytes, pin.engine.bytes);

        const copy = await openState(to);
        assert.deepEqual(copy.applied, pin.position);
        assert.deepEqual(copy.durable, pin.position);
        assert.deepEqual(await copy.checksum(NEVER), expected);
        // And it goes on from there as the original did.
        for (const entry of log.entries.slice(pin.position.offset + 1)) copy.apply(entry);
        await copy.checkpoint();
        assert.deepEqual(await copy.checksum(NEVER), await state.checksum(NEVER));
        await copy.close();
        await state.close();
      }));
  }

  it("goes on with pages that an earlier process made durable", () =>
    withDir(async (dir) => {
      const state = await openState(join(dir, "from"));
      const puts = Array.from({ length: 3_000 }, (_, at) => put(`k/${at}`, Buffer.alloc(200, at)));
      state.apply(new TestLog().write({ puts }));
      const pin = await state.pin();
      const chunks: Uint8Array[] = [];
      for await (const chunk of pin.engine.pages(CHUNK_BYTES)) chunks.push(Buffer.from(chunk));
      const to = join(dir, "to");
      const killed = await engines.writer(to, "PAGES");
      for (const chunk of chunks.slice(0, 3)) await killed.append(chunk);
      await killed.sync();
      // Written, and not known to be: the next process does not count it.
      await killed.append(Buffer.alloc(CHUNK_BYTES, 7));
      await killed.abort();

      assert.equal(await engines.resumedWriter(to, "PAGES", 4 * CHUNK_BYTES), null);
      assert.equal(await engines.resumedWriter(to, "RECORDS", 3 * CHUNK_BYTES), null);
      assert.equal(await engines.resumedWriter(join(dir, "none"), "PAGES", CHUNK_BYTES), null);
      const resumed = await engines.resumedWriter(to, "PAGES", 3 * CHUNK_BYTES);
      assert.ok(resumed !== null);
      for (const chunk of chunks.slice(3)) await resumed.append(chunk);
      await resumed.finish();
      await pin.release();
      const copy = await openState(to);
      assert.deepEqual(await copy.checksum(NEVER), await state.checksum(NEVER));
      await copy.close();
      await state.close();
    }));

  it("pins a checkpoint, never a state between two", () =>
    withDir(async (dir) => {
      const state = await openState(dir);
      const log = new TestLog();
      state.apply(
        log.write({ puts: Array.from({ length: 5_000 }, (_, at) => put(`k${at}`, "v")) }),
      );
      const first = await state.pin();
      assert.equal(first.position.offset, 0);
      assert.equal(first.records, 5_000);
      state.apply(
        log.write({ puts: Array.from({ length: 5_000 }, (_, at) => put(`n${at}`, "v")) }),
      );
      // Asked for while a checkpoint is being written: it waits for that one.
      const [, second] = await Promise.all([state.checkpoint(), state.pin()]);
      assert.equal(second.position.offset, 1);
      assert.equal(second.records, 10_000);
      await first.release();
      await second.release();
      await second.release();
      await state.close();
    }));

  it("moves records between different engines", () =>
    withDir(async (dir) => {
      const state = await openState(join(dir, "lmdb"));
      const log = new TestLog();
      state.apply(
        log.write({ puts: Array.from({ length: 3_000 }, (_, at) => put(`k/${at}`, `${at}`)) }),
      );
      const pin = await state.pin();
      const sim = simEngineFactory(disk);
      const writer = await sim.writer(join(dir, "sim"), "RECORDS");
      for await (const chunk of pin.engine.records(1_000)) await writer.append(chunk);
      await writer.finish();
      await pin.release();
      const copy = await openState(join(dir, "sim"), { engine: sim });
      assert.deepEqual(await copy.checksum(NEVER), await state.checksum(NEVER));
      await copy.close();
      await state.close();
    }));

  it("refuses records that are damaged or cut short", () =>
    withDir(async (dir) => {
      const state = await openState(join(dir, "from"));
      state.apply(new TestLog().write({ puts: [put("a", "some value"), put("b", "more")] }));
      const pin = await state.pin();
      const chunks: Uint8Array[] = [];
      for await (const chunk of pin.engine.records(CHUNK_BYTES)) chunks.push(chunk);
      const stream = Buffer.concat(chunks);
      await pin.release();
      await state.close();

      const damaged = Buffer.from(stream);
      const at = damaged.indexOf("some value");
      damaged[at] = (damaged[at] ?? 0) ^ 1;
      const first = await engines.writer(join(dir, "damaged"), "RECORDS");
      await assert.rejects(first.append(damaged), StateCorrupt);
      await first.abort();

      const second = await engines.writer(join(dir, "cut"), "RECORDS");
      await second.append(stream.subarray(0, stream.length - 1));
      await assert.rejects(second.finish(), StateCorrupt);
      await second.abort();
    }));
});

describe("the page format", () => {
  it("names the engine build that is installed", () => {
    const path = new URL("../../../node_modules/lmdb/package.json", import.meta.url);
    const installed = JSON.parse(readFileSync(path, "utf8")) as { version: string };
    assert.ok(engines.formatDetail.startsWith(`lmdb-js ${installed.version} `));
    assert.ok(!engines.acceptPages(engines.formatDetail.replace("16384", "4096")));
  });
});

describe("a pin", () => {
  it("released or closed under a reader ends it with an error, never early or mixed", () =>
    withDir(async (dir) => {
      const state = await openState(dir);
      const puts = Array.from({ length: 5_000 }, (_, at) => put(`k/${at}`, Buffer.alloc(100)));
      state.apply(new TestLog().write({ puts }));
      for (const end of ["release", "close"] as const) {
        const pins = [await state.pin(), await state.pin()];
        const streams = pins.map((pin, at) =>
          chunksOf(pin, at === 0 ? "PAGES" : "RECORDS")[Symbol.asyncIterator](),
        );
        for (const stream of streams) assert.equal((await stream.next()).done, false);
        if (end === "close") await state.close();
        else for (const pin of pins) await pin.release();
        for (const stream of streams) await assert.rejects(stream.next(), /pin was released/);
        assert.throws(() => pins[1]?.engine.records(CHUNK_BYTES), /pin was released/);
        for (const pin of pins) await pin.release();
      }
    }));
});

describe("stored records", () => {
  for (const [what, damage] of [
    ["overwritten", (bytes: Buffer) => bytes.fill(0x5a, 0, 200)],
    ["of another page size", (bytes: Buffer) => bytes.copyWithin(4096, 0, 200)],
    ["cut short", (bytes: Buffer) => bytes.subarray(0, 40 * 1024)],
    ["cut to nothing of use", (bytes: Buffer) => bytes.subarray(0, 100)],
  ] as const) {
    it(`are refused when the engine's file was ${what}`, () =>
      withDir(async (dir) => {
        const state = await openState(dir);
        const puts = Array.from({ length: 2_000 }, (_, at) => put(`k/${at}`, Buffer.alloc(100)));
        state.apply(new TestLog().write({ puts }));
        await state.checkpoint();
        await state.close();
        const path = join(dir, "data.mdb");
        const bytes = damage(Buffer.from((await disk.readFile(path)) ?? []));
        if (what === "of another page size") bytes.fill(0, 0, 200);
        await disk.remove(path);
        const file = await disk.open(path, { create: true });
        await file.write([bytes], 0);
        await file.close();
        await assert.rejects(async () => {
          const damaged = await openState(dir);
          try {
            await damaged.checksum(NEVER);
          } finally {
            await damaged.close();
          }
        }, StateCorrupt);
      }));
  }

  it("are none after a power loss while the file was being made", () =>
    withDir(async (dir) => {
      const file = await disk.open(join(dir, "data.mdb"), { create: true });
      await file.write([Buffer.alloc(32 * 1024)], 0);
      await file.close();
      const state = await openState(dir);
      assert.equal(state.applied.offset, -1);
      state.apply(new TestLog().write({ puts: [put("a", "1")] }));
      await state.checkpoint();
      await state.close();
    }));

  it("are refused when a bit changed on the disk", () =>
    withDir(async (dir) => {
      const budget = new MemoryBudget();
      const state = await openState(dir, { budget });
      const log = new TestLog();
      state.apply(log.write({ puts: [put("a", "needle in the file"), put("b", "other")] }));
      await state.checkpoint();
      await state.close();
      const path = join(dir, "data.mdb");
      const bytes = Buffer.from((await disk.readFile(path)) ?? []);
      const at = bytes.indexOf("needle");
      assert.ok(at > 0);
      const file = await disk.open(path, { create: false });
      await file.write([Buffer.from("N")], at);
      await file.close();

      const again = await openState(dir);
      const get = (key: string) => again.get({ key, includeValue: true, comparisonType: 0 });
      assert.equal(Buffer.from(get("b").value ?? []).toString(), "other");
      assert.throws(() => get("a"), StateCorrupt);
      await assert.rejects(again.checksum(NEVER), StateCorrupt);
      const all = { startInclusive: "", endExclusive: "", includeInternalKeys: false };
      assert.throws(() => [...again.scan(all)], StateCorrupt);
      assert.throws(() => again.apply(log.write({ puts: [put("a", "x")] })), StateCorrupt);
      await again.close();
    }));

  it("cannot be opened under another key order", () =>
    withDir(async (dir) => {
      const state = await openState(dir);
      state.apply(new TestLog().write({ puts: [put("a", "1")] }));
      await state.checkpoint();
      await state.close();
      await assert.rejects(
        openState(dir, { keySorting: "natural" }),
        /stored in hierarchical order/,
      );
      const again = await openState(dir);
      await again.close();
    }));
});
