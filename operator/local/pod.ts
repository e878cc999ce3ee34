import { spawn } from "node:child_process";
import { closeSync, existsSync, openSync, readFileSync } from "node:fs";
import { dirname } from "node:path";

/** How one pod's process is started. `command` is argv; output is appended to `logFile`. */
export interface PodSpec {
  readonly name: string;
  readonly command: readonly [string, ...string[]];
  readonly env: NodeJS.ProcessEnv;
  readonly logFile: string;
}

/** `waiting`: it ended by itself and is started again after a pause. `paused`: by SIGSTOP. */
export type PodState = "stopped" | "running" | "paused" | "waiting";

/** What people see of a pod. */
export interface PodStatus {
  readonly name: string;
  readonly state: PodState;
  readonly pid: number | null;
  /** Times it was started again after it ended by itself. */
  readonly restarts: number;
  /** How it ended the last time; null when it never did. */
  readonly lastExit: string | null;
}

interface Running {
  readonly pid: number;
  readonly exited: Promise<string>;
}

const RESTART_PAUSE_MS_MIN = 50;
const RESTART_PAUSE_MS_MAX = 5_000;
/** A process that lived so long starts with the shortest pause again. */
const HEALTHY_AFTER_MS = 10_000;
const ADOPTED_POLL_MS = 100;

/**
 * One child process that is kept running: started again with growing pauses when it ends by itself,
 * not when it was told to. A process left behind by a killed `up` can be adopted, so that it serves
 * on.
 */
export class Pod {
  readonly spec: PodSpec;
  private readonly changed: () => void;
  private running: Running | null = null;
  private state: PodState = "stopped";
  private restarts = 0;
  private lastExit: string | null = null;
  private pauseMs = RESTART_PAUSE_MS_MIN;
  private startedMs = 0;
  private timer: NodeJS.Timeout | null = null;
  /** It was told to end: that it does is no reason to start it again. */
  private ending = false;

  constructor(spec: PodSpec, changed: () => void) {
    this.spec = spec;
    this.changed = changed;
  }

  status(): PodStatus {
    const { state, restarts, lastExit } = this;
    return { name: this.spec.name, state, pid: this.running?.pid ?? null, restarts, lastExit };
  }

  /** Starts it unless it runs. Returns the wall clock in ms just before the process was made. */
  start(): number {
    if (this.running !== null) return this.startedMs;
    this.cancelRestart();
    this.startedMs = Date.now();
    this.follow(spawnLogged(this.spec));
    return this.startedMs;
  }

  /** Takes over a process that an earlier `up` left running. */
  adopt(pid: number): void {
    this.startedMs = Date.now();
    this.follow({ pid, exited: pollExit(pid) });
  }

  /** Ends it at once, as a crash would; it stays stopped. */
  async kill(): Promise<void> {
    await this.end("SIGKILL");
  }

  /** Asks it to end, and ends it after `graceMs`; it stays stopped. */
  async stop(graceMs: number): Promise<void> {
    const force = setTimeout(() => this.signal("SIGKILL"), graceMs);
    // A paused process handles no signal before it goes on.
    if (this.state === "paused") this.signal("SIGCONT");
    await this.end("SIGTERM");
    clearTimeout(force);
  }

  /** Stops it in its tracks: sockets stay open, nothing answers. */
  pause(): void {
    this.requireRunning();
    this.signal("SIGSTOP");
    this.setState("paused");
  }

  /** Ends a pause. */
  resume(): void {
    this.requireRunning();
    this.signal("SIGCONT");
    this.setState("running");
  }

  private requireRunning(): void {
    if (this.running === null) throw new Error(`${this.spec.name} is not running`);
  }

  private follow(running: Running): void {
    this.running = running;
    this.setState("running");
    void running.exited.then((how) => this.ended(running, how));
  }

  private ended(running: Running, how: string): void {
    if (this.running !== running || this.ending) return;
    this.running = null;
    this.lastExit = how;
    if (Date.now() - this.startedMs >= HEALTHY_AFTER_MS) this.pauseMs = RESTART_PAUSE_MS_MIN;
    this.timer = setTimeout(() => {
      this.timer = null;
      this.restarts += 1;
      this.start();
    }, this.pauseMs);
    this.pauseMs = Math.min(RESTART_PAUSE_MS_MAX, this.pauseMs * 2);
    this.setState("waiting");
  }

  private async end(signal: NodeJS.Signals): Promise<void> {
    this.cancelRestart();
    const { running } = this;
    if (running === null) {
      this.setState("stopped");
      return;
    }
    this.ending = true;
    this.signal(signal);
    this.lastExit = await running.exited;
    this.ending = false;
    // Set only now: until then a started process must not be mistaken for the one that ends.
    if (this.running === running) this.running = null;
    this.cancelRestart();
    this.pauseMs = RESTART_PAUSE_MS_MIN;
    this.setState("stopped");
  }

  private signal(signal: NodeJS.Signals): void {
    if (this.running === null) return;
    try {
      process.kill(this.running.pid, signal);
    } catch {
      // Gone already: `exited` says so.
    }
  }

  private cancelRestart(): void {
    clearTimeout(this.timer ?? undefined);
    this.timer = null;
  }

  private setState(state: PodState): void {
    this.state = state;
    this.changed();
  }
}

function spawnLogged(spec: PodSpec): Running {
  const [program, ...args] = spec.command;
  const log = openSync(spec.logFile, "a");
  // A process group of its own: Ctrl-C at the terminal reaches `up` alone, which then ends its pods
  // in order.
  const child = spawn(program, args, {
    cwd: dirname(spec.logFile),
    env: spec.env,
    stdio: ["ignore", log, log],
    detached: true,
  });
  closeSync(log);
  const exited = new Promise<string>((resolve) => {
    child.once("error", (error) => resolve(error.message));
    child.once("exit", (code, signal) => resolve(signal ?? `exit code ${code}`));
  });
  return { pid: child.pid ?? 0, exited };
}

function pollExit(pid: number): Promise<string> {
  return new Promise((resolve) => {
    const timer = setInterval(() => {
      if (isAlive(pid)) return;
      clearInterval(timer);
      resolve("ended");
    }, ADOPTED_POLL_MS);
  });
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
  } catch {
    return false;
  }
  // An orphan in a container without an init stays a zombie: as good as gone.
  const stat = `/proc/${pid}/stat`;
  if (!existsSync(stat)) return true;
  try {
    return !/\) Z /.test(readFileSync(stat, "latin1"));
  } catch {
    return false;
  }
}

/**
 * True when `pid` is alive and was started with `argument` on its command line; a pid alone may be
 * anybody's by now. Systems without /proc: false, so that nothing is adopted by mistake.
 */
export function isProcessOf(pid: number, argument: string): boolean {
  if (!isAlive(pid)) return false;
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0").includes(argument);
  } catch {
    return false;
  }
}
