import { spawn } from "node:child_process";
import type { Command } from "commander";
import { sidecarProgram } from "../sidecar-process.ts";
import { EXIT, ExitRequest, type Terminal } from "./exit.ts";

/** Adds `resilver sidecar`: one node of a store, as a container runs it. */
export function addSidecarCommand(program: Command, terminal: Terminal): void {
  // What stands before `sidecar` is ours, what follows is the sidecar's.
  program.enablePositionalOptions();
  program
    .command("sidecar")
    .description("run one node of a store; `resilver sidecar --help` lists its settings")
    .argument("[settings...]", "settings of the sidecar")
    .helpOption(false)
    .allowUnknownOption()
    .passThroughOptions()
    .action(async (settings: readonly string[]) => {
      throw new ExitRequest(await runSidecar(settings, terminal));
    });
}

/**
 * Runs it as a child, so that the coordinator's code never shares a process with it. Resolves with
 * its status.
 */
async function runSidecar(settings: readonly string[], terminal: Terminal): Promise<number> {
  if (terminal.stop.aborted) return EXIT.done;
  const [command, ...args] = sidecarProgram();
  const child = spawn(command, [...args, ...settings], { stdio: "inherit", env: terminal.env });
  const stop = () => child.kill("SIGTERM");
  terminal.stop.addEventListener("abort", stop);
  return await new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("exit", (code) => {
      terminal.stop.removeEventListener("abort", stop);
      resolve(code ?? 1);
    });
  });
}
