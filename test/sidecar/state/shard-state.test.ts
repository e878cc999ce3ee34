import assert from "node:assert/strict";
import { type Disk, DiskError } from "../../../sidecar/lib/ports/disk.ts";
import { LIMITS } from "../../../sidecar/limits.ts";
import { KeyComparisonType, Status } from "../../../sidecar/protocol/gen/oxia-client.ts";
import type { EngineFactory } from "../../../sidecar/state/engine.ts";
import { lmdbEngineFactory } from "../../../sidecar/state/lmdb-engine.ts";
import type { ShardState } from "../../../sidecar/state/shard-state.ts";
import {
  clock,
  disk,
  engines,
  getRequest,
  listOf,
  NEVER,
  openState,
  put,
  remove,
  TestLog,
  textOf,
  withDir,
} from "./state-fixture.ts";

async function withState(
  work: (state: ShardState, log: TestLog, dir: string) => Promise<void> | void,
): Promise<void> {
  await withDir(async (dir) => {
    const state = await openState(dir);
    try {
      await work(state, new TestLog(), dir);
    } finally {
      await state.close();
    }
  });
}

const EPOCH = 2 ** 45;

describe("ShardState", () => {
  it("gives versions, counts and timestamps as Oxia does", () =>
    withState((state, log) => {
      const first = state.apply(log.write({ puts: [put("a", "1", { clientIdentity: "me" })] }, 50));
      assert.deepEqual(first?.puts[0], {
        status: Status.OK,
        version: {
          versionId: 0,
          modificationsCount: 0,
          createdTimestamp: 50,
          modifiedTimestamp: 50,
          clientIdentity: "me",
        },
      });
      const second = state.apply(log.write({ puts: [put("a", "2")] }, 60));
      const version = {
        versionId: 1,
        modificationsCount: 1,
        createdTimestamp: 50,
        modifiedTimestamp: 60,
      };
      assert.deepEqual(second?.puts[0]?.version, version);
      const got = state.get(getRequest("a"));
      assert.deepEqual(got.version, version);
      assert.equal(textOf(got), "2");
      assert.equal(got.key, undefined);
      assert.equal(state.get(getRequest("a", KeyComparisonType.EQUAL, false)).value, undefined);
      assert.equal(state.get(getRequest("b")).status, Status.KEY_NOT_FOUND);
    }));

  it("checks expected versions item by item", () =>
    withState((state, log) => {
      const response = state.apply(
        log.write({
          puts: [
            put("a", "1", { expectedVersionId: -1 }),
            put("a", "2", { expectedVersionId: -1 }),
            put("a", "3", { expectedVersionId: 0 }),
            put("a", "4", { expectedVersionId: 0 }),
            put("b", "5", { expectedVersionId: 7 }),
          ],
          deletes: [remove("a", 0), remove("a", 1), remove("a"), remove("a", 9), remove("a", -1)],
        }),
      );
      const { OK, UNEXPECTED_VERSION_ID, KEY_NOT_FOUND } = Status;
      assert.deepEqual(
        response?.puts.map((each) => each.status),
        [OK, UNEXPECTED_VERSION_ID, OK, UNEXPECTED_VERSION_ID, UNEXPECTED_VERSION_ID],
      );
      assert.deepEqual(
        response?.deletes.map((each) => each.status),
        [UNEXPECTED_VERSION_ID, OK, KEY_NOT_FOUND, UNEXPECTED_VERSION_ID, KEY_NOT_FOUND],
      );
      assert.equal(state.stats.records, 0);
    }));

  it("applies puts, then deletes, then delete ranges", () =>
    withState((state, log) => {
      state.apply(
        log.write({ puts: [put("a", "0"), put("b", "0"), put("c", "0"), put("d", "0")] }),
      );
      state.apply(
        log.write({
          puts: [put("b", "1"), put("x", "1")],
          deletes: [remove("x")],
          deleteRanges: [{ startInclusive: "b", endExclusive: "d" }],
        }),
      );
      assert.deepEqual(listOf(state), ["a", "d"]);
      assert.equal(state.stats.records, 2);
      state.apply(log.write({ deleteRanges: [{ startInclusive: "", endExclusive: "" }] }));
      assert.deepEqual(listOf(state), []);
    }));

  it("honours overrides and goes on above them", () =>
    withState((state, log) => {
      const over = { overrideVersionId: 500, overrideModificationsCount: 9 };
      state.apply(log.write({ puts: [put("a", "1", over)] }));
      const next = state.apply(log.write({ puts: [put("a", "2")] }));
      assert.equal(next?.puts[0]?.version?.versionId, 501);
      assert.equal(next?.puts[0]?.version?.modificationsCount, 10);
    }));

  it("puts the loss epoch into the high bits (R6)", () =>
    withState((state, log) => {
      const version = (): number | undefined =>
        state.apply(log.write({ puts: [put("a", "1")] }))?.puts[0]?.version?.versionId;
      assert.equal(version(), 0);
      assert.equal(state.apply(log.barrier(0)), null);
      assert.equal(version(), 1);
      state.apply(log.barrier(3));
      assert.equal(version(), 3 * EPOCH);
      state.apply(log.barrier(3));
      assert.equal(version(), 3 * EPOCH + 1);
      assert.equal(state.lossEpoch, 3);
    }));

  it("answers all comparisons, before and after a checkpoint, hiding internal keys", () =>
    withState(async (state, log) => {
      const keys = ["/a", "/b", "/c", "/a/x", "/a/y", "__oxia/s", "__oxia/t"];
      state.apply(log.write({ puts: keys.map((key) => put(key, key)) }));
      const { FLOOR, CEILING, LOWER, HIGHER } = KeyComparisonType;
      const cases = [
        [FLOOR, "/b", "/b"],
        [FLOOR, "/bb", "/b"],
        [FLOOR, "/", undefined],
        [CEILING, "/b", "/b"],
        [CEILING, "/bb", "/c"],
        [CEILING, "/d", "/a/x"],
        [CEILING, "/z/z", undefined],
        [LOWER, "/b", "/a"],
        [LOWER, "/a", undefined],
        [LOWER, "/a/x", "/c"],
        [HIGHER, "/b", "/c"],
        [HIGHER, "/c", "/a/x"],
        [HIGHER, "/a/y", undefined],
        [HIGHER, "__oxia/s", "__oxia/t"],
        [LOWER, "__oxia/s", undefined],
      ] as const;
      const check = (): void => {
        for (const [comparison, key, expected] of cases) {
          const got = state.get(getRequest(key, comparison));
          assert.equal(got.key, expected, `${comparison} of ${key}`);
          assert.equal(textOf(got), expected);
        }
        assert.deepEqual(listOf(state), ["/a", "/b", "/c", "/a/x", "/a/y"]);
        assert.deepEqual(listOf(state, "/a/", "/a//"), ["/a/x", "/a/y"]);
        assert.deepEqual(listOf(state, "", "", true).slice(-2), ["__oxia/s", "__oxia/t"]);
        assert.deepEqual(listOf(state, "__oxia/", "", false), []);
        assert.deepEqual(listOf(state, "/b", "/c"), ["/b"]);
        assert.deepEqual(listOf(state, "/c", "/b"), []);
      };
      check();
      await state.checkpoint();
      assert.equal(state.stats.tableBytes, 0);
      check();
      state.apply(log.write({ deletes: [remove("/b")], puts: [put("/c", "/c")] }));
      assert.equal(state.get(getRequest("/bb", FLOOR)).key, "/a");
      assert.equal(state.get(getRequest("/aa", CEILING)).key, "/c");
    }));

  it("keeps pages within their bounds", () =>
    withState((state, log) => {
      const many = Array.from({ length: 2_500 }, (_, at) => put(`k${at}`, "v"));
      state.apply(log.write({ puts: many }));
      const big = Buffer.alloc(900 * 1024, 1);
      state.apply(log.write({ puts: [0, 1, 2, 3].map((at) => put(`big${at}`, big)) }));
      state.apply(log.write({ puts: [put("huge", Buffer.alloc(3 * 1024 * 1024))] }));
      const all = { startInclusive: "", endExclusive: "", includeInternalKeys: false };
      const keyPages = [...state.list(all)].map((page) => page.length);
      assert.deepEqual(keyPages, [1_000, 1_000, 505]);
      const pages = [...state.scan(all)].map((page) => page.length);
      assert.deepEqual(pages, [2, 2, 1, 1_000, 1_000, 500]);
    }));

  it("keeps a scan's view while writes and checkpoints go on", () =>
    withState(async (state, log) => {
      const keys = Array.from({ length: 3_000 }, (_, at) => `k${String(at).padStart(5, "0")}`);
      const putAll = (value: string): void => {
        state.apply(log.write({ puts: keys.map((key) => put(key, value)) }));
      };
      const all = { startInclusive: "", endExclusive: "", includeInternalKeys: false };
      putAll("old");
      await state.checkpoint();
      state.apply(log.write({ puts: [put("k00007", "table")], deletes: [remove("k02999")] }));
      const pages = state.scan(all)[Symbol.iterator]();
      const seen = [...(pages.next().value as readonly { key?: string | undefined }[])];
      putAll("new");
      state.apply(log.write({ puts: [put("k00007x", "new")], deletes: [remove("k01500")] }));
      await state.checkpoint();
      putAll("newer");
      await state.checkpoint();
      for (let page = pages.next(); page.done !== true; page = pages.next())
        seen.push(...page.value);
      assert.equal(seen.length, 2_999);
      const texts = seen.map((each) => textOf(each as never));
      assert.equal(texts[7], "table");
      assert.equal(texts.filter((text) => text === "old").length, 2_998);
    }));

  it("refuses to skip or repeat an entry", () =>
    withState((state, log) => {
      const first = log.write({ puts: [put("a", "1")] });
      log.write({ puts: [put("b", "1")] });
      const third = log.write({ puts: [put("c", "1")] });
      state.apply(first);
      assert.throws(() => state.apply(first), /entry 0 applied after 0/);
      assert.throws(() => state.apply(third), /entry 2 applied after 0/);
    }));

  it("copies values: the entry's buffer may be reused", () =>
    withState((state, log) => {
      const entry = log.write({ puts: [put("a", "value")] });
      state.apply(entry);
      entry.value.fill(0);
      assert.equal(textOf(state.get(getRequest("a"))), "value");
    }));

  it("stores keys of the greatest length", () =>
    withState(async (state, log) => {
      const keys = [`${"/".repeat(1_024)}`, "é".repeat(512), "k".repeat(1_024)];
      state.apply(log.write({ puts: keys.map((key) => put(key, "v")) }));
      await state.checkpoint();
      assert.deepEqual(listOf(state).sort(), [...keys].sort());
      for (const key of keys) assert.equal(textOf(state.get(getRequest(key))), "v");
    }));

  it("is due for a checkpoint by size, by age and by pressure, and not when clean", () =>
    withState(async (state, log) => {
      const intervalMs = 3_600_000;
      assert.equal(state.checkpointDue(1e15, intervalMs), false);
      state.apply(log.write({ puts: [put("a", "1")] }));
      const nowMs = clock.monotonicMs();
      assert.equal(state.checkpointDue(nowMs, intervalMs), false);
      // Longer than any default: what is configured counts.
      assert.equal(state.checkpointDue(nowMs + intervalMs / 2, intervalMs), false);
      assert.equal(state.checkpointDue(nowMs + intervalMs, intervalMs), true);
      await state.checkpoint();
      assert.equal(state.checkpointDue(1e15, intervalMs), false);
    }));

  it("keeps everything when the disk is full, and goes on when there is room again", () =>
    withDir(async (dir) => {
      let freeBytes = 0;
      const full = new Proxy(disk, {
        get: (target, name) => {
          if (name === "freeBytes") return async () => freeBytes;
          const method = Reflect.get(target, name) as (...given: unknown[]) => unknown;
          return method.bind(target);
        },
      });
      const log = new TestLog();
      const state = await openState(dir, { engine: lmdbEngineFactory(full) });
      const keys = Array.from({ length: 2_500 }, (_, at) => `k${at}`);
      state.apply(log.write({ puts: keys.map((key) => put(key, "v")) }));
      const isFull = (error: unknown): boolean =>
        error instanceof DiskError && error.code === "NO_SPACE" && !error.fatal;
      await assert.rejects(state.checkpoint(), isFull);
      state.apply(log.write({ puts: [put("later", "v")] }));
      await assert.rejects(state.checkpoint(), isFull);
      await assert.rejects(state.pin(), isFull);
      assert.equal(state.checkpointDue(1e15, 1_000), true);
      assert.equal(state.durable.offset, -1);
      assert.equal(listOf(state).length, 2_501);
      freeBytes = 1e12;
      assert.equal((await state.checkpoint()).offset, 1);
      assert.equal(state.stats.tableBytes, 0);
      assert.equal(listOf(state).length, 2_501);
      await state.close();
    }));

  it("keeps everything when the disk fills in the middle of a checkpoint's journal", () =>
    withDir(async (dir) => {
      let roomForWrites = 1;
      const filling: Disk = new Proxy(disk, {
        get: (target, name) => {
          const method = Reflect.get(target, name) as (...given: unknown[]) => unknown;
          if (name !== "open") return method.bind(target);
          return async (path: string, options: { readonly create: boolean }) => {
            const file = await target.open(path, options);
            const write = file.write.bind(file);
            file.write = async (parts, at) => {
              if (roomForWrites === 0)
                throw new DiskError("NO_SPACE", path, "no room", { fatal: false });
              roomForWrites -= 1;
              await write(parts, at);
            };
            return file;
          };
        },
      });
      const log = new TestLog();
      const state = await openState(dir, { disk: filling });
      const keys = Array.from({ length: 5_500 }, (_, at) => `k${at}`);
      for (const key of keys) state.apply(log.write({ puts: [put(key, "v".repeat(500))] }));
      await assert.rejects(state.checkpoint(), { code: "NO_SPACE" });
      assert.equal(roomForWrites, 0, "some of the journal was written");
      assert.equal(listOf(state).length, keys.length);
      roomForWrites = Number.POSITIVE_INFINITY;
      await state.checkpoint();
      assert.equal(listOf(state).length, keys.length);
      await state.close();
      const again = await openState(dir);
      assert.deepEqual(listOf(again), keys.toSorted());
      await again.close();
    }));

  it("writes nothing more after a failed sync, which the next one would not show (R14)", () =>
    withDir(async (dir) => {
      const error = new DiskError("IO", dir, "sync failed", { fatal: true });
      let failing = true;
      const engine: EngineFactory = {
        ...engines,
        open: async (path) => {
          const opened = await engines.open(path);
          const write = opened.write.bind(opened);
          opened.write = async (batch) => (failing ? Promise.reject(error) : write(batch));
          return opened;
        },
      };
      const state = await openState(dir, { engine });
      state.apply(new TestLog().write({ puts: [put("a", "1")] }));
      await assert.rejects(state.pin(), error);
      failing = false;
      await assert.rejects(state.checkpoint(), error);
      await assert.rejects(state.pin(), error);
      assert.equal(state.durable.offset, -1);
      await state.close();
    }));

  it("finishes a checkpoint that was cut short in less room than one of its slices takes", () =>
    withDir(async (dir) => {
      let looks = Number.POSITIVE_INFINITY;
      let freeBytes = 1e12;
      const small = new Proxy(disk, {
        get: (target, name) => {
          const method = Reflect.get(target, name) as (...given: unknown[]) => unknown;
          if (name !== "freeBytes") return method.bind(target);
          return async () => {
            looks -= 1;
            return looks < 0 ? 0 : freeBytes;
          };
        },
      });
      const engine = lmdbEngineFactory(small);
      const log = new TestLog();
      const keys = Array.from({ length: 2_500 }, (_, at) => `k${at}`);
      const before = await openState(dir, { engine });
      before.apply(log.write({ puts: keys.map((key) => put(key, "v")) }));
      // Two slices arrive, then the volume is full: the process stops between them.
      looks = 2;
      await assert.rejects(before.checkpoint(), { code: "NO_SPACE" });
      await before.close();

      const noRoom = { code: "NO_SPACE", fatal: false };
      await assert.rejects(openState(dir, { engine }), noRoom);
      looks = Number.POSITIVE_INFINITY;
      freeBytes = 2 * 1024 * 1024;
      const after = await openState(dir, { engine });
      assert.equal(after.durable.offset, 0);
      assert.equal(listOf(after).length, 2_500);
      await after.close();
    }));

  it("refuses more open reads than its bound", () =>
    withState((state, log) => {
      state.apply(log.write({ puts: [put("a", "1"), put("b", "1")] }));
      const all = { startInclusive: "", endExclusive: "", includeInternalKeys: false };
      const open: Iterator<unknown>[] = [];
      const another = (): void => {
        const pages = state.list(all)[Symbol.iterator]();
        open.push(pages);
        pages.next();
      };
      for (let at = 0; at < LIMITS.readViewsMax; at++) another();
      assert.throws(another, /allowed: 512/);
      assert.throws(() => state.get(getRequest("a", KeyComparisonType.HIGHER)), /allowed: 512/);
      assert.equal(state.get(getRequest("a")).status, Status.OK);
      state.apply(log.write({ deleteRanges: [{ startInclusive: "a", endExclusive: "b" }] }));
      open.shift()?.return?.();
      another();
      for (const pages of open) pages.return?.();
    }));

  it("applies a long delete range in turns, and nobody sees half of it", () =>
    withDir(async (dir) => {
      let state = await openState(dir);
      const log = new TestLog();
      const names = Array.from({ length: 6_000 }, (_, n) => `k${String(n).padStart(5, "0")}`);
      // Some in the engine, some in memory, some in both.
      for (const [at, from] of [0, 2_000].entries()) {
        const puts = names.slice(from, from + 4_000).map((key) => put(key, `v${at}`));
        state.apply(log.write({ puts }));
        if (at === 0) await state.checkpoint();
      }
      const before = [listOf(state).length, textOf(state.get(getRequest("k03000")))];
      assert.deepEqual(before, [6_000, "v1"]);
      const ranges = [{ startInclusive: "k00000", endExclusive: "k05500" }];
      const entry = log.write({ puts: [put("new", "1")], deleteRanges: ranges });
      let done = false;
      const applying = Promise.resolve(state.applyInTurns(entry)).finally(() => {
        done = true;
      });
      const checkpoint = state.checkpoint();
      const sum = state.checksum(NEVER);
      let turns = 0;
      while (!done) {
        const seen = [listOf(state).length, textOf(state.get(getRequest("k03000")))];
        if (done) break;
        assert.deepEqual(seen, before);
        assert.equal(state.get(getRequest("new")).status, Status.KEY_NOT_FOUND);
        assert.equal(state.applied.offset, entry.offset - 1);
        turns += 1;
        await clock.yield();
      }
      assert.ok(turns >= 5, `${turns} turns`);
      assert.deepEqual((await applying)?.deleteRanges, [{ status: Status.OK }]);
      assert.deepEqual([listOf(state).length, state.stats.records], [501, 501]);
      const { checksum, records } = await sum;
      assert.deepEqual([records, (await checkpoint).offset], [501, entry.offset]);
      // The same as in one turn, and the same after a restart.
      await withDir(async (other) => {
        const whole = await openState(other);
        for (const one of log.entries) whole.apply(one);
        assert.equal((await whole.checksum(NEVER)).checksum, checksum);
        await whole.close();
      });
      await state.close();
      state = await openState(dir);
      assert.equal((await state.checksum(NEVER)).checksum, checksum);
      await state.close();
    }));

  it("applies many puts and deletes in turns, and nobody sees half of them", () =>
    withState(async (state, log) => {
      const names = Array.from({ length: 3_000 }, (_, n) => `k${n}`);
      state.apply(log.write({ puts: names.slice(1_000).map((key) => put(key, "engine")) }));
      await state.checkpoint();
      state.apply(log.write({ puts: names.slice(2_000).map((key) => put(key, "table")) }));
      const seen = (): (string | undefined)[] => [
        ...names.map((key) => textOf(state.get(getRequest(key)))),
        ...listOf(state),
      ];
      const before = seen();
      const deletes = [...names.slice(500, 2_500), "new"].map((key) => remove(key));
      const puts = [put("new", "1"), ...names.map((key) => put(key, "new"))];
      const entry = log.write({ puts, deletes });
      let done = false;
      const applying = Promise.resolve(state.applyInTurns(entry)).finally(() => {
        done = true;
      });
      const checkpoint = state.checkpoint();
      let turns = 0;
      while (!done) {
        assert.deepEqual(seen(), before);
        turns += 1;
        await clock.yield();
      }
      assert.ok(turns >= 4, `${turns} turns`);
      const response = await applying;
      assert.equal(response?.puts.length, 3_001);
      assert.ok(response.deletes.every(({ status }) => status === Status.OK));
      assert.equal((await checkpoint).offset, entry.offset);
      assert.deepEqual(listOf(state), [...names.slice(0, 500), ...names.slice(2_500)].sort());
      assert.equal(textOf(state.get(getRequest("k2999"))), "new");
    }));

  it("lets other work run between many short delete ranges", () =>
    withState(async (state, log) => {
      const ranges = Array.from({ length: 500 }, (_, n) => ({
        startInclusive: `k${n}`,
        endExclusive: `k${n}`,
      }));
      state.apply(log.write({ puts: [put("a", "1")] }));
      const deleteRanges = [...ranges, { startInclusive: "a", endExclusive: "b" }];
      const applying = state.applyInTurns(log.write({ deleteRanges }));
      assert.ok(applying instanceof Promise);
      assert.equal((await applying)?.deleteRanges.length, 501);
      assert.deepEqual(listOf(state), []);
    }));
});
