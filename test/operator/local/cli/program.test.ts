import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Terminal } from "../../../../operator/local/cli/exit.ts";
import { runCommandLine } from "../../../../operator/local/cli/program.ts";
import { eventText } from "../../../../operator/local/cli/up-command.ts";
import { FakeStore, FakeStoreServer } from "../../../support/fake-store-server.ts";

interface Outcome {
  readonly status: number;
  readonly out: string;
  readonly err: string;
}

const NEVER = new AbortController().signal;

function resilver(...args: string[]): Promise<Outcome> {
  return stoppable(NEVER, ...args);
}

function stoppable(stop: AbortSignal, ...args: string[]): Promise<Outcome> {
  return run({ stop, isScreen: false }, args);
}

async function run(
  { stop, isScreen }: Pick<Terminal, "stop" | "isScreen">,
  args: readonly string[],
): Promise<Outcome> {
  let out = "";
  let err = "";
  const terminal: Terminal = {
    out: (text) => {
      out += typeof text === "string" ? text : Buffer.from(text).toString("latin1");
    },
    err: (text) => {
      err += text;
    },
    isScreen,
    interactive: false,
    stop,
    env: {},
  };
  const status = await runCommandLine(args, terminal, "1.2.3");
  return { status, out, err };
}

const LOCAL =
  "up status wipe corrupt kill restart pause resume lead replace force-quorum down demo".split(" ");
const COMMANDS = [
  [],
  ["local"],
  ...LOCAL.map((name) => ["local", name]),
  ...["put", "get", "list", "scan", "delete"].map((name) => [name]),
];

describe("command line", () => {
  let dir: string;

  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), "resilver-cli-"));
  });

  afterEach(() => {
    rmSync(dir, { recursive: true });
  });

  for (const command of COMMANDS) {
    it(`help of \`${["resilver", ...command].join(" ")}\``, async () => {
      const { status, out, err } = await resilver(...command, "--help");
      assert.deepEqual([status, err], [0, ""]);
      assert.match(out, /Usage: resilver/);
    });
  }

  it("prints its version", async () => {
    assert.deepEqual(await resilver("--version"), { status: 0, out: "1.2.3\n", err: "" });
  });

  const wrong: readonly (readonly [string, readonly string[], RegExp])[] = [
    ["no command", [], /Usage/],
    ["no local command", ["local"], /Usage/],
    ["an unknown command", ["heal"], /unknown command 'heal'/],
    ["an unknown option", ["local", "up", "--speed", "9"], /unknown option '--speed'/],
    ["too many replicas", ["local", "up", "--replicas", "10"], /'10' is invalid.*from 1 to 9/],
    ["a bad port", ["local", "up", "--port", "http"], /'http' is invalid.*from 1 to 65000/],
    ["a bad size", ["local", "demo", "--size", "big"], /'big' is invalid.*128MiB/],
    ["a bad victim", ["local", "demo", "--victim", "me"], /'me' is invalid.*follower, leader/],
    ["a missing replica", ["local", "kill"], /missing required argument 'replica'/],
    ["two kinds of wipe", ["local", "wipe", "r", "--wal", "--state"], /cannot be used with/],
    ["a missing spare", ["local", "replace", "r"], /missing required argument 'spare'/],
    ["a bad namespace", ["local", "up", "--namespaces", "a,a"], /'a,a' is invalid.*different/],
    ["no such value", ["put", "k", "--server", "h:1", "--file", "/no/f"], /--file \/no\/f: ENOENT/],
    ["a bad server", ["get", "k", "--server", "here"], /'here' is invalid.*host:port/],
    ["no value", ["put", "k", "--server", "h:1"], /either VALUE or --file/],
  ];
  for (const [name, args, message] of wrong) {
    it(`wrong usage: ${name}: status 2, says what is allowed`, async () => {
      const { status, out, err } = await resilver(...args);
      assert.equal(status, 2, out + err);
      assert.match(err, message);
    });
  }

  it("without a running store: status 1, says how to start one", async () => {
    for (const args of [["status"], ["wipe", "resilver-0"], ["down"], ["kill", "resilver-0"]]) {
      const { status, err } = await resilver("local", ...args, "--dir", dir);
      assert.equal(status, 1);
      assert.match(err, /no store is running in .*resilver local up --dir/);
    }
  });

  it("data commands need a store's directory or servers", async () => {
    const { status, err } = await resilver("get", "k", "--dir", dir);
    assert.equal(status, 2);
    assert.match(err, /--dir .*: there is no local store; allowed: its directory, or --server/);
  });

  it("an unreachable server: status 1 within the time given", async () => {
    const args = ["get", "k", "--server", "127.0.0.1:1", "--timeout", "300"];
    const { status, err } = await resilver(...args);
    assert.equal(status, 1);
    assert.match(err, /UNAVAILABLE/);
  });

  it("a delete that had to be sent twice does not claim that there was no record", async () => {
    const store = new FakeStore(1);
    const server = new FakeStoreServer(store);
    await server.start();
    store.setLeader(0, server.address);
    const at = ["--server", server.address];
    try {
      assert.equal((await resilver("put", "k", "v", ...at)).status, 0);
      server.fault = "applyThenBreak";
      const { status, err } = await resilver("delete", "k", ...at);
      assert.equal(status, 0, err);
      assert.match(err, /k: no such record; sent twice, the first may have deleted it/);
      const again = await resilver("delete", "k", ...at);
      assert.deepEqual([again.status, again.err], [1, "resilver: k: no such record\n"]);
    } finally {
      server.stop();
    }
  });

  it("get ends the line on a screen, colours or not; a pipe has the very bytes", async () => {
    const store = new FakeStore(1);
    const server = new FakeStoreServer(store);
    await server.start();
    store.setLeader(0, server.address);
    const at = ["--server", server.address];
    const value = join(dir, "value");
    writeFileSync(value, Buffer.from([0xff, 0x00, 0x76]));
    try {
      assert.equal((await resilver("put", "k", "--file", value, ...at)).status, 0);
      assert.equal((await resilver("get", "k", ...at)).out, "\xff\0v");
      const shown = await run({ stop: NEVER, isScreen: true }, ["get", "k", ...at]);
      assert.equal(shown.out, "\xff\0v\n");
    } finally {
      server.stop();
    }
  });

  const hanging: readonly (readonly [string, readonly string[], string])[] = [
    ["put", ["k", "v"], "; what was sent may be done all the same"],
    ["delete", ["k"], "; what was sent may be done all the same"],
    ["get", ["k"], ""],
    ["list", [], ""],
    ["scan", [], ""],
  ];
  for (const [command, args, outcome] of hanging) {
    it(`${command} ends at a signal though its server says nothing`, async () => {
      const store = new FakeStore(1);
      const server = new FakeStoreServer(store);
      await server.start();
      store.setLeader(0, server.address);
      const stop = new AbortController();
      server.fault = "silent";
      server.asked = () => stop.abort(new Error("stopped by SIGTERM"));
      try {
        const run = stoppable(stop.signal, command, ...args, "--server", server.address);
        const said = `resilver: stopped by SIGTERM${outcome}\n`;
        assert.deepEqual(await run, { status: 1, out: "", err: said });
      } finally {
        server.stop();
      }
    });
  }

  it("a directory that cannot be made, or that is somebody else's: status 1", async () => {
    const file = join(dir, "file");
    writeFileSync(file, "");
    const under = await resilver("local", "up", "--dir", join(file, "store"));
    assert.equal(under.status, 1);
    assert.match(under.err, /--dir: cannot make/);
    // Where making a directory with its parents would go on for ever.
    const proc = await resilver("local", "up", "--dir", "/proc/none");
    assert.equal(proc.status, 1);
    assert.match(proc.err, /--dir: cannot make/);
    writeFileSync(join(dir, "store.json"), '{"replicas":3}');
    const foreign = await resilver("local", "up", "--dir", dir);
    assert.equal(foreign.status, 1);
    assert.match(foreign.err, /store\.json: storeId/);
  });

  it("tells of what people want to hear, and of nothing else", () => {
    const key = { namespace: "default", shard: 0 };
    const stopped = { kind: "stopped", ...key, reason: "QuorumLost", message: "why" } as const;
    assert.equal(eventText(stopped), "default/0: STOPPED: QuorumLost: why");
    assert.equal(eventText({ kind: "recordConflict", ...key }), null);
  });
});
