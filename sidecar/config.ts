/**
 * Configuration of a sidecar: one table of fields, from which the file keys, environment variables,
 * flags, help and checks follow. Rising precedence: defaults, file, environment, flags.
 */
import { isAbsolute, relative, resolve } from "node:path";
import { Command, CommanderError, Option } from "commander";
import { z } from "zod";
import { LIMITS } from "./limits.ts";
import { LOG_LEVELS } from "./observability/logger.ts";
import { type Address, splitAddress } from "./protocol/address.ts";

/** Bad configuration. The message names the field, its value and what is allowed; exit status 2. */
export class ConfigError extends Error {
  override readonly name = "ConfigError";
}

/** --help or --version was asked for; `text` is what to print, the exit status is 0. */
export interface HelpRequest {
  readonly kind: "help";
  readonly text: string;
}

const MEBIBYTE = 1024 * 1024;
const GIBIBYTE = 1024 * MEBIBYTE;
const HOUR_MS = 3_600_000;

function integer(min: number, max: number): z.ZodType<number> {
  const error = `a whole number from ${min} to ${max}`;
  const digits = z
    .string()
    .regex(/^\d{1,16}$/u)
    .transform(Number);
  return z
    .union([z.number(), digits], { error })
    .refine((value) => Number.isInteger(value) && value >= min && value <= max, { error });
}

function address(portMin: number): z.ZodType<string> {
  const error = `host:port with a port from ${portMin} to 65535, for example 127.0.0.1:6648`;
  return z
    .string({ error })
    .refine((text) => (splitAddress(text)?.port ?? -1) >= portMin, { error });
}

const directory = z.string({ error: "a path" }).min(1, { error: "a path" });
const NAME_ERROR = "1 to 253 of a-z, 0-9, '-' and '.', beginning and ending with a letter or digit";
const name = z
  .string({ error: NAME_ERROR })
  .regex(/^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$/u, { error: NAME_ERROR });

const STORE_ERROR = "1 to 128 of A-Z, a-z, 0-9, '.', '_' and '-'";
const storeId = z
  .string({ error: STORE_ERROR })
  .regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/u, { error: STORE_ERROR });

const READS = ["linearizable", "leader"] as const;

interface Field {
  readonly schema: z.ZodType;
  readonly help: string;
  /** In help and flags: what kind of value. */
  readonly placeholder: string;
  readonly default?: string | number;
}

/** Every field. Names end with their unit. */
const FIELDS = {
  node: { schema: name, help: "name of this node, unique in the store", placeholder: "name" },
  storeId: {
    schema: storeId,
    help: "the store this node belongs to; data of any other is refused",
    placeholder: "id",
  },
  publicAddress: {
    schema: address(0),
    help: "where clients connect",
    placeholder: "host:port",
    default: "0.0.0.0:6648",
  },
  internalAddress: {
    schema: address(0),
    help: "where peers and the coordinator connect",
    placeholder: "host:port",
    default: "0.0.0.0:6649",
  },
  metricsAddress: {
    schema: address(0),
    help: "where /metrics, /healthz and /readyz are served",
    placeholder: "host:port",
    default: "0.0.0.0:6650",
  },
  advertisedPublicAddress: {
    schema: z.union([z.literal(""), address(1)], { error: "empty, or host:port" }),
    help: "publicAddress as clients reach it; empty: the same, or the node's name for 0.0.0.0",
    placeholder: "host:port",
    default: "",
  },
  advertisedInternalAddress: {
    schema: z.union([z.literal(""), address(1)], { error: "empty, or host:port" }),
    help: "internalAddress as peers reach it; empty: the same, or the node's name for 0.0.0.0",
    placeholder: "host:port",
    default: "",
  },
  walDir: { schema: directory, help: "directory of the logs", placeholder: "path" },
  stateDir: { schema: directory, help: "directory of the records", placeholder: "path" },
  logLevel: {
    schema: z.enum(LOG_LEVELS, { error: LOG_LEVELS.join(", ") }),
    help: `how much to log: ${LOG_LEVELS.join(", ")}`,
    placeholder: "level",
    default: "info",
  },
  walRetentionMs: {
    schema: integer(0, 365 * 24 * HOUR_MS),
    help: "how long log entries are kept for followers that lag",
    placeholder: "ms",
    default: HOUR_MS,
  },
  walRetentionBytes: {
    schema: integer(0, 1024 * GIBIBYTE),
    help: "how many bytes of log are kept at most, beyond what recovery needs",
    placeholder: "bytes",
    default: 4 * GIBIBYTE,
  },
  snapshotBytesPerSecond: {
    schema: integer(0, 1024 * GIBIBYTE),
    help: "limit of one snapshot transfer; 0: none",
    placeholder: "bytes",
    default: 0,
  },
  checkpointIntervalMs: {
    schema: integer(100, HOUR_MS),
    help: "records are made durable outside the log at least this often",
    placeholder: "ms",
    default: LIMITS.checkpointIntervalMs,
  },
  memoryTableBytes: {
    schema: integer(8 * MEBIBYTE, 16 * GIBIBYTE),
    help: "memory for records that are not written to their file yet, for the whole process",
    placeholder: "bytes",
    default: LIMITS.memoryTableBytesMax,
  },
  heartbeatMs: {
    schema: integer(10, LIMITS.peerTimeoutMs / 2),
    help: "how often a leader speaks to a follower that has nothing to receive",
    placeholder: "ms",
    default: LIMITS.heartbeatIntervalMs,
  },
  reads: {
    schema: z.enum(READS, { error: READS.join(", ") }),
    help: "linearizable, or leader: quicker, and older data while two believe to lead",
    placeholder: "kind",
    default: "linearizable",
  },
  segmentBytes: {
    schema: integer(8 * MEBIBYTE, GIBIBYTE),
    help: "size of one file of the log",
    placeholder: "bytes",
    default: LIMITS.segmentBytes,
  },
} as const satisfies Record<string, Field>;

type FieldName = keyof typeof FIELDS;
const NAMES = Object.keys(FIELDS) as readonly FieldName[];

/**
 * A checked configuration, frozen. Directories are absolute; advertised addresses are filled in.
 */
export interface SidecarConfig {
  readonly node: string;
  readonly storeId: string;
  readonly publicAddress: string;
  readonly internalAddress: string;
  readonly metricsAddress: string;
  readonly advertisedPublicAddress: string;
  readonly advertisedInternalAddress: string;
  readonly walDir: string;
  readonly stateDir: string;
  readonly logLevel: (typeof LOG_LEVELS)[number];
  readonly walRetentionMs: number;
  readonly walRetentionBytes: number;
  /** 0: no limit. */
  readonly snapshotBytesPerSecond: number;
  readonly checkpointIntervalMs: number;
  readonly memoryTableBytes: number;
  readonly heartbeatMs: number;
  readonly segmentBytes: number;
  /** How sure a leader is of leading when it answers reads (R15). */
  readonly reads: (typeof READS)[number];
}

/** The process's inputs, and how to read a file (null: it does not exist). */
export interface ConfigSources {
  /** Without the interpreter and the script. */
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly version: string;
  readFile(path: string): Promise<string | null>;
}

type Values = Partial<Record<FieldName, unknown>>;

/** Reads and checks everything. Throws {@link ConfigError}. */
export async function loadConfig(sources: ConfigSources): Promise<SidecarConfig | HelpRequest> {
  const flags = parseFlags(sources);
  if ("kind" in flags) return flags;
  const { config: path, ...flagValues } = flags;
  const file = path === undefined ? {} : await readConfigFile(path, sources);
  const values = { ...defaults(), ...file, ...environment(sources.env), ...flagValues };
  return finish(check(values));
}

/** host:port in its parts; port 0: any free one. Throws {@link ConfigError}. */
export function parseAddress(text: string): Address {
  const parsed = splitAddress(text);
  if (parsed === null) throw new ConfigError(`address is ${show(text)}; allowed: host:port`);
  return parsed;
}

function defaults(): Values {
  const entries = NAMES.map((key) => [key, defaultOf(key)] as const);
  return Object.fromEntries(entries.filter(([, value]) => value !== undefined));
}

function defaultOf(key: FieldName): string | number | undefined {
  const field: Field = FIELDS[key];
  return field.default;
}

function parseFlags(sources: ConfigSources): (Values & { config?: string }) | HelpRequest {
  let text = "";
  const command = new Command("resilver sidecar")
    .description("One node of a replicated key-value store.")
    .option("--config <file>", "YAML or JSON file with these settings by their names in it")
    .version(sources.version)
    .exitOverride()
    .configureOutput({
      writeOut: (part) => {
        text += part;
      },
      writeErr: () => {},
    })
    .addHelpText("after", () => `\n${environmentHelp()}`);
  for (const key of NAMES) command.addOption(flagOf(key));
  try {
    command.parse([...sources.argv], { from: "user" });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    if (error.exitCode === 0) return { kind: "help", text };
    throw new ConfigError(`${error.message.replace(/^error: /u, "")}; see resilver sidecar --help`);
  }
  return command.opts();
}

function flagOf(key: FieldName): Option {
  const field: Field = FIELDS[key];
  const shown =
    field.default === undefined
      ? " (required)"
      : field.default === ""
        ? ""
        : ` (default: ${field.default})`;
  return new Option(`--${kebab(key)} <${field.placeholder}>`, field.help + shown);
}

function environmentHelp(): string {
  return (
    "Each setting can also come from the file, under the name in the middle, or from the environment:\n" +
    NAMES.map((key) => `  --${kebab(key)}  ${key}  ${variable(key)}`).join("\n")
  );
}

function kebab(key: string): string {
  return key.replaceAll(/[A-Z]/gu, (letter) => `-${letter.toLowerCase()}`);
}

const PREFIX = "RESILVER_";
/** What Kubernetes puts into every container for a Service whose name begins with "resilver". */
const SERVICE_LINK =
  /^RESILVER_(.*_)?(SERVICE_HOST|SERVICE_PORT(_.*)?|PORT(_\d+_(TCP|UDP)(_.*)?)?)$/u;

function variable(key: string): string {
  return PREFIX + kebab(key).replaceAll("-", "_").toUpperCase();
}

function environment(env: ConfigSources["env"]): Values {
  const known = new Map(NAMES.map((key) => [variable(key), key] as const));
  const values: Values = {};
  for (const [key, value] of Object.entries(env)) {
    if (!key.startsWith(PREFIX) || value === undefined || SERVICE_LINK.test(key)) continue;
    const field = known.get(key);
    if (field === undefined) {
      throw new ConfigError(
        `unknown environment variable ${key}; allowed: ${[...known.keys()].join(", ")}`,
      );
    }
    values[field] = value;
  }
  return values;
}

async function readConfigFile(path: string, sources: ConfigSources): Promise<Values> {
  const text = await sources.readFile(path);
  if (text === null) throw new ConfigError(`--config ${path} does not exist`);
  // Only needed by those who use a file, and loading it takes a tenth of the start-up.
  const { parse: parseYaml } = await import("yaml");
  let content: unknown;
  try {
    // JSON is YAML.
    content = parseYaml(text);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new ConfigError(`--config ${path} is neither YAML nor JSON: ${why}`, { cause: error });
  }
  if (content === null || content === undefined) return {};
  if (typeof content !== "object" || Array.isArray(content)) {
    throw new ConfigError(`--config ${path} holds ${show(content)}; allowed: settings by name`);
  }
  for (const key of Object.keys(content)) {
    if (!Object.hasOwn(FIELDS, key)) {
      throw new ConfigError(`${path}: unknown key ${key}; allowed: ${NAMES.join(", ")}`);
    }
  }
  return content;
}

function check(values: Values): Record<FieldName, never> {
  const checked: Record<string, unknown> = {};
  for (const key of NAMES) {
    const value = values[key];
    if (value === undefined) {
      throw new ConfigError(`${key} is not set; set --${kebab(key)}, ${variable(key)} or the file`);
    }
    const result = FIELDS[key].schema.safeParse(value);
    if (!result.success) {
      const allowed = result.error.issues[0]?.message ?? "another value";
      throw new ConfigError(`${key} is ${show(value)}; allowed: ${allowed}`);
    }
    checked[key] = result.data;
  }
  return checked as Record<FieldName, never>;
}

function finish(checked: SidecarConfig): SidecarConfig {
  const walDir = resolve(checked.walDir);
  const stateDir = resolve(checked.stateDir);
  if (within(walDir, stateDir) || within(stateDir, walDir)) {
    throw new ConfigError(
      `walDir is ${walDir} and stateDir is ${stateDir}; allowed: two directories, neither in the other`,
    );
  }
  return Object.freeze({ ...checked, walDir, stateDir });
}

/** The address that others reach this node at, once the port is known. */
export function advertised(
  given: string,
  listened: Address,
  portNumber: number,
  node: string,
): string {
  if (given !== "") return given;
  const everywhere = listened.host === "0.0.0.0" || listened.host === "::";
  const host = everywhere ? node : listened.host;
  return `${host.includes(":") ? `[${host}]` : host}:${portNumber}`;
}

function within(inner: string, outer: string): boolean {
  const path = relative(outer, inner);
  return path === "" || (!path.startsWith("..") && !isAbsolute(path));
}

const SHOWN_CHARACTERS_MAX = 200;

function show(value: unknown): string {
  return (JSON.stringify(value) ?? String(value)).slice(0, SHOWN_CHARACTERS_MAX);
}
