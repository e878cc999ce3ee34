/** Which pods a ServiceMonitor or PodMonitor has scraped, as the Prometheus operator reads them. */
import { parseAllDocuments } from "yaml";
import type { KubeCluster } from "./kube-cluster.ts";
import type { Job, Target } from "./prometheus.ts";

type Labels = Readonly<Record<string, string>>;

/** As far as the chart uses them. */
interface Monitor {
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace: string };
  readonly spec: {
    readonly namespaceSelector?: { readonly any?: boolean };
    readonly selector: {
      readonly matchLabels: Labels;
      readonly matchExpressions?: readonly { readonly key: string }[];
    };
    readonly endpoints?: readonly Endpoint[];
    readonly podMetricsEndpoints?: readonly Endpoint[];
  };
}

interface Endpoint {
  readonly port: string;
  readonly honorLabels: boolean;
  readonly relabelings: readonly {
    readonly sourceLabels: readonly string[];
    readonly targetLabel: string;
  }[];
}

interface Named {
  readonly metadata: {
    readonly name: string;
    readonly namespace: string;
    readonly labels?: Labels;
  };
}

interface Pod extends Named {
  readonly spec: {
    readonly containers: readonly Container[];
    readonly initContainers?: readonly Container[];
  };
  readonly status: { readonly podIP?: string };
}

interface Container {
  readonly ports?: readonly { readonly name?: string; readonly containerPort: number }[];
}

interface Service extends Named {
  readonly spec: {
    readonly selector: Labels;
    readonly ports: readonly { readonly name: string; readonly targetPort: string }[];
  };
}

/** See the file's header. */
export class MonitoredPods {
  readonly jobs: readonly Job[];
  private readonly cluster: KubeCluster;
  private readonly monitors: readonly Monitor[];

  /** `rendered`: what `helm template` printed. */
  constructor(cluster: KubeCluster, rendered: string) {
    this.cluster = cluster;
    this.monitors = parseAllDocuments(rendered)
      .map((document) => document.toJS() as Monitor | null)
      .filter((object) => object !== null)
      .filter(({ kind }) => kind === "ServiceMonitor" || kind === "PodMonitor");
    this.jobs = this.monitors.map((monitor) => ({
      name: jobName(monitor),
      honorLabels: endpointsOf(monitor).every(({ honorLabels }) => honorLabels),
    }));
  }

  /** What is there for a job now. */
  targets(job: string): readonly Target[] {
    const monitor = this.monitors.find((other) => jobName(other) === job);
    if (monitor === undefined) throw new Error(`no monitor ${job}`);
    return endpointsOf(monitor).flatMap((endpoint) =>
      monitor.kind === "PodMonitor"
        ? this.pods(monitor).flatMap((pod) => targetsOf(pod, endpoint.port, endpoint))
        : this.behindServices(monitor, endpoint),
    );
  }

  private pods({ spec, metadata }: Monitor): readonly Pod[] {
    const anywhere = spec.namespaceSelector?.any === true;
    return this.list<Pod>("pods").filter(
      (pod) =>
        (anywhere || pod.metadata.namespace === metadata.namespace) &&
        isSelected(pod, spec.selector),
    );
  }

  private behindServices(monitor: Monitor, endpoint: Endpoint): readonly Target[] {
    const services = this.list<Service>("services").filter(
      (service) =>
        service.metadata.namespace === monitor.metadata.namespace &&
        isSelected(service, monitor.spec.selector),
    );
    return services.flatMap(({ metadata, spec }) => {
      const port = spec.ports.find(({ name }) => name === endpoint.port);
      if (port === undefined) return [];
      const pods = this.list<Pod>("pods").filter(
        (pod) =>
          pod.metadata.namespace === metadata.namespace &&
          isSelected(pod, { matchLabels: spec.selector }),
      );
      return pods.flatMap((pod) => targetsOf(pod, port.targetPort, endpoint));
    });
  }

  private list<T>(kind: string): readonly T[] {
    const listed: unknown = JSON.parse(this.cluster.kubectl(["get", kind, "-A", "-o", "json"]));
    return (listed as { readonly items: readonly T[] }).items;
  }
}

function jobName({ kind, metadata }: Monitor): string {
  return `${kind}-${metadata.name}`;
}

function endpointsOf({ spec }: Monitor): readonly Endpoint[] {
  return spec.endpoints ?? spec.podMetricsEndpoints ?? [];
}

function isSelected(
  { metadata: { labels = {} } }: Named,
  { matchLabels, matchExpressions = [] }: Monitor["spec"]["selector"],
): boolean {
  return (
    Object.entries(matchLabels).every(([key, value]) => labels[key] === value) &&
    matchExpressions.every(({ key }) => labels[key] !== undefined)
  );
}

function targetsOf(
  { metadata, spec, status }: Pod,
  portName: string,
  { relabelings }: Endpoint,
): readonly Target[] {
  const { name, namespace, labels = {} } = metadata;
  const meta = new Map([
    ["__meta_kubernetes_namespace", namespace],
    ...Object.entries(labels).map(
      ([key, value]) =>
        [`__meta_kubernetes_pod_label_${key.replaceAll(/\W/gu, "_")}`, value] as const,
    ),
  ]);
  const added = relabelings.map(
    ({ sourceLabels, targetLabel }) =>
      [targetLabel, sourceLabels.map((source) => meta.get(source) ?? "").join(";")] as const,
  );
  const containers = [...spec.containers, ...(spec.initContainers ?? [])];
  return containers
    .flatMap(({ ports = [] }) => ports)
    .filter((port) => port.name === portName && status.podIP !== undefined)
    .map(({ containerPort }) => ({
      address: `${status.podIP}:${containerPort}`,
      // The first two the Prometheus operator adds to every target.
      labels: { namespace, pod: name, ...Object.fromEntries(added) },
    }));
}
