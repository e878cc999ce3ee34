/** A child process of the run, and what it costs. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";

/** Kernel ticks of a second, as /proc counts. */
const TICKS_PER_SECOND = 100;
const STOP_MS = 20_000;

/** See the file's header. What it prints goes to this process's error output. */
export class RunningProcess {
  private readonly child: ChildProcess;
  private readonly name: string;
  private readonly ended: Promise<unknown>;

  constructor(name: string, command: string, args: readonly string[]) {
    this.name = name;
    // As in the image.
    const env = { ...process.env, MALLOC_ARENA_MAX: "1" };
    this.child = spawn(command, args, { stdio: ["ignore", 2, 2], env });
    this.ended = once(this.child, "exit");
    // Whatever this process ends by.
    process.once("exit", () => this.child.kill("SIGKILL"));
  }

  /** True when it has ended, by itself too. */
  get over(): boolean {
    return this.child.exitCode !== null || this.child.signalCode !== null;
  }

  /** Throws when it has ended by itself. */
  check(): void {
    const { exitCode, signalCode } = this.child;
    if (this.over) throw new Error(`${this.name} has ended (${exitCode ?? signalCode})`);
  }

  /** Its largest resident memory so far, in MiB. */
  peakMiB(): number {
    const text = readFileSync(`/proc/${this.child.pid}/status`, "utf8");
    return Number(/VmHWM:\s+(\d+) kB/u.exec(text)?.[1] ?? Number.NaN) / 1_024;
  }

  /** Processor time that it has taken, in seconds. */
  cpuSeconds(): number {
    const fields = readFileSync(`/proc/${this.child.pid}/stat`, "utf8").split(") ").at(-1);
    const [user, system] = (fields ?? "").split(" ").slice(11, 13).map(Number);
    return ((user ?? 0) + (system ?? 0)) / TICKS_PER_SECOND;
  }

  /** Ends it; kills it when it takes too long. */
  async stop(): Promise<void> {
    const kill = setTimeout(() => this.child.kill("SIGKILL"), STOP_MS);
    this.child.kill("SIGTERM");
    if (!this.over) await this.ended;
    clearTimeout(kill);
  }
}
