import assert from "node:assert/strict";
import { MemoryBudget } from "../../../sidecar/state/memory-budget.ts";
import { VersionCache } from "../../../sidecar/state/version-cache.ts";
import { NEVER, openState, put, TestLog, withDir } from "./state-fixture.ts";

describe("memory budget", () => {
  it("is one bound for all shards, and makes writers wait until a checkpoint", () =>
    withDir(async (dir) => {
      const budget = new MemoryBudget(64 * 1024, 64 * 1024);
      const states = await Promise.all([
        openState(`${dir}/a`, { budget }),
        openState(`${dir}/b`, { budget }),
      ]);
      const logs = [new TestLog(), new TestLog()];
      let writes = 0;
      while (!budget.full) {
        const which = writes % 2;
        states[which]?.apply(
          logs[which]?.write({ puts: [put(`k${writes}`, Buffer.alloc(500))] }) as never,
        );
        writes += 1;
      }
      assert.ok(writes < 140, "the bound was overrun");
      for (const state of states) assert.ok(state.checkpointDue(0, 1_000));
      let admitted = false;
      const waiting = budget.admit(NEVER).then(() => {
        admitted = true;
      });
      const abort = new AbortController();
      const aborted = budget.admit(abort.signal);
      abort.abort(new Error("gone"));
      await assert.rejects(aborted, /gone/);
      assert.equal(admitted, false);
      await states[0]?.checkpoint();
      await waiting;
      await states[1]?.checkpoint();
      assert.equal(budget.tableBytes, 0);
      await budget.admit(NEVER);
      for (const state of states) await state.close();
    }));

  it("gives memory back at close", () =>
    withDir(async (dir) => {
      const budget = new MemoryBudget();
      const state = await openState(dir, { budget });
      const log = new TestLog();
      for (let at = 0; at < 50; at++)
        state.apply(log.write({ puts: [put("same", Buffer.alloc(1_000))] }));
      assert.ok(budget.tableBytes > 1_000 && budget.tableBytes < 3_000, `${budget.tableBytes}`);
      await state.close();
      assert.equal(budget.tableBytes, 0);
    }));
});

describe("version cache", () => {
  it("is bounded and keeps what was used last", () => {
    const cache = new VersionCache();
    const version = { versionId: 1, modificationsCount: 0, createdTimestamp: 0 };
    for (let at = 0; at < 10_000; at++) cache.set(`k${at}`, version, 100);
    assert.ok(cache.size <= 101, `${cache.size}`);
    assert.equal(cache.get("k9999"), version);
    assert.equal(cache.get("k0"), undefined);
    cache.set("gone", null, 100);
    assert.equal(cache.get("gone"), null);
  });
});
