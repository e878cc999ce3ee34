/** The operator as a process: credentials, clients, log, and its end. */
import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { hostname } from "node:os";
import { openLogger, type OpenLogger } from "../../sidecar/observability/logger.ts";
import { KubeConfigError, loadKubeConfig } from "../kube/kubeconfig.ts";
import { Operator } from "../kube/operator.ts";
import { EXIT, ExitRequest, type Terminal, UsageError } from "../local/cli/exit.ts";
import { systemClock } from "../local/system-clock.ts";
import { CoordinationClient } from "../sidecar-client/coordination-client.ts";
import type { OperatorSettings } from "./operator-command.ts";

/** After a stop signal; the Lease runs out by itself when it could not be given back by then. */
const SHUTDOWN_MS_MAX = 5_000;

/** Where a pod finds the namespace it is in. */
const OWN_NAMESPACE_FILE = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

type Config = ReturnType<typeof loadKubeConfig>;

/**
 * Runs until the terminal's stop signal. Throws UsageError for credentials that cannot be used,
 * ExitRequest when it failed: the log has said why.
 */
export async function runOperator(
  settings: OperatorSettings,
  terminal: Terminal,
  version: string,
): Promise<void> {
  const config = credentials(settings, terminal);
  const leaseNamespace = settings.leaseNamespace ?? ownNamespace(config);
  const identity = `${settings.podName ?? hostname()}_${randomUUID()}`;
  const logger = openLogger(settings.logLevel, { operator: identity });
  const cancelDeadline = boundShutdown(terminal.stop, logger);
  try {
    logger.info("operator starts", {
      version,
      apiServer: config.getCurrentCluster()?.server,
      watches: settings.watchNamespaces.join(",") || "all namespaces",
      lease: `${leaseNamespace}/${settings.leaseName}`,
      image: settings.image,
    });
    const end = await operate(
      { settings, config, leaseNamespace, identity, version },
      logger,
      terminal,
    );
    if (end === "lost") {
      logger.error("operator ends", { error: "the Lease was lost; start it again" });
      throw new ExitRequest(EXIT.failed);
    }
    logger.info("operator stopped");
  } catch (error) {
    if (error instanceof ExitRequest) throw error;
    logger.error("operator failed", {
      error: error instanceof Error ? error.message : String(error),
    });
    throw new ExitRequest(EXIT.failed);
  } finally {
    cancelDeadline();
    await logger.close();
  }
}

interface Setup {
  readonly settings: OperatorSettings;
  readonly config: Config;
  readonly leaseNamespace: string;
  readonly identity: string;
  readonly version: string;
}

async function operate(
  { settings, config, leaseNamespace, identity, version }: Setup,
  logger: OpenLogger,
  terminal: Terminal,
): Promise<"stopped" | "lost"> {
  const { watchNamespaces, leaseName, image, healthPort, metricsPort, workers } = settings;
  const sidecars = new CoordinationClient({ clock: systemClock });
  try {
    const operator = new Operator({
      config,
      clock: systemClock,
      logger,
      random: Math.random,
      sidecars,
      version,
      identity,
      namespaces: watchNamespaces.length === 0 ? null : watchNamespaces,
      leaseNamespace,
      leaseName,
      image,
      healthPort,
      metricsPort,
      workers,
    });
    return await operator.run(terminal.stop);
  } finally {
    await sidecars.close();
  }
}

function credentials({ kubeconfig, context }: OperatorSettings, { env }: Terminal): Config {
  try {
    return loadKubeConfig({
      env,
      ...(kubeconfig === undefined ? {} : { kubeconfig }),
      ...(context === undefined ? {} : { context }),
    });
  } catch (error) {
    if (error instanceof KubeConfigError) throw new UsageError(error.message, { cause: error });
    throw error;
  }
}

/** The pod's namespace, else that of the kubeconfig's context. */
function ownNamespace(config: Config): string {
  try {
    const name = readFileSync(OWN_NAMESPACE_FILE, "utf8").trim();
    if (name !== "") return name;
  } catch {
    // Not in a pod.
  }
  const context = config.getContextObject(config.getCurrentContext());
  return context?.namespace ?? "default";
}

/**
 * Ends the process when an orderly end takes too long: an API server or a sidecar that does not
 * answer must not make the kubelet kill it. Returns what cancels that.
 */
function boundShutdown(stop: AbortSignal, logger: OpenLogger): () => void {
  let timer: NodeJS.Timeout | undefined;
  const begin = (): void => {
    timer = setTimeout(() => {
      logger.error("operator ends", {
        error: `not stopped within ${SHUTDOWN_MS_MAX} ms; its Lease runs out by itself`,
      });
      process.exit(EXIT.failed);
    }, SHUTDOWN_MS_MAX);
  };
  stop.addEventListener("abort", begin, { once: true });
  if (stop.aborted) begin();
  return () => {
    stop.removeEventListener("abort", begin);
    clearTimeout(timer);
  };
}
