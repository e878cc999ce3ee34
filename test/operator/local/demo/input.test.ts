import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { inputRecords, PART_BYTES, projectModules } from "../../../../operator/local/demo/input.ts";

describe("demo input", () => {
  let dir: string;

  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), "resilver-input-"));
  });

  afterEach(() => {
    rmSync(dir, { recursive: true });
  });

  async function collect(bytesMax: number) {
    const records: { key: string; value: Uint8Array }[] = [];
    for await (const record of inputRecords(dir, bytesMax)) records.push(record);
    return records;
  }

  it("takes every file, path as key, bytes as value, in the same order everywhere", async () => {
    mkdirSync(join(dir, "b", "c"), { recursive: true });
    writeFileSync(join(dir, "b", "c", "z"), "deep");
    writeFileSync(join(dir, "a"), "first");
    symlinkSync(dir, join(dir, "loop"));
    const records = await collect(20);
    assert.deepEqual(
      records.map(({ key, value }) => [key, Buffer.from(value).toString()]),
      [
        ["files/0/a", "first"],
        ["files/0/b/c/z", "deep"],
      ],
    );
  });

  it("goes round again under another prefix until there is enough", async () => {
    writeFileSync(join(dir, "a"), Buffer.alloc(100));
    const records = await collect(320);
    assert.deepEqual(
      records.map(({ key }) => key),
      ["files/0/a", "files/1/a", "files/2/a"],
    );
  });

  it("cuts large files into numbered parts", async () => {
    const bytes = Buffer.alloc(2 * PART_BYTES + 10, "resilver");
    writeFileSync(join(dir, "big"), bytes);
    const records = await collect(bytes.length + 50);
    assert.deepEqual(
      records.map(({ key, value }) => [key, value.length]),
      [
        ["files/0/big.part-0000", PART_BYTES],
        ["files/0/big.part-0001", PART_BYTES],
        ["files/0/big.part-0002", 10],
      ],
    );
    assert.ok(Buffer.concat(records.map(({ value }) => value)).equals(bytes));
  });

  it("refuses a directory without files", async () => {
    await assert.rejects(collect(1), /--input .*: there are no files to load/);
  });

  it("finds the project's node_modules", () => {
    assert.match(projectModules() ?? "", /node_modules$/);
  });
});
