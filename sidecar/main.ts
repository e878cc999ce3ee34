/**
 * A sidecar process: the only reader of arguments and environment, and the only place where
 * adapters are made. Exit status: 0 stopped as asked, 1 failed, 2 usage.
 */
import { readFile } from "node:fs/promises";
import type { Logger } from "./lib/ports/logger.ts";
import { LIMITS } from "./limits.ts";
import {
  advertised,
  ConfigError,
  type ConfigSources,
  loadConfig,
  parseAddress,
  type SidecarConfig,
} from "./config.ts";
import { openLogger } from "./observability/logger.ts";
import { openMetrics } from "./observability/metrics.ts";
import { NodeClock } from "./os/node-clock.ts";
import { prepareDataDirectory } from "./os/data-directory.ts";
import { createNodeDisk } from "./os/node-disk.ts";
import { NodeRandom } from "./os/node-random.ts";
import { anonymousMemoryBytes } from "./os/process-memory.ts";
import { stopSignal } from "./os/signals.ts";
import { NetworkPeerTransport } from "./rpc/peer-client.ts";
import { SidecarServers } from "./rpc/sidecar-servers.ts";
import { openNode } from "./runtime/node.ts";
import type { NodeRuntime } from "./runtime/ports.ts";
import { DEFAULT_REPLICA_OPTIONS } from "./runtime/replica-options.ts";
import { lmdbEngineFactory } from "./state/lmdb-engine.ts";

const VERSION = "0.1.0";
/** Between two looks at the configuration; the kubelet needs a minute to bring another one. */
const CONFIG_LOOK_MS = 1_000;

/** What the process is configured by. */
const SOURCES: ConfigSources = {
  argv: process.argv.slice(2),
  env: process.env,
  version: VERSION,
  readFile: readTextFile,
};

async function main(): Promise<number> {
  let config: SidecarConfig;
  try {
    const loaded = await loadConfig(SOURCES);
    if ("kind" in loaded) {
      process.stdout.write(loaded.text);
      return 0;
    }
    config = loaded;
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    process.stderr.write(`sidecar: ${error.message}\n`);
    return 2;
  }
  const logger = openLogger(config.logLevel, { node: config.node });
  try {
    return await serve(config, logger);
  } catch (error) {
    // One line for people beside the log's: a wrong directory or a used port is theirs to mend.
    const message = error instanceof Error ? error.message : String(error);
    logger.error("sidecar failed", { error: message });
    process.stderr.write(`sidecar: ${message}\n`);
    return 1;
  } finally {
    await logger.close();
  }
}

async function serve(config: SidecarConfig, logger: Logger): Promise<number> {
  const clock = new NodeClock();
  // First, so that a signal during a long recovery of the log is not lost, and its deadline holds.
  const stopping = stopSignal().then((signal) => {
    // Not cancelled: when all goes well the process has exited by then.
    clock.timer(LIMITS.shutdownMs, () => process.exit(1));
    return signal;
  });
  await prepareDataDirectory("walDir", config.walDir);
  await prepareDataDirectory("stateDir", config.stateDir);
  const disk = createNodeDisk();
  const transport = new NetworkPeerTransport(clock);
  const replicas: { runtime: NodeRuntime | null } = { runtime: null };
  const metrics = openMetrics({
    node: config.node,
    statuses: () => replicas.runtime?.status().replicas ?? [],
    anonymousMemoryBytes,
  });
  const opening = openNode({
    ...config,
    disk,
    clock,
    random: new NodeRandom(),
    engine: lmdbEngineFactory(disk),
    transport,
    metrics,
    logger,
    replica: { ...DEFAULT_REPLICA_OPTIONS, ...replicaOptions(config) },
  });
  // Nobody has an answer yet: what is half done is gone on with at the next start, as in a crash.
  const runtime = await Promise.race([opening, stopping]);
  if (typeof runtime === "string") {
    logger.info("stopped while opening", { signal: runtime });
    return 0;
  }
  replicas.runtime = runtime;
  let servers: SidecarServers;
  try {
    servers = await SidecarServers.open({
      ...config,
      metricsAddress: parseAddress(config.metricsAddress),
      version: VERSION,
      runtime,
      clock,
      logger,
      metrics,
    });
  } catch (error) {
    await runtime.close();
    await transport.close();
    throw error;
  }
  logger.info("serving", listening(config, servers.ports));
  const looking = new AbortController();
  const another = anotherStore(config, runtime, clock, looking.signal);
  const end = await Promise.race([stopping, runtime.fatal, another]);
  looking.abort(new Error("the process ends"));
  if (end instanceof Error) {
    // What failed may be the disk or an invariant: nothing of this process is to be trusted (R14).
    logger.error("stopping: a replica cannot go on", { error: end.stack ?? end.message });
    return 1;
  }
  if (typeof end === "string") logger.info("stopping", { signal: end });
  else logger.info("stopping, to be started for another store", { ...end });
  await servers.close(() => runtime.close());
  await transport.close();
  logger.info("stopped");
  return 0;
}

/**
 * Resolves once the configuration names another store and this process has no replica that would be
 * lost to its own: a record came back, say, that the coordinator had lost. Everything here was made
 * for the store it was started with, so only the next process can be the other one's.
 */
async function anotherStore(
  config: SidecarConfig,
  runtime: NodeRuntime,
  clock: NodeClock,
  signal: AbortSignal,
): Promise<{ readonly from: string; readonly to: string }> {
  for (;;) {
    await clock.sleep(CONFIG_LOOK_MS, signal).catch(() => undefined);
    // Nobody waits for this any more.
    if (signal.aborted) return { from: config.storeId, to: config.storeId };
    if (runtime.status().replicas.length > 0) continue;
    // One that is only half there, or wrong, is for the next start to tell of.
    const now = await loadConfig(SOURCES).catch(() => null);
    if (now === null || "kind" in now || now.storeId === config.storeId) continue;
    return { from: config.storeId, to: now.storeId };
  }
}

function replicaOptions(config: SidecarConfig): Partial<typeof DEFAULT_REPLICA_OPTIONS> {
  const { heartbeatMs, segmentBytes, walRetentionMs, walRetentionBytes } = config;
  return {
    heartbeatMs,
    segmentBytes,
    walRetentionMs,
    walRetentionBytes,
    checkpointIntervalMs: config.checkpointIntervalMs,
    leaderReads: config.reads === "leader",
    // Room for the segment in use and the next one.
    clientFreeBytesMin: 3 * segmentBytes,
    freeBytesMin: 2 * segmentBytes,
  };
}

function listening(
  config: SidecarConfig,
  ports: SidecarServers["ports"],
): Record<string, string | number> {
  const publicAt = parseAddress(config.publicAddress);
  const internalAt = parseAddress(config.internalAddress);
  return {
    public: ports.public,
    internal: ports.internal,
    metrics: ports.metrics,
    publicAddress: advertised(config.advertisedPublicAddress, publicAt, ports.public, config.node),
    internalAddress: advertised(
      config.advertisedInternalAddress,
      internalAt,
      ports.internal,
      config.node,
    ),
    startMs: Math.round(performance.now()),
  };
}

async function readTextFile(path: string): Promise<string | null> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw new ConfigError(`--config ${path} cannot be read: ${(error as Error).message}`);
  }
}

main().then(
  (code) => process.exit(code),
  (error: unknown) => {
    process.stderr.write(`sidecar: ${error instanceof Error ? error.stack : String(error)}\n`);
    process.exit(1);
  },
);
