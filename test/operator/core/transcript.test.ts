/**
 * The plan over scripted records and observations: `test/testdata/operator/*.txt`. A line is a
 * command, what follows `----` up to an empty line is what it must answer. REWRITE=1 writes the
 * answers; read the difference and keep it only if you understand and want it.
 */
import assert from "node:assert/strict";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { PlanWorld } from "./plan-world.ts";

const DIRECTORY = new URL("../../testdata/operator/", import.meta.url);

function replay(text: string): string {
  const world = new PlanWorld();
  const out: string[] = [];
  let answering = false;
  for (const line of text.split("\n")) {
    if (answering) {
      answering = line !== "";
      continue;
    }
    if (line === "----") {
      answering = true;
      continue;
    }
    if (line === "" || line.startsWith("#")) {
      // One empty line ends each answer; comments keep their own.
      if (line !== "") out.push(line);
      continue;
    }
    out.push(line, "----", world.run(line), "");
  }
  return `${out.join("\n").trimEnd()}\n`;
}

describe("plan transcripts", () => {
  const files = readdirSync(DIRECTORY).filter((name) => name.endsWith(".txt"));
  it("there are some", () => {
    assert.ok(files.length >= 10);
  });
  for (const file of files) {
    it(file.replace(".txt", "").replaceAll("-", " "), () => {
      const url = new URL(file, DIRECTORY);
      const expected = readFileSync(url, "utf8");
      const actual = replay(expected);
      if (process.env["REWRITE"] === "1") writeFileSync(url, actual);
      else assert.equal(actual, expected);
    });
  }
});
