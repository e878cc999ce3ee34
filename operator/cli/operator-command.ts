/** `resilver operator`: its flags and environment. What runs is loaded only when it is to run. */
import { type Command, InvalidArgumentError, Option } from "commander";
import { LOG_LEVELS, type LogLevel } from "../../sidecar/observability/logger.ts";
import { integer } from "../local/cli/arguments.ts";
import { type Terminal, UsageError } from "../local/cli/exit.ts";

/** Flags, environment and defaults, put together. */
export interface OperatorSettings {
  /** Empty: all namespaces. */
  readonly watchNamespaces: readonly string[];
  /** Absent: the pod's own, or the kubeconfig's. */
  readonly leaseNamespace?: string;
  readonly leaseName: string;
  /** Of sidecars whose store names no image. */
  readonly image: string;
  readonly metricsPort: number;
  readonly healthPort: number;
  readonly workers: number;
  readonly logLevel: LogLevel;
  readonly kubeconfig?: string;
  readonly context?: string;
  /** What the identity in the Lease begins with; absent: the machine's name. */
  readonly podName?: string;
}

/** Every namespace has a dozen watches of its own; above this, watch all. */
const WATCH_NAMESPACES_MAX = 50;
const WORKERS_MAX = 64;
const PORT_MAX = 65_535;

/** Adds `resilver operator`. */
export function addOperatorCommand(program: Command, terminal: Terminal, version: string): void {
  const port = integer(0, PORT_MAX);
  const options = [
    new Option("--watch-namespaces <names>", "namespaces to look after, with commas between them")
      .env("WATCH_NAMESPACE")
      .argParser(namespaces)
      .default([], "all"),
    new Option(
      "--lease-namespace <name>",
      "the operator's own namespace, where its Lease is (default: the pod's, or the kubeconfig's)",
    )
      .env("POD_NAMESPACE")
      .argParser(label),
    new Option("--lease-name <name>", "processes with the same Lease take turns")
      .env("RESILVER_LEASE_NAME")
      .argParser(name)
      .default("resilver-operator"),
    new Option("--image <image>", "image of sidecars whose store names none")
      .env("RESILVER_IMAGE")
      .argParser(image)
      .default(`resilver:${version}`),
    new Option("--metrics-port <port>", "/metrics; 0: any free one")
      .env("RESILVER_METRICS_PORT")
      .argParser(port)
      .default(8080),
    new Option("--health-port <port>", "/healthz and /readyz; 0: any free one")
      .env("RESILVER_HEALTH_PORT")
      .argParser(port)
      .default(8081),
    new Option("--workers <count>", "stores that are looked at at the same time")
      .env("RESILVER_WORKERS")
      .argParser(integer(1, WORKERS_MAX))
      .default(4),
    new Option("--log-level <level>", "how much to log")
      .env("RESILVER_LOG_LEVEL")
      .choices(LOG_LEVELS)
      .default("info"),
    new Option(
      "--kubeconfig <file>",
      "credentials (default: the pod's inside a cluster, else what kubectl would use)",
    ),
    new Option("--context <name>", "context of the kubeconfig (default: its current one)"),
    new Option("--pod-name <name>", "begins the identity in the Lease (default: the host's name)")
      .env("POD_NAME")
      .argParser(name),
  ];
  const command = program
    .command("operator")
    .description("look after the ReplicatedStores of a Kubernetes cluster")
    .addHelpText(
      "after",
      `
A flag wins over its environment variable. Logs are JSON lines on standard output.
SIGTERM ends it in order and gives the Lease back, within 5 s.

Exit status: 0 stopped by a signal, 1 failed or lost the Lease, 2 wrong usage.`,
    );
  for (const option of options) command.addOption(option);
  command.action(async (settings: OperatorSettings) => {
    checkTogether(settings);
    // The Kubernetes client takes tens of MiB, which no other command has a use for.
    const { runOperator } = await import("./run-operator.ts");
    await runOperator(settings, terminal, version);
  });
}

function checkTogether({ metricsPort, healthPort }: OperatorSettings): void {
  if (metricsPort === 0 || metricsPort !== healthPort) return;
  throw new UsageError(
    `--health-port is ${healthPort}, as --metrics-port is; allowed: two different ports, or 0`,
  );
}

function label(text: string): string {
  if (/^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/u.test(text)) return text;
  throw new InvalidArgumentError(
    "Allowed: a namespace, 1 to 63 of a-z, 0-9 and '-', beginning and ending with a letter or digit.",
  );
}

function namespaces(text: string): readonly string[] {
  const names = text
    .split(",")
    .map((part) => part.trim())
    .filter((part) => part !== "")
    .map(label);
  const distinct = [...new Set(names)];
  if (distinct.length <= WATCH_NAMESPACES_MAX) return distinct;
  throw new InvalidArgumentError(
    `Allowed: at most ${WATCH_NAMESPACES_MAX} namespaces; leave it empty to watch all.`,
  );
}

function name(text: string): string {
  if (/^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$/u.test(text)) return text;
  throw new InvalidArgumentError(
    "Allowed: 1 to 253 of a-z, 0-9, '-' and '.', beginning and ending with a letter or digit.",
  );
}

function image(text: string): string {
  if (/^\S{1,1024}$/u.test(text)) return text;
  throw new InvalidArgumentError("Allowed: an image such as registry.example/resilver:1.2.3.");
}
