#!/usr/bin/env node
/** The command `resilver`: the only reader of arguments and environment of the operator's side. */
import type { Terminal } from "./local/cli/exit.ts";

const VERSION = "0.1.0";
/** After a second Ctrl-C nothing is waited for. */
const INTERRUPTED = 130;

// Before the program is read, which takes a while: the first process of a container is sent no
// signal that it does not listen for, and its pod would wait for the whole of its grace period.
const stop = new AbortController();
for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.on(signal, () => {
    if (stop.signal.aborted && signal === "SIGINT") process.exit(INTERRUPTED);
    stop.abort(new Error(`stopped by ${signal}`));
  });
}

const terminal: Terminal = {
  out: (text) => process.stdout.write(text),
  err: (text) => process.stderr.write(text),
  isScreen: process.stdout.isTTY === true,
  interactive: process.stdout.isTTY === true && process.env["NO_COLOR"] === undefined,
  stop: stop.signal,
  env: process.env,
};

// A reader that went away (`resilver status | head`) is no failure.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code === "EPIPE") process.exit(0);
  throw error;
});

const { addOperatorCommand } = await import("./cli/operator-command.ts");
const { runCommandLine } = await import("./local/cli/program.ts");
const status = await runCommandLine(process.argv.slice(2), terminal, VERSION, [
  (program) => addOperatorCommand(program, terminal, VERSION),
]);
// Not process.exit: what was printed must get out first. Nothing may be left running by now.
process.exitCode = status;
