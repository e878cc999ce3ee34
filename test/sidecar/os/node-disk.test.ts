import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { constants } from "node:fs";
import { chmod, type FileHandle, mkdtemp, open, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pageAlignedBuffer } from "../../../sidecar/lib/page-aligned-buffer.ts";
import { DiskError } from "../../../sidecar/lib/ports/disk.ts";
import { skip } from "../../support/skip.ts";
import { createNodeDisk } from "../../../sidecar/os/node-disk.ts";

/** Takes the lock named by its argument and waits to be killed. */
const HOLDER = `
const { createNodeDisk } = await import(${JSON.stringify(
  new URL("../../../sidecar/os/node-disk.ts", import.meta.url).href,
)});
const lock = await createNodeDisk().lock(process.argv[1]);
console.log(lock === null ? "refused" : "held");
setInterval(() => undefined, 1000);
`;

describe("node disk", () => {
  const disk = createNodeDisk();
  let dir: string;
  beforeEach(async () => {
    dir = await mkdtemp(join(tmpdir(), "resilver-disk-"));
  });
  afterEach(() => rm(dir, { recursive: true, force: true }));

  it("writes parts at a position and reads them back", async () => {
    const file = await disk.open(`${dir}/a`, { create: true });
    // More parts than one system call takes.
    const parts = Array.from({ length: 3000 }, (_, index) => Uint8Array.of(index & 255, 1));
    await file.write(parts, 10);
    await file.write([], 0);
    await file.sync();
    assert.equal(await file.size(), 6010);
    const into = new Uint8Array(7000);
    assert.equal(await file.read(into, 10), 6000);
    assert.deepEqual(into.subarray(0, 6000), Uint8Array.from(Buffer.concat(parts)));
    assert.equal(await file.read(into, 6010), 0);
    await file.truncate(20);
    assert.equal(await file.read(into, 0), 20);
    await file.close();
    await file.close();
    await assert.rejects(file.sync(), DiskError);
  });

  it("writes past the page cache what is aligned, and everything else too", async () => {
    const file = await disk.open(`${dir}/a`, { create: true, uncached: true });
    const page = pageAlignedBuffer(2 * 4096).fill(1);
    const odd = Buffer.alloc(4096 + 8, 2).subarray(8);
    await file.write([page], 4096);
    await file.write([odd], 0);
    await file.write([Buffer.alloc(5, 3)], 3 * 4096);
    await file.write([page.subarray(0, 4096)], 4096 + 7);
    // Memory at an odd place: refused by the kernel, and written the other way, all at once.
    const misplaced = Buffer.alloc(5 * 4096, 1);
    await Promise.all(
      [0, 1].map((at) => file.write([misplaced.subarray(8, 8 + 4096)], (1 + at) * 4096)),
    );
    await file.sync();
    const into = Buffer.alloc(4 * 4096);
    assert.equal(await file.read(into, 0), 3 * 4096 + 5);
    const expected = Buffer.concat([odd, page, Buffer.alloc(5, 3)]);
    assert.ok(into.subarray(0, expected.length).equals(expected));
    await file.close();
    await assert.rejects(file.write([page], 0), DiskError);
  });

  it("aligned memory begins at a page, or direct writes would be refused", async function () {
    const { O_CREAT, O_WRONLY, O_DIRECT } = constants;
    let handle: FileHandle;
    try {
      handle = await open(`${dir}/direct`, O_CREAT | O_WRONLY | O_DIRECT);
    } catch (error) {
      return skip(this, `no direct writes in ${dir}: ${(error as Error).message}`);
    }
    try {
      await handle.write(pageAlignedBuffer(4096), 0, 4096, 0);
    } finally {
      await handle.close();
    }
  });

  it("names what is not there", async () => {
    await assert.rejects(disk.open(`${dir}/none`, { create: false }), { code: "NOT_FOUND" });
    await assert.rejects(disk.rename(`${dir}/none`, `${dir}/b`), { code: "NOT_FOUND" });
    await assert.rejects(disk.syncDir(`${dir}/none`), { code: "NOT_FOUND", fatal: false });
    assert.equal(await disk.readFile(`${dir}/none`), null);
    assert.equal(await disk.exists(`${dir}/none`), false);
    assert.deepEqual(await disk.list(`${dir}/none`), []);
    assert.equal(await disk.usedBytes(`${dir}/none`), 0);
    await disk.remove(`${dir}/none`);
  });

  it("makes, lists, measures, renames and removes", async () => {
    await disk.makeDir(`${dir}/x/y`);
    await writeFile(`${dir}/x/y/2`, "22");
    await writeFile(`${dir}/x/1`, "1");
    await disk.syncDir(`${dir}/x/y`);
    assert.deepEqual(await disk.list(`${dir}/x`), ["1", "y"]);
    assert.deepEqual(await disk.list(`${dir}/x/1`), [], "a file is no directory");
    assert.equal(await disk.usedBytes(`${dir}/x`), 3);
    await disk.rename(`${dir}/x/1`, `${dir}/x/y/2`);
    assert.deepEqual(await disk.readFile(`${dir}/x/y/2`), Buffer.from("1"));
    await disk.remove(`${dir}/x`);
    assert.equal(await disk.exists(`${dir}/x`), false);
    assert.ok((await disk.freeBytes(dir)) > 0);
  });

  it("says when it may not", async function () {
    await writeFile(`${dir}/secret`, "x");
    await chmod(`${dir}/secret`, 0);
    if (process.getuid?.() === 0) skip(this, "root may open every file");
    await assert.rejects(disk.open(`${dir}/secret`, { create: false }), { code: "DENIED" });
  });

  it("says when the device is full", async function () {
    if ((await stat("/dev/full").catch(() => null)) === null) skip(this, "no /dev/full here");
    const file = await disk.open("/dev/full", { create: false });
    await assert.rejects(file.write([Uint8Array.of(1)], 0), { code: "NO_SPACE", fatal: false });
    await file.close();
  });

  it("locks against another holder until released", async () => {
    const lock = await disk.lock(`${dir}/lock`);
    assert.ok(lock !== null);
    assert.equal(await disk.lock(`${dir}/lock`), null);
    await lock.release();
    const again = await disk.lock(`${dir}/lock`);
    assert.ok(again !== null);
    await again.release();
  });

  it("locks against another process until that one is killed", async () => {
    const args = ["--import", "tsx", "--input-type=module", "-e", HOLDER, `${dir}/lock`];
    const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
    try {
      const [said] = (await once(child.stdout, "data")) as [Buffer];
      assert.equal(said.toString().trim(), "held");
      assert.equal(await disk.lock(`${dir}/lock`), null);
    } finally {
      const exited = once(child, "exit");
      child.kill("SIGKILL");
      await exited;
    }
    const lock = await disk.lock(`${dir}/lock`);
    assert.ok(lock !== null);
    await lock.release();
  });
});
