import { randomBytes, timingSafeEqual } from "node:crypto";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { rm } from "node:fs/promises";
import { storePaths, writeJson } from "./directory.ts";

/**
 * A command that cannot be done; its message is for the person who gave it. `usage`: it was given
 * wrongly.
 */
export class ControlRefusal extends Error {
  override readonly name = "ControlRefusal";
  readonly usage: boolean;
  constructor(message: string, usage = false) {
    super(message);
    this.usage = usage;
  }
}

/** Does one command; what it returns is sent back as JSON. Throws ControlRefusal. */
export type ControlHandler = (body: unknown) => Promise<unknown>;

/** Where the running `up` process listens; kept in a file that only its user can read. */
export interface ControlAddress {
  readonly pid: number;
  readonly port: number;
  readonly token: string;
}

const BODY_BYTES_MAX = 64 * 1024;

/**
 * How other commands reach the running `up` process: JSON over HTTP on a loopback port, with a
 * token from a file in the store's directory. (A socket file in that directory would break with
 * long paths.)
 */
export class ControlServer {
  private readonly handlers: Readonly<Record<string, ControlHandler>>;
  private readonly token = randomBytes(24).toString("base64url");
  private readonly server: Server;
  private file: string | null = null;

  constructor(handlers: Readonly<Record<string, ControlHandler>>) {
    this.handlers = handlers;
    this.server = createServer((request, response) => {
      this.handle(request, response).catch((error: unknown) => {
        reply(response, 500, { error: error instanceof Error ? error.message : String(error) });
      });
    });
  }

  /**
   * Listens, and says where in the store's directory. A file left by a killed process is replaced.
   */
  async start(dir: string): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      this.server.once("error", reject);
      this.server.listen(0, "127.0.0.1", resolve);
    });
    const { port } = this.server.address() as AddressInfo;
    const address: ControlAddress = { pid: process.pid, port, token: this.token };
    this.file = storePaths(dir).control;
    await writeJson(this.file, address, 0o600);
  }

  async close(): Promise<void> {
    if (this.file !== null) await rm(this.file, { force: true });
    this.server.closeIdleConnections();
    await new Promise<void>((resolve) => {
      this.server.close(() => resolve());
      // A watcher's connection must not hold up the end.
      setTimeout(() => this.server.closeAllConnections(), 500).unref();
    });
  }

  private async handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    if (!this.allowed(request.headers.authorization ?? "")) {
      reply(response, 401, { error: "wrong token" });
      return;
    }
    const name = (request.url ?? "").slice(1);
    const handler = Object.hasOwn(this.handlers, name) ? this.handlers[name] : undefined;
    if (handler === undefined || request.method !== "POST") {
      reply(response, 404, { error: `no command ${name}` });
      return;
    }
    try {
      reply(response, 200, (await handler(await readBody(request))) ?? {});
    } catch (error) {
      if (!(error instanceof ControlRefusal)) throw error;
      reply(response, error.usage ? 400 : 409, { error: error.message });
    }
  }

  private allowed(header: string): boolean {
    const wanted = Buffer.from(`Bearer ${this.token}`);
    const given = Buffer.from(header);
    return given.length === wanted.length && timingSafeEqual(given, wanted);
  }
}

async function readBody(request: IncomingMessage): Promise<unknown> {
  const parts: Buffer[] = [];
  let bytes = 0;
  for await (const part of request) {
    parts.push(part as Buffer);
    bytes += (part as Buffer).length;
    if (bytes > BODY_BYTES_MAX) throw new ControlRefusal("the command is too long", true);
  }
  const text = Buffer.concat(parts).toString("utf8");
  try {
    return text === "" ? {} : (JSON.parse(text) as unknown);
  } catch {
    throw new ControlRefusal("the command is not JSON", true);
  }
}

function reply(response: ServerResponse, status: number, body: unknown): void {
  if (response.headersSent) return;
  response.writeHead(status, { "content-type": "application/json" });
  response.end(JSON.stringify(body));
}
