import assert from "node:assert/strict";
import type { DiskFile } from "../../sidecar/lib/ports/disk.ts";
import { lossOf, outcomesOf } from "./crash-points/outcomes.ts";
import { saveRecords } from "./crash-points/record-save.ts";
import { runPoint } from "./crash-points/run-point.ts";
import { SCENARIOS } from "./crash-points/scenario.ts";
import { NOTHING_KEPT, outcomeText, parseOutcome, tryPoint } from "./crash-points/try-point.ts";
import { MUTANTS } from "./mutants/catalogue.ts";
import { SimDisk } from "./sim-disk.ts";

/** `npm run sim:crash-points` crashes before every change, and tries many outcomes of each. */
const EVERY = 9;
const OUTCOMES = 3;

describe("simulator: crash points", function () {
  this.timeout(120_000);

  for (const [scenario, make] of SCENARIOS.entries()) {
    it(`${make().name}: old-complete or new-complete, whatever is kept`, async () => {
      const at = { scenario, settled: true, outcomesMax: OUTCOMES };
      const whole = await runPoint({ ...at, change: 0, outcome: NOTHING_KEPT });
      assert.equal(whole.violation, null, JSON.stringify(whole.violation));
      assert.ok(whole.changes > 0, "it changes its replica's disk");
      for (let change = 1; change <= whole.changes; change += EVERY) {
        const { failures } = await tryPoint({ ...at, change });
        assert.deepEqual(failures, []);
      }
    });
  }

  it("save the record: the old one or the new one, whatever is kept", async () => {
    const { points, sampled, outcomes, failures } = await saveRecords();
    assert.deepEqual([failures, sampled], [[], 0]);
    assert.ok(points > 8 && outcomes > 30, `${points} points, ${outcomes} outcomes`);
  });

  it("save the record: a save that does not sync its file, or the directory, is caught", async () => {
    const file = await saveRecords((disk) => ({
      open: async (path, options) => ({
        ...(await opened(disk, path, options)),
        sync: async () => undefined,
      }),
      readFile: (path) => disk.readFile(path),
      rename: (from, to) => disk.rename(from, to),
      syncDir: (path) => disk.syncDir(path),
    }));
    assert.ok(file.failures.length > 0, "no crash was noticed");
    const directory = await saveRecords((disk) => ({
      open: (path, options) => opened(disk, path, options),
      readFile: (path) => disk.readFile(path),
      rename: (from, to) => disk.rename(from, to),
      syncDir: async () => undefined,
    }));
    assert.ok(directory.failures.length > 0, "no crash was noticed");
  });

  it("a disk that only says that it has synced is caught", async () => {
    const mutant = MUTANTS.find(({ name }) => name === "lying-disk");
    const { alterNode } = mutant ?? {};
    assert.ok(alterNode !== undefined);
    const found: string[] = [];
    for (let change = 1; change <= 18; change += 1) {
      const at = { scenario: 0, change, settled: false, outcomesMax: 0 };
      const { violation } = await runPoint({ ...at, outcome: NOTHING_KEPT }, null, { alterNode });
      if (violation !== null) found.push(violation.invariant);
    }
    assert.ok(found.length > 0, "no crash was noticed");
  });
});

/** Its methods, apart from the object that they belong to. */
async function opened(
  disk: SimDisk,
  path: string,
  options: { readonly create: boolean },
): Promise<DiskFile> {
  const file = await disk.open(path, options);
  return {
    read: (into, position) => file.read(into, position),
    write: (parts, position) => file.write(parts, position),
    sync: () => file.sync(),
    truncate: (bytes) => file.truncate(bytes),
    size: () => file.size(),
    close: () => file.close(),
  };
}

/** What is left of a disk with one synced file, to which `work` was done. */
async function leftOf(
  work: (disk: SimDisk) => Promise<void>,
  max = 1_024,
): Promise<{ readonly coverage: string; readonly left: readonly string[] }> {
  const prepared = async (): Promise<SimDisk> => {
    const disk = new SimDisk({ seed: 1 });
    await write(disk, "/old", "old");
    disk.settle();
    await work(disk);
    return disk;
  };
  const { tried, coverage } = outcomesOf(await prepared(), max);
  const left: string[] = [];
  for (const outcome of tried) {
    const disk = await prepared();
    disk.restart(lossOf(parseOutcome(outcomeText(outcome))));
    const names = await disk.list("/");
    const texts = names.map(async (name) => `${name}=${await textOf(disk, `/${name}`)}`);
    left.push((await Promise.all(texts)).join(" "));
  }
  assert.equal(new Set(left).size, left.length, "each leaves something else");
  return { coverage, left: left.toSorted() };
}

async function write(disk: SimDisk, path: string, text: string): Promise<void> {
  const file = await disk.open(path, { create: true });
  await file.write([Buffer.from(text)], 0);
  await file.close();
}

async function textOf(disk: SimDisk, path: string): Promise<string> {
  const text = Buffer.from((await disk.readFile(path)) ?? []).toString();
  return text.replaceAll(/(.)\1*/gsu, (run, letter: string) => {
    return run.length < 9 ? run : `${letter}${run.length}`;
  });
}

describe("simulator: what a power loss can leave", () => {
  it("a new file with and without its name, and with its name without its contents", async () => {
    const { coverage, left } = await leftOf((disk) => write(disk, "/new", "new"));
    assert.equal(coverage, "torn");
    assert.deepEqual(left, ["new= old=old", "new=new old=old", "old=old"]);
  });

  it("each prefix of a write's sectors", async () => {
    const { left } = await leftOf((disk) => write(disk, "/old", "n".repeat(1_300)));
    assert.deepEqual(left, ["old=n1024", "old=n1300", "old=n512", "old=old"]);
  });

  it("the old or the new name of a file, by a move not both and not neither", async () => {
    const { left } = await leftOf((disk) => disk.rename("/old", "/new"));
    assert.deepEqual(left, ["new=old", "old=old"]);
  });

  it("a sample where there is too much", async () => {
    const work = async (disk: SimDisk): Promise<void> => {
      for (let at = 0; at < 20; at += 1) await write(disk, `/n${at}`, "n");
    };
    const { coverage, left } = await leftOf(work, 64);
    assert.equal(coverage, "sample");
    assert.ok(left.length >= 64 && left.length <= 80, `${left.length}`);
    assert.ok(left.includes("old=old"));
    const torn = await leftOf((disk) => write(disk, "/old", "n".repeat(4_000)), 4);
    assert.deepEqual([torn.coverage, torn.left.length], ["whole", 3]);
  });
});
