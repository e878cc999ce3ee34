import { type Command, Option } from "commander";
import { z } from "zod";
import { formatSize, parseSize } from "../sizes.ts";
import { sendControl, stopStore } from "../control-client.ts";
import { DEMO_WHAT, DEMO_VICTIMS, type DemoOptions } from "../demo/options.ts";
import { runDemo } from "../demo/demo.ts";
import { REPLICAS_MAX, SHARDS_MAX } from "../settings.ts";
import { integer, namespaces, size } from "./arguments.ts";
import { EXIT, ExitRequest, type Terminal, UsageError } from "./exit.ts";
import { showStatus, type StatusOptions } from "./status-command.ts";
import { runUp, type UpOptions } from "./up-command.ts";

interface DirOption {
  readonly dir: string;
}

const DIR = ["--dir <dir>", "directory of the store", ".resilver"] as const;

/** Adds `resilver local ...`: a store on this machine, its damage and its repair. */
export function addLocalCommands(program: Command, terminal: Terminal): void {
  const local = program.command("local").description("a store on this machine").helpCommand(false);
  const wait = { signal: terminal.stop };
  addUp(local, terminal);
  addStatus(local, terminal);
  addWipe(local, terminal);
  const actions = [
    ["corrupt", "flip bits in a replica's log and start it again", "damaged"],
    ["kill", "kill a replica (SIGKILL); it stays stopped until restart", "killed"],
    ["restart", "stop a replica in order and start it; also starts one that is stopped", "started"],
    ["pause", "stop a replica in its tracks (SIGSTOP)", "paused"],
    ["resume", "let a paused replica go on (SIGCONT)", "resumed"],
    [
      "lead",
      "move leadership to a replica by an election; of several shards, for half a minute",
      "leads",
    ],
  ] as const;
  for (const [name, description, done] of actions) {
    local
      .command(name)
      .description(description)
      .argument("<replica>", "for example resilver-0")
      .option(...DIR)
      .action(async (replica: string, { dir }: DirOption) => {
        await sendControl(dir, name, { replica }, wait);
        terminal.out(`${replica}: ${done}\n`);
      });
  }
  addReplace(local, terminal);
  addForceQuorum(local, terminal);
  local
    .command("down")
    .description("stop the store; its data stays")
    .option(...DIR)
    .action(async ({ dir }: DirOption) => {
      const left = await stopStore(dir, terminal.stop);
      const who = left.map(({ node }) => node).join(", ");
      terminal.out(who === "" ? "stopped\n" : `stopped ${who}, which a killed \`up\` had left\n`);
    });
  addDemo(local, terminal);
}

function addUp(local: Command, terminal: Terminal): void {
  local
    .command("up")
    .description("run a store until stopped (Ctrl-C, SIGTERM or `down`)")
    .option(
      "--replicas <count>",
      "default 3; of an even number one is a spare of each shard",
      integer(1, REPLICAS_MAX),
    )
    .option("--shards <count>", "of each namespace, default 1", integer(1, SHARDS_MAX))
    .option("--namespaces <name,...>", "default `default`", namespaces)
    .option("--port <port>", "first of a block of ports, default 6648", integer(1, 65_000))
    .option(...DIR)
    .action((options: UpOptions) => runUp(options, terminal));
}

function addStatus(local: Command, terminal: Terminal): void {
  local
    .command("status")
    .description("what runs, who leads, and how far recoveries are")
    .option(...DIR)
    .addOption(new Option("--json", "as JSON").conflicts("watch"))
    .option("--watch", "again and again until Ctrl-C")
    .action((options: StatusOptions) => showStatus(options, terminal));
}

function addWipe(local: Command, terminal: Terminal): void {
  local
    .command("wipe")
    .description("kill a replica, remove its directories, start it again")
    .argument("<replica>", "for example resilver-0")
    .option(...DIR)
    .addOption(new Option("--wal", "its log only").conflicts(["state", "all"]))
    .addOption(new Option("--state", "its records only").conflicts(["wal", "all"]))
    .addOption(new Option("--all", "both (default)"))
    .action(async (replica: string, options: DirOption & { wal?: true; state?: true }) => {
      const what = options.wal === true ? "wal" : options.state === true ? "state" : "all";
      await sendControl(options.dir, "wipe", { replica, what }, { signal: terminal.stop });
      terminal.out(`${replica}: wiped (${what}) and started again\n`);
    });
}

function addReplace(local: Command, terminal: Terminal): void {
  local
    .command("replace")
    .description("have a spare take a replica's place in its shards, one member at a time")
    .argument("<replica>", "who leaves, for example resilver-0")
    .argument("<spare>", "who takes its place; `up --replicas 4` has one")
    .option(...DIR)
    .action(async (replica: string, spare: string, { dir }: DirOption) => {
      const { shards } = replacedSchema.parse(
        await sendControl(dir, "replace", { replica, spare }, { signal: terminal.stop }),
      );
      for (const shard of shards) {
        terminal.out(`${shard}: ${spare} will take the place of ${replica}; see \`status\`\n`);
      }
    });
}

const replacedSchema = z.object({ shards: z.array(z.string()) });

function addForceQuorum(local: Command, terminal: Terminal): void {
  local
    .command("force-quorum")
    .description("go on with one survivor after a majority was lost: what it lacks is lost")
    .argument("<survivor>", "the replica to go on with; all others must be stopped (kill)")
    .option(
      "--acknowledge <phrase>",
      'exactly "lose everything after offset N", N being the survivor\'s last offset, and more where ' +
        "another replica has newer entries; left out: says what would be needed, and does nothing",
    )
    .option("--namespace <name>", "namespace", "default")
    .option("--shard <id>", "shard", integer(0, 2 ** 31), 0)
    .option(...DIR)
    .action(
      async (
        survivor: string,
        options: DirOption & { acknowledge?: string; namespace: string; shard: number },
      ) => {
        const { dir, acknowledge = "", namespace, shard } = options;
        const order = { survivor, acknowledgeDataLoss: acknowledge, namespace, shard };
        await sendControl(dir, "force-quorum", order, { signal: terminal.stop });
        terminal.out(`${namespace}/${shard}: goes on with ${survivor}\n`);
      },
    );
}

function addDemo(local: Command, terminal: Terminal): void {
  const max = parseSize("64GiB") ?? 0;
  const min = parseSize("1MiB") ?? 0;
  local
    .command("demo")
    .description(
      "load real files, wipe a replica under load, watch it come back, prove nothing lost",
    )
    .option("--size <bytes>", "how much to load, such as 1GiB", size(min, max), 128 * 1024 * 1024)
    .addOption(choice("--victim <role>", "which replica to wipe", DEMO_VICTIMS, "follower"))
    .addOption(choice("--what <what>", "what of it to wipe", DEMO_WHAT, "all"))
    .option("--quiet", "no writes after the wipe", false)
    .option("--again <times>", "wipe again so many times", integer(0, 1_000), 0)
    .option("--seed <number>", "which replicas, which values", integer(0, 2 ** 32 - 1), 1)
    .option("--replicas <count>", "size of the store", integer(3, REPLICAS_MAX), 3)
    .option(
      "--port <port>",
      "first of a block of ports; left out: any free ones",
      integer(1, 65_000),
    )
    .option("--dir <dir>", "keep the store here; left out: removed at the end")
    .option("--input <dir>", "take files from here; left out: the project's node_modules")
    .option("--json <file>", "write the result as JSON")
    .option("--once", "end when done, instead of at Ctrl-C", false)
    .action(async (options: DemoOptions) => {
      if (options.size < min) throw new UsageError(`--size ${formatSize(options.size)}`);
      const ok = await runDemo(options, terminal);
      throw new ExitRequest(ok ? EXIT.done : EXIT.failed);
    });
}

function choice(flags: string, help: string, allowed: readonly string[], preset: string): Option {
  return new Option(flags, help).choices(allowed).default(preset);
}
