import assert from "node:assert/strict";
import { SimDisk } from "./sim-disk.ts";

async function write(disk: SimDisk, path: string, text: string, position = 0): Promise<void> {
  const file = await disk.open(path, { create: true });
  await file.write([Buffer.from(text)], position);
  await file.close();
}

async function syncFile(disk: SimDisk, path: string): Promise<void> {
  const file = await disk.open(path, { create: false });
  await file.sync();
  await file.close();
}

async function textOf(disk: SimDisk, path: string): Promise<string | null> {
  const bytes = await disk.readFile(path);
  return bytes === null ? null : Buffer.from(bytes).toString();
}

/** What 60 seeds leave of the same work after a power loss. */
async function outcomes(
  work: (disk: SimDisk) => Promise<void>,
  see: (disk: SimDisk) => Promise<string | null>,
): Promise<Set<string | null>> {
  const seen = new Set<string | null>();
  for (let seed = 0; seed < 60; seed += 1) {
    const disk = new SimDisk({ seed });
    await work(disk);
    disk.powerOff();
    await assert.rejects(disk.readFile("/a"), /power/u);
    disk.restart();
    seen.add(await see(disk));
  }
  return seen;
}

describe("simulated disk", () => {
  it("keeps what was synced with its name, over any power loss", async () => {
    const seen = await outcomes(
      async (disk) => {
        await write(disk, "/a", "safe");
        await syncFile(disk, "/a");
        await disk.syncDir("/");
      },
      (disk) => textOf(disk, "/a"),
    );
    assert.deepEqual([...seen], ["safe"]);
  });

  it("may lose the name or the contents of what was not synced", async () => {
    const named = await outcomes(
      async (disk) => {
        await write(disk, "/a", "x");
        await syncFile(disk, "/a");
      },
      (disk) => textOf(disk, "/a"),
    );
    assert.deepEqual(named, new Set(["x", null]));
    const written = await outcomes(
      async (disk) => {
        await write(disk, "/a", "x");
        await disk.syncDir("/");
      },
      (disk) => textOf(disk, "/a"),
    );
    assert.deepEqual(written, new Set(["", "x"]));
  });

  it("tears writes by sectors, to a prefix and to any subset", async () => {
    const old = "o".repeat(2048);
    const seen = await outcomes(
      async (disk) => {
        await write(disk, "/a", old);
        await syncFile(disk, "/a");
        await disk.syncDir("/");
        await write(disk, "/a", "n".repeat(2048));
      },
      async (disk) => {
        const text = (await textOf(disk, "/a")) ?? "";
        const sectors = text.match(/.{512}/gu) ?? [];
        assert.ok(sectors.every((sector) => /^(o+|n+)$/u.test(sector)));
        return sectors.map((sector) => sector[0]).join("");
      },
    );
    for (const outcome of ["oooo", "nnnn", "nnoo"]) assert.ok(seen.has(outcome), outcome);
    assert.ok([...seen].some((outcome) => outcome?.includes("on")));
  });

  it("renames atomically over a power loss", async () => {
    const seen = await outcomes(
      async (disk) => {
        for (const [path, text] of [
          ["/a", "old"],
          ["/b", "new"],
        ] as const) {
          await write(disk, path, text);
          await syncFile(disk, path);
        }
        await disk.syncDir("/");
        await disk.rename("/b", "/a");
      },
      async (disk) => `${await textOf(disk, "/a")} ${await textOf(disk, "/b")}`,
    );
    assert.deepEqual(seen, new Set(["new null", "old new"]));
  });

  it("loses a move between directories of which only the source was synced", async () => {
    const seen = await outcomes(
      async (disk) => {
        await disk.makeDir("/x");
        await disk.makeDir("/y");
        await write(disk, "/x/a", "1");
        await syncFile(disk, "/x/a");
        for (const path of ["/", "/x", "/y"]) await disk.syncDir(path);
        await disk.rename("/x/a", "/y/a");
        await disk.syncDir("/x");
      },
      async (disk) => `${await textOf(disk, "/x/a")} ${await textOf(disk, "/y/a")}`,
    );
    assert.deepEqual(seen, new Set(["null 1", "null null"]));
  });

  it("keeps everything over a kill, but neither open files nor locks", async () => {
    const disk = new SimDisk({ seed: 1 });
    const file = await disk.open("/a", { create: true });
    await file.write([Buffer.from("kept")], 0);
    assert.ok((await disk.lock("/lock")) !== null);
    assert.equal(await disk.lock("/lock"), null);
    disk.kill();
    await assert.rejects(file.write([Buffer.from("x")], 0), /gone/u);
    assert.equal(await textOf(disk, "/a"), "kept");
    assert.ok((await disk.lock("/lock")) !== null);
  });

  it("fails syncs for good: what they covered is read back, and never durable", async () => {
    const disk = new SimDisk({ seed: 1 });
    await write(disk, "/a", "lost");
    await disk.syncDir("/");
    disk.failSyncs((path) => path === "/a");
    await assert.rejects(syncFile(disk, "/a"), { code: "IO", fatal: true });
    disk.failSyncs(() => false);
    await syncFile(disk, "/a");
    assert.equal(await textOf(disk, "/a"), "lost");
    disk.restart();
    assert.equal(await textOf(disk, "/a"), "");
  });

  it("is full at its quota, and has room again after a removal", async () => {
    const disk = new SimDisk({ seed: 1, quotaBytes: 10 });
    await write(disk, "/a", "12345678");
    assert.equal(await disk.freeBytes("/"), 2);
    await assert.rejects(write(disk, "/b", "123"), { code: "NO_SPACE", fatal: false });
    await disk.remove("/a");
    await write(disk, "/b", "123");
    assert.equal(await disk.usedBytes("/"), 3);
  });

  it("wipes and corrupts beneath its users", async () => {
    const disk = new SimDisk({ seed: 1 });
    await disk.makeDir("/x/y");
    await write(disk, "/x/y/a", "abc");
    disk.corrupt("/x/y/a", 1, 1);
    assert.equal(await textOf(disk, "/x/y/a"), "acc");
    disk.wipe("/x");
    assert.deepEqual(await disk.list("/"), []);
  });

  it("does the same with the same seed", async () => {
    const traces = await Promise.all(
      [7, 7, 8].map(async (seed) => {
        const disk = new SimDisk({ seed });
        for (let index = 0; index < 40; index += 1)
          await write(disk, `/${index}`, "x".repeat(2000));
        disk.restart();
        return JSON.stringify(await disk.list("/"));
      }),
    );
    assert.equal(traces[0], traces[1]);
    assert.notEqual(traces[0], traces[2]);
  });

  it("counts operations and goes down at the one it was told", async () => {
    const disk = new SimDisk({ seed: 1 });
    disk.crashAfter(3);
    await write(disk, "/a", "1");
    await assert.rejects(write(disk, "/a", "2"), /power went off/u);
    assert.deepEqual([disk.down, disk.operations], [true, 3]);
  });

  it("takes as long as its clock is told to sleep", async () => {
    const slept: number[] = [];
    const clock = {
      nowMs: (): number => 0,
      monotonicMs: (): number => 0,
      sleep: async (ms: number): Promise<void> => {
        slept.push(ms);
      },
      timer: (): { cancel(): void } => ({ cancel: () => undefined }),
      yield: async (): Promise<void> => undefined,
    };
    const ms = ({ name }: { readonly name: string }): number => (name === "write" ? 7 : 1);
    await write(new SimDisk({ seed: 1, latency: { clock, ms } }), "/a", "1");
    assert.deepEqual(slept, [1, 7]);
  });

  it("covers up a write that went nowhere until its pages are forgotten", async () => {
    const disk = new SimDisk({ seed: 1 });
    await write(disk, "/a", "old");
    await syncFile(disk, "/a");
    await disk.syncDir("/");
    disk.setAstray(() => null);
    await write(disk, "/a", "new and longer");
    await syncFile(disk, "/a");
    disk.setAstray(null);
    assert.equal(await textOf(disk, "/a"), "new and longer");
    disk.kill();
    disk.forgetPages();
    assert.equal(await textOf(disk, "/a"), `old${"\0".repeat("new and longer".length - 3)}`);
  });

  it("puts a misdirected write over something else of the file, and never beyond its end", async () => {
    const disk = new SimDisk({ seed: 1 });
    await write(disk, "/a", "0123456789");
    await syncFile(disk, "/a");
    await disk.syncDir("/");
    for (const [lands, expected] of [
      [0, "AB23456789"],
      [9, "AB2345678A"],
      [512, "AB2345678A"],
    ] as const) {
      disk.setAstray((path, position) => (path === "/a" && position === 4 ? lands : undefined));
      await write(disk, "/a", "AB", 4);
      await syncFile(disk, "/a");
      disk.forgetPages();
      assert.equal(await textOf(disk, "/a"), expected);
    }
  });

  it("cannot read a bad sector, as long as it is not written as a whole", async () => {
    const disk = new SimDisk({ seed: 1 });
    await write(disk, "/a", "x".repeat(2_000));
    disk.failReads("/a", 600);
    await assert.rejects(disk.readFile("/a"), /cannot be read/u);
    const file = await disk.open("/a", { create: false });
    const into = new Uint8Array(512);
    assert.equal(await file.read(into, 0), 512);
    await assert.rejects(file.read(into, 500), /cannot be read/u);
    disk.kill();
    await assert.rejects(disk.readFile("/a"), /cannot be read/u);
    await write(disk, "/a", "y".repeat(100), 600);
    await assert.rejects(disk.readFile("/a"), /cannot be read/u);
    await write(disk, "/a", "y".repeat(512), 512);
    assert.equal((await textOf(disk, "/a"))?.length, 2_000);
    disk.failReads("/a", 0);
    disk.healReads();
    assert.equal((await textOf(disk, "/a"))?.length, 2_000);
  });

  it("lists every file with its size", async () => {
    const disk = new SimDisk({ seed: 1 });
    await disk.makeDir("/d/e");
    await write(disk, "/d/e/f", "four");
    await write(disk, "/a", "");
    assert.deepEqual(disk.files(), [
      { path: "/a", bytes: 0 },
      { path: "/d/e/f", bytes: 4 },
    ]);
  });
});
