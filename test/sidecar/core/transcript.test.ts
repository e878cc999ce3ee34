import assert from "node:assert/strict";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import type { Input } from "../../../sidecar/core/input.ts";
import { World } from "./transcript-world.ts";

/*
 * Transcripts of the replication core: `> command` lines and what came of them. REWRITE=1 writes
 * the files anew; commit the change only if you understand every line of it.
 */

const DIR = new URL("../../testdata/core/", import.meta.url);

type Options = Readonly<Record<string, string>>;
type Command = (world: World, node: string, options: Options) => void;

const order = (world: World, node: string, options: Options): Record<string, unknown> => ({
  namespace: "default",
  shard: 0,
  term: Number(options["term"] ?? 0),
  storeId: options["store"] ?? "store",
  targetUid: options["uid"] ?? world.node(node).uid,
  generation: Number(options["generation"] ?? 0),
});

const COMMANDS: Readonly<Record<string, Command>> = {
  fresh: (world, node, { uid }) => world.add(node, uid ?? `${node}1`, false),
  newterm: (world, node, options) => {
    const bootstrap = "bootstrap" in options;
    const { acked } = options;
    const ackedTerm = acked === undefined ? undefined : Number(acked);
    const request = { ...order(world, node, options), bootstrap, ackedTerm };
    world.step(node, { kind: "newTerm", id: world.nextId(), request } as unknown as Input);
  },
  lead: (world, node, options) => {
    const members = (options["members"] ?? "").split(",").filter((text) => text !== "");
    const sets = (options["ensembles"] ?? "").split("/").map((set) => ({ nodes: set.split(",") }));
    const request = {
      ...order(world, node, options),
      bootCounter: Number(options["boot"] ?? world.node(node).bootCounter),
      members: members.map((text) => world.member(text)),
      lossEpoch: 0,
      voterSets: sets,
    };
    const id = world.nextId();
    world.step(node, { kind: "becomeLeader", id, request, nowMs: 1 } as unknown as Input);
  },
  ensemble: (world, node, options) => {
    const voterSets = (options["sets"] ?? "").split("/").map((set) => ({ nodes: set.split(",") }));
    const request = { ...order(world, node, options), voterSets };
    const id = world.nextId();
    world.step(node, { kind: "updateEnsemble", id, request, nowMs: 1 } as unknown as Input);
  },
  follow: (world, node, options) => {
    const request = {
      ...order(world, node, options),
      member: world.member(options["member"] ?? ""),
    };
    world.step(node, { kind: "addFollower", id: world.nextId(), request } as unknown as Input);
  },
  unfollow: (world, node, options) => {
    const { member = "", old = "" } = options;
    const request = { ...order(world, node, options), node: member, replicaUid: old };
    world.step(node, { kind: "removeFollower", id: world.nextId(), request } as unknown as Input);
  },
  promote: (world, node, options) => {
    const member = options["member"] ?? "";
    const replicaUid = world.node(member).uid;
    const request = { ...order(world, node, options), node: member, replicaUid };
    world.step(node, { kind: "promote", id: world.nextId(), request } as unknown as Input);
  },
  enrol: (world, node, options) => {
    const leaderUid = world.node(options["leader"] ?? "").uid;
    const request = { ...order(world, node, options), leaderUid };
    world.step(node, { kind: "enrol", id: world.nextId(), request } as unknown as Input);
  },
  write: (world, node, options) => {
    const value = new TextEncoder().encode(`v=${options["value"] ?? ""}`);
    world.step(node, { kind: "propose", id: world.nextId(), value, nowMs: 1 });
  },
  read: (world, node) => world.step(node, { kind: "read", id: world.nextId() }),
  cancel: (world, node, { id }) => world.step(node, { kind: "cancelled", id: Number(id) }),
  reads: (world, node) => {
    const pending = world.node(node).core.leader?.reads.pending ?? 0;
    world.log(`${node}: ${pending} reads wait`);
  },
  full: (world, node) => world.step(node, { kind: "logFull" }),
  space: (world, node, options) => world.step(node, { kind: "space", short: "short" in options }),
  tick: (world, node, options) => {
    world.nowMs += Number(options["ms"] ?? 1000);
    world.step(node, { kind: "tick", nowMs: world.nowMs });
  },
  persist: (world, node) => void world.persist(node),
  sync: (world, node) => void world.sync(node),
  restart: (world, node) => world.restart(node),
  copy: (world, node) => world.copyVolume(node),
  rollback: (world, node) => world.rollBack(node),
  wipe: (world, node, { uid }) => world.wipe(node, uid ?? `${node}2`),
  snapshot: (world, node, options) => world.installSnapshot(node, options["to"] ?? ""),
  deliver: (world, node) => {
    const [from = null, to = null] = node === "" ? [] : node.split("->");
    world.deliver(from, to, false);
  },
  drop: (world, node) => {
    const [from = "", to = ""] = node.split("->");
    world.drop(from, to);
  },
  settle: (world) => world.settle(),
  status: (world) => world.status(),
  trim: (world, node, { to }) => world.step(node, { kind: "trimmed", offset: Number(to) }),
};

/** Runs one command line and returns what it printed. */
function run(world: World, line: string): string[] {
  const [name = "", ...words] = line.split(/\s+/u);
  const command = COMMANDS[name];
  if (command === undefined)
    return [`unknown command ${name}; have: ${Object.keys(COMMANDS).join(" ")}`];
  const node = words[0]?.includes("=") === true ? "" : (words[0] ?? "");
  const pairs = words.filter((word, index) => index > 0 || word !== node);
  const options = Object.fromEntries(
    pairs.map((word) => {
      const at = word.indexOf("=");
      return at < 0 ? [word, ""] : [word.slice(0, at), word.slice(at + 1)];
    }),
  );
  try {
    command(world, node, options);
  } catch (error) {
    return [...world.takeLines(), `error: ${(error as Error).message}`];
  }
  return world.takeLines();
}

function replay(text: string): string {
  const world = new World();
  const out: string[] = [];
  for (const line of text.split("\n")) {
    if (line.startsWith("#") || line.trim() === "") out.push(line);
    else if (line.startsWith("> ")) {
      out.push(line, ...run(world, line.slice(2)).map((printed) => `  ${printed}`));
    }
  }
  return `${out.join("\n").trimEnd()}\n`;
}

describe("replication core: transcripts", () => {
  for (const file of readdirSync(DIR).filter((name) => name.endsWith(".txt"))) {
    it(file, () => {
      const path = new URL(file, DIR);
      const expected = readFileSync(path, "utf8");
      const actual = replay(expected);
      if (process.env["REWRITE"] === "1") writeFileSync(path, actual);
      else assert.equal(actual, expected);
    });
  }
});
