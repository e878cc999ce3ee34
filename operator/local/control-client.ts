import { request } from "node:http";
import { resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { z } from "zod";
import { ControlRefusal } from "./control-server.ts";
import { DirectoryInUse, lockDirectory, readJson, storePaths } from "./directory.ts";

const addressSchema = z.object({ pid: z.int(), port: z.int(), token: z.string() });
const errorSchema = z.object({ error: z.string() });

/** Nothing runs in this directory. */
export class NotRunning extends Error {
  override readonly name = "NotRunning";
  constructor(dir: string) {
    super(
      `no store is running in ${resolve(dir)}: start one with \`resilver local up --dir ${dir}\``,
    );
  }
}

/**
 * Sends one command to the `up` process of a directory. Throws NotRunning, ControlRefusal, or
 * Error.
 */
export async function sendControl(
  dir: string,
  command: string,
  body: Readonly<Record<string, unknown>>,
): Promise<unknown> {
  const address = addressSchema.safeParse(readAddress(dir));
  if (!address.success) throw new NotRunning(dir);
  const { port, token } = address.data;
  const { status, text } = await post(dir, port, token, command, JSON.stringify(body));
  const parsed = JSON.parse(text) as unknown;
  if (status === 200) return parsed;
  // Whoever has the port of a killed process now does not know the token.
  if (status === 401) throw new NotRunning(dir);
  const message = errorSchema.safeParse(parsed).data?.error ?? text;
  if (status === 400 || status === 409) throw new ControlRefusal(message, status === 400);
  throw new Error(message);
}

/** How long a store may take to stop: its sidecars have 6 s. */
const STOP_MS = 15_000;

/** Ends the store that runs in a directory; resolves when it is gone. Throws NotRunning, Error. */
export async function stopStore(dir: string): Promise<void> {
  await sendControl(dir, "down", {});
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
    await sleep(50);
  }
}

function readAddress(dir: string): unknown {
  try {
    return readJson(storePaths(dir).control);
  } catch {
    return null;
  }
}

function post(
  dir: string,
  port: number,
  token: string,
  command: string,
  body: string,
): Promise<{ status: number; text: string }> {
  return new Promise((done, failed) => {
    const call = request(
      {
        host: "127.0.0.1",
        port,
        path: `/${command}`,
        method: "POST",
        headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
        agent: false,
      },
      (response) => {
        const parts: Buffer[] = [];
        response.on("data", (part: Buffer) => parts.push(part));
        response.once("error", failed);
        response.once("end", () =>
          done({ status: response.statusCode ?? 0, text: Buffer.concat(parts).toString("utf8") }),
        );
      },
    );
    call.once("error", (error: NodeJS.ErrnoException) =>
      // A control file left behind by kill -9.
      failed(error.code === "ECONNREFUSED" ? new NotRunning(dir) : error),
    );
    call.end(body);
  });
}
