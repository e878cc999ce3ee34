import { readFile } from "node:fs/promises";
import { addAbortSignal } from "node:stream";
import type { Command } from "commander";
import { StoreClient, type StoredRecord } from "../../sidecar-client/store-client.ts";
import { StoreError } from "../../sidecar-client/store-error.ts";
import { storePaths, readJson } from "../directory.ts";
import { parseSettings, replicaEndpoints } from "../settings.ts";
import { addresses, integer } from "./arguments.ts";
import { EXIT, ExitRequest, type Terminal, UsageError } from "./exit.ts";

interface DataOptions {
  readonly dir: string;
  readonly server?: readonly string[];
  readonly namespace: string;
  readonly timeout: number;
}

interface PutOptions extends DataOptions {
  readonly file?: string;
  readonly ifVersion?: number;
  readonly ifAbsent?: boolean;
}

/** Adds put, get, list, scan and delete: a small client of a store's public API. */
export function addDataCommands(program: Command, terminal: Terminal): void {
  dataCommand(program, "put", "write a record; prints its version")
    .argument("<key>")
    .argument("[value]", "left out: from --file")
    .option("--file <path>", "take the value from a file, `-`: standard input")
    .option("--if-version <version>", "only if the record has this version", integer(0, 2 ** 53))
    .option("--if-absent", "only if there is no such record")
    .action(async (key: string, value: string | undefined, options: PutOptions) => {
      await withClient(options, terminal, (client) => put(client, terminal, key, value, options));
    });
  dataCommand(program, "get", "print a record's value; exit status 1 when there is none")
    .argument("<key>")
    .option("--json", "print key, version and value (in base64) as JSON, as `scan` does")
    .action(async (key: string, options: DataOptions & { json?: true }) => {
      await withClient(options, terminal, async (client) => {
        const record = await client.get(key);
        if (record === null) throw new Error(`${key}: no such record`);
        if (options.json === true) {
          terminal.out(recordLine(record));
          return;
        }
        // To a file or a pipe goes the value alone, byte by byte.
        terminal.out(record.value);
        if (terminal.isScreen) terminal.out("\n");
      });
    });
  dataCommand(program, "delete", "delete a record; exit status 1 when there is none")
    .argument("<key>")
    .option("--if-version <version>", "only if the record has this version", integer(0, 2 ** 53))
    .action(async (key: string, options: DataOptions & { ifVersion?: number }) => {
      await withClient(options, terminal, async (client) => {
        const condition =
          options.ifVersion === undefined ? {} : { expectedVersionId: options.ifVersion };
        const outcome = await client.delete(key, condition);
        if (outcome === "gone") {
          terminal.err(
            `resilver: ${key}: no such record; sent twice, the first may have deleted it\n`,
          );
        }
        if (outcome === "absent") throw new Error(`${key}: no such record`);
        if (outcome === "conflict") throw new Error(`${key}: has another version`);
      });
    });
  rangeCommand(program, "list", "print keys, one a line").action(
    async (start: string, end: string, options: DataOptions) => {
      await withClient(options, terminal, async (client) => {
        for await (const key of client.list(start, end)) terminal.out(`${key}\n`);
      });
    },
  );
  rangeCommand(program, "scan", "print records as JSON, one a line, values in base64").action(
    async (start: string, end: string, options: DataOptions) => {
      await withClient(options, terminal, async (client) => {
        for await (const record of client.scan(start, end)) terminal.out(recordLine(record));
      });
    },
  );
}

function recordLine({ key, value, version }: StoredRecord): string {
  const text = Buffer.from(value).toString("base64");
  return `${JSON.stringify({ key, version: version.versionId, value: text })}\n`;
}

function dataCommand(program: Command, name: string, description: string): Command {
  return program
    .command(name)
    .description(description)
    .option("--dir <dir>", "directory of a local store", ".resilver")
    .option("--server <host:port,...>", "public endpoints, instead of a local store's", addresses)
    .option("--namespace <name>", "namespace", "default")
    .option("--timeout <ms>", "how long to try", integer(1, 3_600_000), 10_000);
}

function rangeCommand(program: Command, name: string, description: string): Command {
  return dataCommand(program, name, `${description}, in the store's order`)
    .argument("[start]", "first key", "")
    .argument("[end]", "key to stop before; left out: to the end", "");
}

/** Throws what `work` does, or that the command was stopped. */
async function withClient(
  options: DataOptions,
  { stop }: Terminal,
  work: (client: StoreClient) => Promise<void>,
): Promise<void> {
  stop.throwIfAborted();
  const client = new StoreClient({
    servers: options.server ?? localServers(options.dir),
    namespace: options.namespace,
    requestTimeoutMs: options.timeout,
  });
  // Whatever is under way with it ends then.
  const close = (): void => void client.close();
  stop.addEventListener("abort", close);
  try {
    await work(client);
  } catch (error) {
    if (!stop.aborted) throw error;
    const sent = error instanceof StoreError && error.code === "UNKNOWN_OUTCOME";
    const outcome = sent ? "; what was sent may be done all the same" : "";
    throw new Error(`${(stop.reason as Error).message}${outcome}`, { cause: error });
  } finally {
    stop.removeEventListener("abort", close);
    await client.close();
  }
}

function localServers(dir: string): readonly string[] {
  const paths = storePaths(dir);
  const file = readJson(paths.settings);
  if (file === null) {
    throw new UsageError(
      `--dir ${dir}: there is no local store; allowed: its directory, or --server`,
    );
  }
  const settings = parseSettings(file, paths.settings);
  return replicaEndpoints(settings).map(({ publicAddress }) => publicAddress);
}

async function put(
  client: StoreClient,
  terminal: Terminal,
  key: string,
  value: string | undefined,
  options: PutOptions,
): Promise<void> {
  if ((value === undefined) === (options.file === undefined)) {
    throw new UsageError("put: allowed: either VALUE or --file");
  }
  if (options.ifAbsent === true && options.ifVersion !== undefined) {
    throw new UsageError("put: allowed: either --if-version or --if-absent");
  }
  const bytes =
    options.file === undefined
      ? Buffer.from(value ?? "")
      : await readValue(options.file, terminal.stop);
  const expected = options.ifAbsent === true ? -1 : options.ifVersion;
  const condition = expected === undefined ? {} : { expectedVersionId: expected };
  const outcome = await client.put(key, bytes, condition);
  if (!outcome.written) {
    terminal.err(
      `resilver: ${key}: ${expected === -1 ? "exists already" : "has another version"}\n`,
    );
    throw new ExitRequest(EXIT.failed);
  }
  terminal.out(`${outcome.version.versionId}\n`);
}

async function readValue(path: string, stop: AbortSignal): Promise<Uint8Array> {
  if (path !== "-") {
    return await readFile(path, { signal: stop }).catch((error: unknown) => {
      throw new UsageError(
        `--file ${path}: ${error instanceof Error ? error.message : String(error)}`,
      );
    });
  }
  const parts: Buffer[] = [];
  for await (const part of addAbortSignal(stop, process.stdin)) parts.push(part as Buffer);
  return Buffer.concat(parts);
}
