/** A recovery as Prometheus sees it: what is scraped, what fires, what the dashboard shows. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { KubeCluster, OPERATOR_NAMESPACE } from "../support/kube-cluster.ts";
import { KubeStore } from "../support/kube-store.ts";
import { outsideTool } from "../support/outside-tool.ts";
import { MonitoredPods } from "../support/monitored-pods.ts";
import { Prometheus } from "../support/prometheus.ts";

const RECORDS = 384;
const RECORD_BYTES = 64 * 1024;
/** About ten seconds of transfer. */
const SLOW = { recovery: { cooldown: "0s", bandwidthLimit: "2Mi" } };
const MONITORS = ["serviceMonitor.enabled=true", "podMonitor.enabled=true"];
/** Alerts that a replica which does not vote for seconds is to cause, given less time for it. */
const EXPECTED = ["ResilverReplicaNotVoting", "ResilverQuorumAtRisk"];
/** No alert may wait longer here than a recovery takes. */
const ALERT_FOR = "2s";

/** Queries of the dashboard that rightly give nothing here; they have to be understood. */
const NOTHING_TO_SHOW: readonly (readonly [RegExp, string])[] = [
  [/kubelet_volume_stats/u, "no kubelet is scraped"],
  [/recovery_failed_total/u, "no recovery failed"],
  [/recovery_deferred_total/u, "no recovery was held back"],
  [/election_failed_total/u, "no election failed"],
];

interface Dashboard {
  readonly panels: readonly {
    readonly title: string;
    readonly targets?: readonly { readonly expr: string }[];
  }[];
}

describe("Prometheus", function () {
  this.timeout(300_000);
  let cluster: KubeCluster;
  let program: string;
  let store: KubeStore | null = null;
  let prometheus: Prometheus | null = null;

  before(function () {
    cluster = new KubeCluster(this);
    program = outsideTool(this, "prometheus");
    cluster.installOperator();
  });
  after(async () => {
    await prometheus?.close();
    await store?.close();
    cluster?.close();
  });

  it("sees a recovery go on and end, alerts fire and clear, every panel shows something", async () => {
    store = await KubeStore.create(cluster, SLOW);
    await store.load(RECORDS, RECORD_BYTES);
    store.startWriting();
    const monitored = new MonitoredPods(cluster, renderedMonitors(cluster));
    prometheus = await Prometheus.start(program, {
      jobs: monitored.jobs,
      rules: readFileSync("charts/resilver/rules/resilver.yaml", "utf8").replaceAll(
        /^(\s+for): \S+$/gmu,
        `$1: ${ALERT_FOR}`,
      ),
    });
    const seen = new Watched(store, prometheus, monitored);
    await seen.until("all of it is scraped, and nothing fires", async ({ firing, now }) => {
      const voters = await now(`resilver_replica_voter{${seen.selector}} == 1`);
      const sidecars = await now("resilver_replica_status");
      return new Set(voters.map(podOf)).size === 3 && sidecars.length > 0 && firing.length === 0;
    });
    await seen.recovery();
    await seen.until("the recovery is counted", async ({ now }) => {
      const query = `max(resilver_recovery_completed_total{${seen.selector}})`;
      return (await now(query))[0]?.value === 1;
    });
    await seen.until("the alerts are cleared", ({ firing }) =>
      EXPECTED.every((alert) => !firing.includes(alert)),
    );
    for (const alert of EXPECTED) assert.ok(seen.fired.has(alert), `${alert} did not fire`);
    await seen.progress();
    await seen.dashboard();
    await store.proveNothingLost();
  });
});

/** What Prometheus says at one moment. */
interface Moment {
  readonly firing: readonly string[];
  readonly now: Prometheus["now"];
}

/** Prometheus beside the store that it is to tell of. */
class Watched {
  readonly selector: string;
  readonly fired = new Set<string>();
  private readonly beganMs = Date.now();
  private readonly store: KubeStore;
  private readonly prometheus: Prometheus;
  private readonly monitored: MonitoredPods;

  constructor(store: KubeStore, prometheus: Prometheus, monitored: MonitoredPods) {
    this.store = store;
    this.prometheus = prometheus;
    this.monitored = monitored;
    this.selector = `store="${store.store?.status?.storeId}"`;
  }

  /** Looks until it is so; a few writes are awaited between looks. */
  async until(what: string, probe: (moment: Moment) => boolean | Promise<boolean>): Promise<void> {
    const now = this.prometheus.now.bind(this.prometheus);
    for (const endMs = Date.now() + 120_000; ; ) {
      for (const { name } of this.monitored.jobs) {
        this.prometheus.scrape(name, this.monitored.targets(name));
      }
      const firing = await this.prometheus.firing();
      for (const alert of firing) this.fired.add(alert);
      if (await probe({ firing, now })) return;
      assert.ok(Date.now() < endMs, `${what}: not in time; ${firing.join()} fire`);
      await this.store.written(20);
    }
  }

  /** Loses a follower's volumes, and waits until it votes again. */
  async recovery(): Promise<void> {
    const victim = this.store.follower();
    const uid = this.store.replicaUid(victim);
    this.store.deleteVolumes(victim);
    const rebuilt = this.store.rebuilt(victim, uid).then(() => true);
    let done = false;
    await this.until(`${victim} votes again`, async () => {
      done = done || (await Promise.race([rebuilt, Promise.resolve(false)]));
      return done;
    });
  }

  /** Of one pod, it rose step by step to 1. */
  async progress(): Promise<void> {
    const query = `max by (pod) (resilver_recovery_progress_ratio{${this.selector}})`;
    const series = await this.prometheus.between(query, this.beganMs, Date.now());
    const [only] = series;
    assert.equal(series.length, 1, JSON.stringify(series));
    const ratios = (only?.values ?? []).map(([, value]) => Number(value));
    const steps = new Set(ratios.filter((ratio) => ratio > 0 && ratio < 1));
    assert.ok(steps.size >= 3, `progress in ${steps.size} steps: ${ratios.join(" ")}`);
    assert.deepEqual(
      ratios,
      ratios.toSorted((a, b) => a - b),
    );
  }

  async dashboard(): Promise<void> {
    const file = readFileSync("charts/resilver/dashboards/resilver.json", "utf8");
    const { panels } = JSON.parse(file) as Dashboard;
    const empty: string[] = [];
    let queries = 0;
    for (const { title, targets = [] } of panels) {
      for (const { expr } of targets) {
        queries += 1;
        const query = withVariables(expr);
        const series = await this.prometheus.between(query, this.beganMs, Date.now());
        const shown = series.some(({ values }) => values.some(([, value]) => value !== "NaN"));
        const excused = NOTHING_TO_SHOW.some(([pattern]) => pattern.test(expr));
        if (!shown && !excused) empty.push(`${title}: ${query}`);
      }
    }
    assert.deepEqual(empty, []);
    process.stdout.write(`      ${queries} queries of the dashboard asked\n`);
  }
}

/** As Grafana puts them in: everything chosen, a scrape each second. */
function withVariables(query: string): string {
  return query
    .replaceAll(/\$(store|namespace)\b/gu, ".*")
    .replaceAll("$__rate_interval", "10s")
    .replaceAll("$__range", "30s");
}

function podOf({ metric }: { readonly metric: Readonly<Record<string, string>> }): string {
  return metric["pod"] ?? "";
}

/** The chart's monitors need definitions that only the Prometheus operator brings. */
function renderedMonitors(cluster: KubeCluster): string {
  const set = MONITORS.flatMap((value) => ["--set", value]);
  const api = ["--api-versions", "monitoring.coreos.com/v1"];
  const args = ["resilver", "charts/resilver", "--namespace", OPERATOR_NAMESPACE];
  return cluster.helm("template", ...args, ...api, ...set);
}
