import { createRequire } from "node:module";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import type { ReplicaPaths } from "./directory.ts";
import type { ReplicaEndpoint } from "./settings.ts";

const HERE = fileURLToPath(import.meta.url);
/** This file is `operator/local/...` below the sources, or below `dist`. */
const ROOT = resolve(dirname(HERE), "..", "..");

/**
 * Interpreter, flags and script that run a sidecar: compiled, or from its sources as this file is.
 */
export function sidecarProgram(): readonly [string, ...string[]] {
  const fromSources = HERE.endsWith(".ts");
  const main = join(ROOT, "sidecar", fromSources ? "main.ts" : "main.js");
  return [
    process.execPath,
    ...(fromSources ? ["--import", createRequire(HERE).resolve("tsx")] : ["--enable-source-maps"]),
    main,
  ];
}

/** The settings of one replica, under the sidecar's names. */
export function sidecarSettings(
  storeId: string,
  endpoint: ReplicaEndpoint,
  paths: ReplicaPaths,
): Readonly<Record<string, string | number>> {
  return {
    node: endpoint.node,
    storeId,
    publicAddress: endpoint.publicAddress,
    internalAddress: endpoint.internalAddress,
    metricsAddress: endpoint.metricsAddress,
    walDir: paths.wal,
    stateDir: paths.state,
  };
}

/**
 * Settings as flags: `walDir` becomes `--wal-dir`. Flags, not a file, since reading one slows every
 * start.
 */
export function sidecarFlags(
  settings: Readonly<Record<string, string | number>>,
): readonly string[] {
  return Object.entries(settings).flatMap(([name, value]) => [
    `--${name.replaceAll(/[A-Z]/gu, (letter) => `-${letter.toLowerCase()}`)}`,
    String(value),
  ]);
}

/**
 * This process's environment without settings: what `up` is told must not reach its sidecars by
 * accident. With one arena the C library keeps less of what buffers leave: 25 to 40 MiB less in a
 * leader that was given 1 GiB.
 */
export function sidecarEnvironment(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  const kept = Object.entries(env).filter(([name]) => !name.startsWith("RESILVER_"));
  return { MALLOC_ARENA_MAX: "1", ...Object.fromEntries(kept), NODE_ENV: "production" };
}
