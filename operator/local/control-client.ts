import { existsSync } from "node:fs";
import { request } from "node:http";
import { resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { z } from "zod";
import { ControlRefusal } from "./control-server.ts";
import { DirectoryInUse, lockDirectory, readJson, storePaths } from "./directory.ts";
import { endLeftSidecars, type LeftSidecar, leftSidecars, sidecarNames } from "./left-sidecars.ts";

const addressSchema = z.object({ pid: z.int(), port: z.int(), token: z.string() });
const errorSchema = z.object({ error: z.string() });

/** No `up` that runs can be asked in this directory; the message says what is there instead. */
export class NotRunning extends Error {
  override readonly name = "NotRunning";
  constructor(dir: string) {
    super(whatIsThere(dir));
  }
}

function whatIsThere(dir: string): string {
  const root = resolve(dir);
  const up = `\`resilver local up --dir ${dir}\``;
  const left = leftSidecars(dir);
  if (left.length > 0) {
    if (isHeld(dir)) return `the store in ${root} is just being started or stopped: ask again`;
    return (
      `the \`up\` of the store in ${root} was killed, and left running: ${sidecarNames(left)}; ` +
      `they serve, but no leader is replaced and nothing is rebuilt: ${up} takes them over, ` +
      `\`resilver local down --dir ${dir}\` ends them`
    );
  }
  const stored = existsSync(storePaths(dir).settings);
  if (!stored) return `no store is running in ${root}: start one with ${up}`;
  return `no store is running in ${root}, where the data of one is: ${up} goes on with it`;
}

/** An `up` holds it from before its first sidecar is started until after the last has ended. */
function isHeld(dir: string): boolean {
  try {
    lockDirectory(dir).release();
    return false;
  } catch (error) {
    // Else it is not this user's to hold, which is for whoever needs it to say.
    return error instanceof DirectoryInUse;
  }
}

/**
 * How long a command may take: at worst a replica is stopped, which has 6 s, or an election is
 * waited for, 10 s.
 */
const ANSWER_MS = 30_000;

/** How long a command is waited for. */
export interface ControlWait {
  /** Ends the wait; the command may be done all the same. */
  readonly signal: AbortSignal;
  /** Default 30,000. */
  readonly timeoutMs?: number;
}

/**
 * Sends one command to the `up` process of a directory. Throws NotRunning, ControlRefusal, the
 * signal's reason, or Error.
 */
export async function sendControl(
  dir: string,
  command: string,
  body: Readonly<Record<string, unknown>>,
  wait: ControlWait,
): Promise<unknown> {
  wait.signal.throwIfAborted();
  const address = addressSchema.safeParse(readAddress(dir));
  if (!address.success) throw new NotRunning(dir);
  const { status, text } = await post(dir, address.data, command, JSON.stringify(body), wait);
  // Whoever has the port of a killed process now does not know the token.
  if (status === 401) throw new NotRunning(dir);
  const parsed = parse(text);
  if (parsed === undefined) throw new NotRunning(dir);
  if (status === 200) return parsed;
  const message = errorSchema.safeParse(parsed).data?.error ?? text;
  if (status === 400 || status === 409) throw new ControlRefusal(message, status === 400);
  throw new Error(message);
}

/** How long a store may take to stop: its sidecars have 6 s. */
const STOP_MS = 15_000;

/**
 * Ends the store that runs in a directory, or what a killed `up` left of it; resolves when it is
 * gone, with what was left. Throws NotRunning, the signal's reason, Error.
 */
export async function stopStore(dir: string, signal: AbortSignal): Promise<readonly LeftSidecar[]> {
  try {
    await sendControl(dir, "down", {}, { signal });
  } catch (error) {
    if (!(error instanceof NotRunning)) throw error;
    const ended = await endLeftSidecars(dir, signal).catch((held: unknown) => {
      throw held instanceof DirectoryInUse ? error : held;
    });
    if (ended.length === 0) throw error;
    return ended;
  }
  await untilReleased(dir, signal);
  return [];
}

async function untilReleased(dir: string, signal: AbortSignal): Promise<void> {
  const deadlineMs = performance.now() + STOP_MS;
  for (;;) {
    try {
      // Held until everything has ended.
      lockDirectory(dir).release();
      return;
    } catch (error) {
      if (!(error instanceof DirectoryInUse)) throw error;
      if (performance.now() > deadlineMs) {
        throw new Error(`the store in ${resolve(dir)} has not ended within ${STOP_MS} ms`, {
          cause: error,
        });
      }
    }
    await sleep(50, undefined, { signal }).catch(() => signal.throwIfAborted());
  }
}

function readAddress(dir: string): unknown {
  try {
    return readJson(storePaths(dir).control);
  } catch {
    return null;
  }
}

/** Undefined: not JSON, so it is not `up` that answered. */
function parse(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}

interface Answer {
  readonly status: number;
  readonly text: string;
}

function post(
  dir: string,
  { pid, port, token }: z.infer<typeof addressSchema>,
  command: string,
  body: string,
  { signal, timeoutMs = ANSWER_MS }: ControlWait,
): Promise<Answer> {
  return new Promise((done, failed) => {
    const call = request(
      {
        host: "127.0.0.1",
        port,
        path: `/${command}`,
        method: "POST",
        headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
        agent: false,
        signal,
      },
      (response) => {
        const parts: Buffer[] = [];
        response.on("data", (part: Buffer) => parts.push(part));
        response.once("error", fail);
        response.once("end", () =>
          done({ status: response.statusCode ?? 0, text: Buffer.concat(parts).toString("utf8") }),
        );
      },
    );
    const silent = new Error(
      `${command}: process ${pid} has not answered within ${timeoutMs} ms; it may do it yet`,
    );
    const timer = setTimeout(() => call.destroy(silent), timeoutMs);
    const fail = (error: Error): void => {
      if (signal.aborted) failed(signal.reason);
      else failed(isStrangers(error) ? new NotRunning(dir) : error);
    };
    call.once("error", fail);
    call.once("close", () => clearTimeout(timer));
    call.end(body);
  });
}

/** A control file was left behind by kill -9: nobody listens there, or who does not speak HTTP. */
function isStrangers(error: NodeJS.ErrnoException): boolean {
  return error.code === "ECONNREFUSED" || error.code?.startsWith("HPE_") === true;
}
