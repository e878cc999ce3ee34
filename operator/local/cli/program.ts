import { Command, CommanderError } from "commander";
import { ControlRefusal } from "../control-server.ts";
import { UnknownReplica } from "../platform.ts";
import { addDataCommands } from "./data-commands.ts";
import { EXIT, ExitRequest, type Terminal, UsageError } from "./exit.ts";
import { addLocalCommands } from "./local-commands.ts";
import { addSidecarCommand } from "./sidecar-command.ts";

/** Adds commands that live elsewhere. */
export type AddCommands = (program: Command, terminal: Terminal) => void;

/** The whole command line. */
function buildProgram(terminal: Terminal, version: string, more: readonly AddCommands[]): Command {
  const program = new Command("resilver")
    .description("A replicated store that rebuilds replicas whose disks were lost.")
    .version(version, "-V, --version", "print the version")
    .helpOption("-h, --help", "print help")
    .helpCommand(false)
    .showHelpAfterError("(add --help for more)")
    .addHelpText("after", "\nExit status: 0 done, 1 failed, 2 wrong usage.");
  addLocalCommands(program, terminal);
  addDataCommands(program, terminal);
  addSidecarCommand(program, terminal);
  for (const add of more) add(program, terminal);
  configure(program, terminal);
  return program;
}

/**
 * Runs one command line (without interpreter and script). Resolves with the exit status; never
 * rejects. `more` adds commands beside those of a local store.
 */
export async function runCommandLine(
  args: readonly string[],
  terminal: Terminal,
  version: string,
  more: readonly AddCommands[] = [],
): Promise<number> {
  const program = buildProgram(terminal, version, more);
  try {
    await program.parseAsync([...args], { from: "user" });
    return EXIT.done;
  } catch (error) {
    return exitStatusOf(error, terminal);
  }
}

function exitStatusOf(error: unknown, terminal: Terminal): number {
  if (error instanceof ExitRequest) return error.status;
  if (error instanceof CommanderError) {
    // Commander has printed its message already; help that was asked for is no failure.
    return error.exitCode === 0 && error.code !== "commander.help" ? EXIT.done : EXIT.usage;
  }
  const message = error instanceof Error ? error.message : String(error);
  terminal.err(`resilver: ${message}\n`);
  const usage =
    error instanceof UsageError ||
    error instanceof UnknownReplica ||
    (error instanceof ControlRefusal && error.usage);
  return usage ? EXIT.usage : EXIT.failed;
}

/** Commander's settings are per command, and not all are inherited. */
function configure(command: Command, terminal: Terminal): void {
  command.exitOverride();
  command.configureOutput({
    writeOut: (text) => terminal.out(text),
    writeErr: (text) => terminal.err(text),
    outputError: (text, write) => write(text.replace(/^error: /, "resilver: ")),
  });
  for (const child of command.commands) configure(child, terminal);
}
