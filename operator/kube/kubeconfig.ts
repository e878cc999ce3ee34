/** Where the API server is, and who we are there. */
import { type Cluster, KubeConfig } from "@kubernetes/client-node";

/** No usable credentials. The message says what was tried. */
export class KubeConfigError extends Error {
  override readonly name = "KubeConfigError";
}

/** What people may say about it. */
export interface KubeConfigOptions {
  /** A file; absent: the pod's own identity inside a cluster, else what kubectl would use. */
  readonly kubeconfig?: string;
  /** A context of it; absent: its current one. */
  readonly context?: string;
  readonly env: Readonly<Record<string, string | undefined>>;
}

/** Reads the credentials. Throws KubeConfigError. */
export function loadKubeConfig(options: KubeConfigOptions): KubeConfig {
  const { kubeconfig, context, env } = options;
  const config = new KubeConfig();
  const inCluster =
    kubeconfig === undefined &&
    env["KUBECONFIG"] === undefined &&
    env["KUBERNETES_SERVICE_HOST"] !== undefined;
  try {
    if (kubeconfig !== undefined) config.loadFromFile(kubeconfig);
    else if (inCluster) config.loadFromCluster();
    else config.loadFromDefault();
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    const from = kubeconfig ?? (inCluster ? "the pod's service account" : "the default kubeconfig");
    throw new KubeConfigError(`kubeconfig: ${from} cannot be read: ${why}`, { cause: error });
  }
  if (context !== undefined) {
    const names = config.getContexts().map(({ name }) => name);
    if (!names.includes(context)) {
      throw new KubeConfigError(
        `context is ${JSON.stringify(context)}; allowed: ${names.join(", ") || "none, there are no contexts"}`,
      );
    }
    config.setCurrentContext(context);
  }
  const cluster = config.getCurrentCluster();
  if (cluster === null || (kubeconfig === undefined && isLastResort(cluster))) {
    throw new KubeConfigError(
      "kubeconfig: no cluster is chosen; set KUBECONFIG, or pass --kubeconfig and --context",
    );
  }
  return config;
}

/** What the client makes up where there is no kubeconfig at all; nobody has chosen that. */
function isLastResort({ name, server }: Cluster): boolean {
  return name === "cluster" && server === "http://localhost:8080";
}
