import assert from "node:assert/strict";
import type { Input } from "../../../sidecar/core/input.ts";
import { DEFAULT_REPLICA_OPTIONS } from "../../../sidecar/runtime/replica-options.ts";
import { StorageWork } from "../../../sidecar/runtime/storage-work.ts";
import type { StorageWorkOptions } from "../../../sidecar/runtime/storage-work.ts";
import type { ReplicaStorage } from "../../../sidecar/runtime/replica-storage.ts";

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe("storage work", () => {
  it("credits nothing to the log after a cut with the end that was cut off", async () => {
    const fed: Input[] = [];
    const core = { state: { logEpoch: 0 } };
    let finishCut = (): void => {};
    const wal = {
      offset: 100,
      get synced(): { readonly offset: number } {
        return { offset: wal.offset };
      },
      discardPending: async () => undefined,
      sync: async () => ({ offset: wal.offset }),
      truncate: (lastOffset: number) =>
        new Promise<void>((resolve) => {
          finishCut = () => {
            wal.offset = lastOffset;
            resolve();
          };
        }),
    };
    const storage = {
      wal,
      state: { applied: { offset: 50 }, stats: { bytes: 0 } },
      cache: { truncate: () => undefined },
    } as unknown as ReplicaStorage;
    const never = new Promise<void>(() => undefined);
    const clock = { monotonicMs: () => 0, nowMs: () => 0, sleep: () => never };
    const work = new StorageWork({
      env: { clock, options: DEFAULT_REPLICA_OPTIONS },
      core,
      logDir: "log",
      signal: new AbortController().signal,
      feed: (input: Input) => fed.push(input),
      fail: assert.ifError,
    } as unknown as StorageWorkOptions);
    work.start(storage);

    // Duplicates ask for one sync and, while it is on its way, for another; then comes the
    // conflict.
    work.wantSync();
    work.flush();
    work.wantSync();
    core.state.logEpoch = 1;
    const cut = work.truncate(storage, 50);
    await turn();
    assert.deepEqual(fed, [{ kind: "synced", offset: 100, logEpoch: 0 }]);

    finishCut();
    await cut;
    work.flush();
    await turn();
    assert.deepEqual(fed.slice(1), [{ kind: "synced", offset: 50, logEpoch: 1 }]);
  });

  it("keeps no waiter of who has gone, also when the storage was swapped meanwhile", async () => {
    const applied = { offset: 3 };
    const state = { applied, stats: { bytes: 0 } };
    const storage = { wal: {}, state, cache: {} } as unknown as ReplicaStorage;
    const never = new Promise<void>(() => undefined);
    const clock = { monotonicMs: () => 0, nowMs: () => 0, sleep: () => never };
    const work = new StorageWork({
      env: { clock, options: DEFAULT_REPLICA_OPTIONS },
      logDir: "log",
      signal: new AbortController().signal,
    } as unknown as StorageWorkOptions);
    work.start(storage);
    const gone = new AbortController();
    const waits = [work.untilApplied(9, gone.signal), work.untilApplied(10, gone.signal)];
    await work.untilApplied(3, gone.signal);
    work.start(storage);
    assert.equal(work.applier?.waiting, 2);
    gone.abort(new Error("the caller has gone"));
    for (const wait of waits) await assert.rejects(wait, /the caller has gone/u);
    assert.equal(work.applier?.waiting, 0);
    await assert.rejects(work.untilApplied(9, gone.signal), /the caller has gone/u);
    assert.equal(work.applier?.waiting, 0);
  });

  it("tells for how long the log has been being written", async () => {
    let finish = (_position: { readonly offset: number }): void => {};
    const wal = {
      sync: () =>
        new Promise<{ readonly offset: number }>((resolve) => {
          finish = resolve;
        }),
    };
    const state = { applied: { offset: 0 }, stats: { bytes: 0 } };
    const storage = { wal, state, cache: {} } as unknown as ReplicaStorage;
    const never = new Promise<void>(() => undefined);
    let now = 1_000;
    const clock = { monotonicMs: () => now, nowMs: () => now, sleep: () => never };
    const work = new StorageWork({
      env: { clock, options: DEFAULT_REPLICA_OPTIONS },
      core: { state: { logEpoch: 0 } },
      logDir: "log",
      signal: new AbortController().signal,
      feed: () => undefined,
    } as unknown as StorageWorkOptions);
    work.start(storage);
    assert.equal(work.syncingMs, 0);
    work.wantSync();
    work.flush();
    now += 7_000;
    assert.equal(work.syncingMs, 7_000);
    finish({ offset: 1 });
    await turn();
    assert.equal(work.syncingMs, 0);
  });
});
