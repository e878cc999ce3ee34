/** What is done and measured at each number of stores. */
import { fileURLToPath } from "node:url";
import { pause } from "../../operator/controller/wake.ts";
import { systemClock } from "../../operator/local/system-clock.ts";
import type { Row } from "../bench/report.ts";
import { storeName } from "./address-map.ts";
import type { ScaleOptions } from "./options.ts";
import { RunningProcess } from "./running-process.ts";
import { Replacement } from "./replacement.ts";
import { REPLICAS, type ScaleCluster } from "./scale-cluster.ts";

const PORTS = { sidecars: 26_600, calls: 26_601, health: 26_602, metrics: 26_603 };
/** About what Node gives itself in a container with the chart's memory limit. */
const HEAP = "--max-old-space-size=384";
const POLL_MS = 500;
const STEP_MINUTES = 20;
const SAY_MS = 10_000;
const RESTARTS_MAX = 10;
/**
 * All at once, hundreds of stores keep the API server and its controllers busy for minutes, and no
 * Lease is renewed in time meanwhile: what is measured then is them.
 */
const MADE_AT_ONCE = 50;

/** Programs that were bundled for the run, by name. */
export type Bundles = Readonly<Record<"operator" | "sidecars", string>>;

/** See the file's header. */
export class ScaleRun {
  private readonly cluster: ScaleCluster;
  private readonly options: ScaleOptions;
  private readonly bundles: Bundles;
  private readonly parts: RunningProcess[] = [];
  private operator: RunningProcess;
  /** How often it ended by itself, as it does when it cannot renew its Lease in time. */
  private restarts = 0;

  constructor(cluster: ScaleCluster, options: ScaleOptions, bundles: Bundles) {
    this.cluster = cluster;
    this.options = options;
    this.bundles = bundles;
    const stages = fileURLToPath(new URL("../../test/scale/kwok.yaml", import.meta.url));
    const which = "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake";
    const more = ["--cidr=10.128.0.0/14", "--node-lease-duration-seconds=40", "--v=WARN"];
    const kubeconfig = process.env["KUBECONFIG"] ?? "";
    const kwok = ["-c", stages, "--kubeconfig", kubeconfig, which, ...more];
    this.parts.push(new RunningProcess("kwok", "kwok", kwok));
    const ports = [PORTS.sidecars, PORTS.calls].map(String);
    this.parts.push(new RunningProcess("sidecars", process.execPath, [bundles.sidecars, ...ports]));
    this.operator = this.startOperator();
  }

  /** Goes from one number of stores to another; returns what was measured there. */
  async step(from: number, to: number): Promise<Row> {
    const made = await this.making(from, to);
    const cold = await this.coldStart(to);
    const idle = await this.idling(to);
    const replaced = await this.replacing(to);
    const peakMiB = this.operator.peakMiB();
    const after = { "peak MiB": peakMiB, restarts: this.restarts };
    const figures = { ...made, ...cold, ...after, ...idle, ...replaced };
    return { what: `${to} stores`, figures };
  }

  async close(): Promise<void> {
    await this.operator.stop();
    await Promise.all(this.parts.map((part) => part.stop()));
  }

  private startOperator(): RunningProcess {
    const ports = [PORTS.sidecars, PORTS.health, PORTS.metrics].map(String);
    const program = [HEAP, this.bundles.operator, ...ports];
    return new RunningProcess("operator", process.execPath, program);
  }

  /** What the kubelet does for a container that has ended. */
  private keepOperator(): void {
    if (!this.operator.over) return;
    this.restarts += 1;
    if (this.restarts > RESTARTS_MAX) this.operator.check();
    console.error(`operator: started again, for the ${this.restarts}. time`);
    this.operator = this.startOperator();
  }

  private async making(from: number, to: number): Promise<Row["figures"]> {
    const [requests, restarts] = [await this.requests(), this.restarts];
    const begunMs = performance.now();
    for (let at = from; at < to; at += MADE_AT_ONCE) {
      const end = Math.min(at + MADE_AT_ONCE, to);
      await this.cluster.create(at, end);
      await this.until(`${end} stores available`, () => [this.cluster.availableStores, end]);
    }
    const seconds = (performance.now() - begunMs) / 1_000;
    const each = ((await this.requests()) - requests) / (to - from);
    // Another process counts from zero.
    return { "made s": seconds, "requests each": restarts === this.restarts ? each : null };
  }

  /** Another operator takes over; it is there when it knows all that there is to know. */
  private async coldStart(stores: number): Promise<Row["figures"]> {
    await this.operator.stop();
    const begunMs = performance.now();
    this.operator = this.startOperator();
    const replicas = stores * REPLICAS;
    await this.until(`${replicas} replicas seen by a new operator`, async () => {
      const metrics = await this.metrics();
      const voters = metrics.filter(({ name }) => name === "resilver_replica_voter");
      const seen = voters.reduce((sum, { value }) => sum + value, 0);
      const reconciled = sum(metrics, "controller_runtime_reconcile_total") >= stores;
      const idle = sum(metrics, "workqueue_depth") === 0;
      const followed = await this.followed();
      return [
        reconciled && idle ? Math.min(seen, followed) : Math.min(seen, replicas - 1),
        replicas,
      ];
    });
    const seconds = (performance.now() - begunMs) / 1_000;
    return { "cold start s": seconds, "its requests each": (await this.requests()) / stores };
  }

  private async idling(stores: number): Promise<Row["figures"]> {
    const { idleSeconds } = this.options;
    const { restarts, operator } = this;
    const [requests, cpu] = [await this.requests(), operator.cpuSeconds()];
    await pause(systemClock, idleSeconds * 1_000, new AbortController().signal);
    this.keepOperator();
    if (restarts !== this.restarts) return { "idle requests/min each": null, "idle cpu %": null };
    const each = ((await this.requests()) - requests) / stores / (idleSeconds / 60);
    const percent = ((operator.cpuSeconds() - cpu) / idleSeconds) * 100;
    return { "idle requests/min each": each, "idle cpu %": percent };
  }

  private async replacing(stores: number): Promise<Row["figures"]> {
    await this.cluster.followPods();
    const delays: number[] = [];
    for (let round = 0; round < this.options.replacements; round += 1) {
      // Spread over all stores, and over leaders and followers.
      const store = Math.floor((round * stores) / this.options.replacements);
      const pod = `${storeName(store)}-${round % REPLICAS}`;
      const replacement = new Replacement(pod);
      const end = this.cluster.listen((told) => replacement.hear(told));
      try {
        await this.cluster.replaceVolumes(pod);
        await this.until(`${pod} rebuilt`, () => [replacement.succeeded ? 1 : 0, 1]);
      } finally {
        end();
      }
      console.error(replacement.toString());
      delays.push(replacement.recoveryAfterMs());
    }
    const sorted = delays.toSorted((a, b) => a - b);
    const at = (share: number): number | null =>
      sorted[Math.ceil(sorted.length * share) - 1] ?? null;
    return { "recovery object p50 ms": at(0.5), "p99 ms": at(0.99) };
  }

  /** Waits until as many are there as are wanted, and says every while how many are. */
  private async until(
    what: string,
    look: () => readonly [number, number] | Promise<readonly [number, number]>,
  ): Promise<void> {
    const endMs = performance.now() + STEP_MINUTES * 60_000;
    let saidMs = performance.now();
    for (;;) {
      const [there, wanted] = await look();
      if (there >= wanted) return;
      for (const part of this.parts) part.check();
      this.keepOperator();
      const nowMs = performance.now();
      if (nowMs > endMs) throw new Error(`${what}: ${there} of ${wanted} in ${STEP_MINUTES} min`);
      if (nowMs - saidMs > SAY_MS) {
        saidMs = nowMs;
        console.error(`${what}: ${there} of ${wanted}`);
      }
      await pause(systemClock, POLL_MS, new AbortController().signal);
    }
  }

  private async requests(): Promise<number> {
    return sum(await this.metrics(), "rest_client_requests_total");
  }

  private async followed(): Promise<number> {
    const text = await page(`http://127.0.0.1:${PORTS.calls}/`);
    return text === null ? 0 : Number((JSON.parse(text) as { readonly open: number }).open);
  }

  private async metrics(): Promise<readonly Sample[]> {
    const text = (await page(`http://127.0.0.1:${PORTS.metrics}/metrics`)) ?? "";
    return text.split("\n").flatMap((line) => {
      const [, name, value] = /^(\w+)(?:\{.*\})? (\S+)$/u.exec(line) ?? [];
      return name === undefined ? [] : [{ name, value: Number(value) }];
    });
  }
}

interface Sample {
  readonly name: string;
  readonly value: number;
}

function sum(samples: readonly Sample[], name: string): number {
  return samples.reduce((total, sample) => total + (sample.name === name ? sample.value : 0), 0);
}

/** Null while nobody listens there. */
async function page(url: string): Promise<string | null> {
  try {
    const answer = await fetch(url);
    return await answer.text();
  } catch {
    return null;
  }
}
