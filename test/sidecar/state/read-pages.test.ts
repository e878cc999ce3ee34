import assert from "node:assert/strict";
import { LIMITS } from "../../../sidecar/limits.ts";
import { ProtocolError } from "../../../sidecar/protocol/errors.ts";
import { KeyComparisonType, RangeScanResponse } from "../../../sidecar/protocol/gen/oxia-client.ts";
import { MemoryBudget } from "../../../sidecar/state/memory-budget.ts";
import { ShardState } from "../../../sidecar/state/shard-state.ts";
import { StillClock } from "../wal/log-fixture.ts";
import {
  disk,
  engines,
  getRequest,
  NEVER,
  openState,
  put,
  TestLog,
  withDir,
} from "./state-fixture.ts";

const ALL = { startInclusive: "", endExclusive: "", includeInternalKeys: false };

describe("pages of reads", () => {
  it("counts keys and client identities, so that each fits into a message", () =>
    withDir(async (dir) => {
      const state = await openState(dir);
      const log = new TestLog();
      const more = { clientIdentity: "i".repeat(60 * 1024) };
      const name = "k".repeat(LIMITS.keyBytesMax - 4);
      for (let at = 0; at < 200; at++) {
        const key = `${name}${String(at).padStart(4, "0")}`;
        state.apply(log.write({ puts: [put(key, "1", more)] }));
      }
      let records = 0;
      for (const page of state.scan(ALL)) {
        records += page.length;
        const bytes = RangeScanResponse.encode({ records: [...page] }).finish().length;
        assert.ok(bytes <= LIMITS.readBytesPerMessageMax, `${bytes} bytes in a page`);
      }
      assert.equal(records, 200);
      await state.close();
    }));

  it("ends reads that nobody goes on with, on a shard without writes", () =>
    withDir(async (dir) => {
      const clock = new StillClock();
      const options = { dir, disk, clock, engine: engines, budget: new MemoryBudget() };
      const state = await ShardState.open({ ...options, keySorting: "natural" });
      const log = new TestLog();
      const puts = Array.from({ length: 1_001 }, (_, at) => put(`k${at}`, "1"));
      state.apply(log.write({ puts }));
      const stalled = Array.from({ length: LIMITS.readViewsMax }, () => {
        const pages = state.list(ALL)[Symbol.iterator]();
        pages.next();
        return pages;
      });
      clock.at = LIMITS.readViewMsMax + 1;
      assert.throws(() => [...state.list(ALL)], /512 reads are open/);
      state.closeOldViews();
      assert.equal([...state.list(ALL)].flat().length, 1_001);
      for (const pages of stalled) assert.throws(() => pages.next(), /too long.*30000 ms/);
      await state.close();
    }));

  it("gives a checksum the time that its caller gives it", () =>
    withDir(async (dir) => {
      const clock = new StillClock();
      const options = { dir, disk, clock, engine: engines, budget: new MemoryBudget() };
      const state = await ShardState.open({ ...options, keySorting: "natural" });
      const log = new TestLog();
      const puts = Array.from({ length: 2_500 }, (_, at) => put(`k${at}`, "1"));
      state.apply(log.write({ puts }));
      const { checksum } = await state.checksum(NEVER);
      // It lets others work after each thousand records; each time a minute passes.
      let turns = 0;
      clock.yield = async () => {
        turns += 1;
        clock.at += 2 * LIMITS.readViewMsMax;
        state.closeOldViews();
      };
      assert.deepEqual(await state.checksum(NEVER), { appliedOffset: 0, checksum, records: 2_500 });
      assert.equal(turns, 2);
      clock.yield = async () => {
        await state.close();
      };
      await assert.rejects(state.checksum(NEVER), isClosed);
    }));

  it("refuses reads of a closed state, and ends those under way, for now", () =>
    withDir(async (dir) => {
      const state = await openState(dir);
      const log = new TestLog();
      const puts = Array.from({ length: 1_001 }, (_, at) => put(`k${at}`, "1"));
      state.apply(log.write({ puts }));
      await state.checkpoint();
      const underWay = [state.list(ALL)[Symbol.iterator](), state.scan(ALL)[Symbol.iterator]()];
      for (const pages of underWay) pages.next();
      const late = state.list(ALL);
      await state.close();
      for (const pages of underWay) assert.throws(() => pages.next(), isClosed);
      assert.throws(() => [...late], isClosed);
      assert.throws(() => [...state.scan(ALL)], isClosed);
      for (const comparison of [KeyComparisonType.EQUAL, KeyComparisonType.FLOOR]) {
        assert.throws(() => state.get(getRequest("k1", comparison)), isClosed);
      }
      await assert.rejects(state.checksum(NEVER), isClosed);
    }));
});

function isClosed(error: unknown): boolean {
  assert.ok(error instanceof ProtocolError, String(error));
  assert.equal(error.reason, "RESOURCE_UNAVAILABLE");
  assert.match(error.message, /state is closed/);
  return true;
}
