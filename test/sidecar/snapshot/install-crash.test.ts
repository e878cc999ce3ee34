import assert from "node:assert/strict";
import { GarbledFileError } from "../../../sidecar/lib/sealed-file.ts";
import { LOG_START } from "../../../sidecar/protocol/entry.ts";
import { CURRENT_FILE, openCurrent, readPointer } from "../../../sidecar/snapshot/state-pointer.ts";
import { CrashDisk, crashEverywhere } from "../../support/crash-disk.ts";
import {
  BASE,
  OLD,
  STATE,
  Target,
  attempt,
  contentOf,
  preparedDisk,
  sourceOf,
} from "./transfer-fixture.ts";

const CONTENT = contentOf(1042);

/** Old-complete or new-complete (I13); then the transfer can be repeated to the end. */
async function checkOldOrNew(disk: CrashDisk, mustBeNew: boolean): Promise<"old" | "new"> {
  const pointer = await openCurrent(disk, STATE, "u1", { dropOld: false });
  const data = await disk.readFile(`${STATE}/${pointer.dir}/data`);
  // What was opened stays, whatever happens next: the log is cut to fit it.
  disk.reboot("nothing");
  assert.deepEqual(await readPointer(disk, STATE), pointer);
  const installed = pointer.snapshotId !== "";
  assert.deepEqual(data, installed ? CONTENT : OLD);
  assert.deepEqual(pointer.base, installed ? BASE : LOG_START);
  if (mustBeNew) assert.ok(installed, "the install was answered and is gone");
  const current = Number(pointer.dir.slice("state-".length));
  for (const name of await disk.list(STATE)) {
    const number = /^state-(\d+)$/.exec(name)?.[1];
    assert.ok(number === undefined || Number(number) <= current, `${name} is left over`);
    if (number !== undefined && Number(number) < current) {
      const whole = number === "0" ? OLD : CONTENT;
      assert.deepEqual(await disk.readFile(`${STATE}/${name}/data`), whole);
    }
  }
  return installed ? "new" : "old";
}

describe("snapshot install, crash at every disk operation", () => {
  it("leaves the old state or the new one, whole, and the transfer repeats (I13)", async () => {
    const answered = new WeakSet<CrashDisk>();
    const seen = { old: 0, new: 0 };
    const count = await crashEverywhere(
      preparedDisk,
      async (disk) => {
        const { sent, received } = await attempt(Target.on(disk), sourceOf(CONTENT));
        if (received instanceof Error) throw received;
        if (!(sent instanceof Error)) answered.add(disk);
      },
      async (disk) => {
        seen[await checkOldOrNew(disk, answered.has(disk))]++;
        disk.reboot("nothing");
        const { sent } = await attempt(Target.on(disk), sourceOf(CONTENT));
        assert.deepEqual(sent, BASE);
        await checkOldOrNew(disk, true);
        const left = (await disk.list(STATE)).filter((name) => name.startsWith("staging"));
        assert.deepEqual(left, []);
      },
    );
    assert.ok(count > 40, `${count} operations`);
    assert.ok(seen.old > 40 && seen.new > 3, JSON.stringify(seen));
  });

  it("resumes from what is durable, never from more, when it had broken off before", async () => {
    const cut = { up: (m: { chunkIndex: number }) => (m.chunkIndex < 8 ? [m] : []) as never[] };
    await crashEverywhere(
      preparedDisk,
      async (disk) => {
        const target = Target.on(disk);
        await attempt(target, sourceOf(CONTENT), { wire: cut });
        await target.receiver.close();
        await target.restart();
        const { received } = await attempt(target, sourceOf(CONTENT));
        if (received instanceof Error) throw received;
      },
      async (disk) => {
        await checkOldOrNew(disk, false);
        const { sent } = await attempt(Target.on(disk), sourceOf(CONTENT));
        assert.deepEqual(sent, BASE);
        await checkOldOrNew(disk, true);
      },
    );
  });

  it("makes the first, empty state whole or not at all", async () => {
    await crashEverywhere(
      async () => {
        const disk = new CrashDisk();
        await disk.makeDir(STATE);
        disk.reboot("everything");
        return disk;
      },
      (disk) => openCurrent(disk, STATE, "u1", { dropOld: false }),
      async (disk) => {
        const pointer = await openCurrent(disk, STATE, "u1", { dropOld: false });
        assert.deepEqual(pointer, { dir: "state-0", base: LOG_START, snapshotId: "", uid: "u1" });
        assert.ok(await disk.exists(`${STATE}/state-0`));
      },
    );
  });
});

describe("state pointer", () => {
  it("is refused when damaged, another's, pointing nowhere, or gone while states are there", async () => {
    const cases: readonly ((disk: CrashDisk) => Promise<unknown>)[] = [
      async (disk) => (await disk.open(`${STATE}/${CURRENT_FILE}`, { create: false })).truncate(30),
      (disk) => disk.remove(`${STATE}/state-0`),
      (disk) => disk.remove(`${STATE}/${CURRENT_FILE}`),
    ];
    for (const spoil of cases) {
      const disk = await preparedDisk();
      await spoil(disk);
      await assert.rejects(openCurrent(disk, STATE, "u1", { dropOld: true }), GarbledFileError);
    }
    const disk = await preparedDisk();
    await assert.rejects(
      openCurrent(disk, STATE, "u2", { dropOld: true }),
      /uid is u1, allowed: u2/,
    );
  });

  it("cleans up at open: leftovers always, old states only for a voter", async () => {
    const disk = await preparedDisk();
    await attempt(Target.on(disk), sourceOf(CONTENT));
    for (const name of ["staging-x", "state-7"]) await disk.makeDir(`${STATE}/${name}`);
    await openCurrent(disk, STATE, "u1", { dropOld: false });
    assert.deepEqual(await disk.list(STATE), ["CURRENT", "state-0", "state-1"]);
    await openCurrent(disk, STATE, "u1", { dropOld: true });
    assert.deepEqual(await disk.list(STATE), ["CURRENT", "state-1"]);
    assert.equal((await readPointer(disk, STATE))?.dir, "state-1");
  });
});
