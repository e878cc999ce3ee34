import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { FileRecordStore, RecordsLocked } from "../../../operator/local/record-store.ts";
import { RecordConflict } from "../../../operator/controller/ports.ts";
import { newRecord, type ShardRecord } from "../../../operator/core/record.ts";

const signal = new AbortController().signal;

function record(shard = 0): ShardRecord {
  return newRecord({
    storeId: "store",
    namespace: "default",
    shard,
    ensemble: ["a", "b", "c"],
    replicationFactor: 3,
    keySorting: "hierarchical",
    notifications: true,
  });
}

describe("FileRecordStore", () => {
  let directory = "";
  let path = "";

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), "resilver-records-"));
    path = join(directory, "deep", "records.json");
  });
  afterEach(async () => {
    await rm(directory, { recursive: true, force: true });
  });

  it("keeps records over a restart", async () => {
    const first = await FileRecordStore.open(path);
    assert.equal(await first.read(record(), signal), null);
    const created = await first.create(record(), signal);
    const raised = { ...record(), term: 4, generation: 9 };
    await first.replace(raised, created.version, signal);
    await first.close();
    const second = await FileRecordStore.open(path);
    assert.deepEqual((await second.read(record(), signal))?.record, raised);
    await second.close();
  });

  it("swaps only what was compared", async () => {
    const store = await FileRecordStore.open(path);
    const { version } = await store.create(record(), signal);
    await assert.rejects(store.create(record(), signal), RecordConflict);
    const next = { ...record(), term: 1 };
    const results = await Promise.allSettled([
      store.replace(next, version, signal),
      store.replace({ ...record(), term: 2 }, version, signal),
      store.create(record(1), signal),
    ]);
    assert.deepEqual(
      results.map((result) => result.status),
      ["fulfilled", "rejected", "fulfilled"],
    );
    assert.equal((await store.read(record(), signal))?.record.term, 1);
    assert.equal((await store.read(record(1), signal))?.record.shard, 1);
    await store.close();
  });

  it("keeps a second coordinator out, in this process and in another, until the first is gone", async () => {
    const store = await FileRecordStore.open(path);
    await assert.rejects(FileRecordStore.open(path), RecordsLocked);
    await store.close();
    // A killed process leaves no lock behind.
    const script = `
      import { FileRecordStore } from ${JSON.stringify(new URL("../../../operator/local/record-store.ts", import.meta.url).href)};
      await FileRecordStore.open(${JSON.stringify(path)});
      console.log("locked");
      setInterval(() => {}, 1000);`;
    const child = spawn(
      process.execPath,
      ["--import", "tsx", "--input-type=module", "-e", script],
      {
        stdio: ["ignore", "pipe", "inherit"],
      },
    );
    const closed = once(child, "exit");
    await once(child.stdout, "data");
    await assert.rejects(FileRecordStore.open(path), RecordsLocked);
    child.kill("SIGKILL");
    await closed;
    const again = await FileRecordStore.open(path);
    await again.close();
  });

  it("ignores what a crash left aside", async () => {
    const store = await FileRecordStore.open(path);
    await store.create({ ...record(), term: 3 }, signal);
    await store.close();
    await writeFile(`${path}.new`, "{ half a fi");
    const again = await FileRecordStore.open(path);
    const stored = await again.read(record(), signal);
    assert.equal(stored?.record.term, 3);
    await again.replace({ ...record(), term: 4 }, stored?.version ?? "", signal);
    assert.equal((await again.read(record(), signal))?.record.term, 4);
    await again.close();
  });

  it("names the field of a file or record that cannot be believed", async () => {
    const store = await FileRecordStore.open(path);
    await store.create(record(), signal);
    const good = await readFile(path, "utf8");
    const bad: readonly (readonly [string, string, RegExp])[] = [
      ['"term": -1', '"term": "one"', /term/u],
      ['"replicationFactor": 3', '"replicationFactor": 0', /replicationFactor/u],
      ['"generation": 0', '"generation": 0, "extra": 1', /extra/u],
      ['"format": 1', '"format": 2', /format/u],
      ["{", "[", /not JSON/u],
    ];
    for (const [from, to, expected] of bad) {
      await writeFile(path, good.replace(from, to));
      await assert.rejects(store.read(record(), signal), {
        name: "RecordInvalid",
        message: expected,
      });
    }
    await writeFile(path, good);
    assert.equal((await store.read(record(), signal))?.record.term, -1);
    await store.close();
  });
});
