/** Alerts and dashboard of the chart: they fire when they should, and ask for what there is. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parse, stringify } from "yaml";
import { GATE_NAMES, gatePage } from "../../operator/core/gates.ts";
import { STOP_REASONS, stopPage } from "../../operator/core/stops.ts";
import { PERSON_REASONS } from "../../operator/kube/person-needed.ts";
import { CoordinatorMetrics } from "../../operator/controller/coordinator-metrics.ts";
import { OperatorMetrics } from "../../operator/kube/operator-metrics.ts";
import { openMetrics } from "../../sidecar/observability/metrics.ts";
import { outsideTool } from "../support/outside-tool.ts";

const chart = fileURLToPath(new URL("../../charts/resilver", import.meta.url));
const cases = fileURLToPath(new URL("../testdata/alerts.yaml", import.meta.url));
const wordCases = fileURLToPath(new URL("../testdata/alert-words.yaml", import.meta.url));
/** Alerts about processes and volumes, which no series joins to a store. */
const OF_NO_STORE = [
  "ResilverDiskFilling",
  "ResilverOperatorWithoutLeader",
  "ResilverReconcileErrors",
];

interface Rule {
  readonly alert?: string;
  readonly record?: string;
  readonly expr: string;
  annotations?: Readonly<Record<string, string>>;
}

interface RuleFile {
  readonly groups: readonly { readonly name: string; readonly rules: readonly Rule[] }[];
}

interface CaseFile {
  readonly tests: readonly {
    readonly alert_rule_test: readonly {
      readonly alertname: string;
      readonly exp_alerts: readonly unknown[];
    }[];
  }[];
}

interface Dashboard {
  readonly panels: readonly {
    readonly title: string;
    readonly targets?: readonly { expr: string }[];
  }[];
  readonly templating: { readonly list: readonly { readonly query: string }[] };
}

/** Of others: kubelets, the operator's process under the names that controllers use. */
const OTHERS = ["kubelet_volume_stats_available_bytes", "kubelet_volume_stats_capacity_bytes"];

function ruleFile(): RuleFile {
  return parse(readFileSync(join(chart, "rules", "resilver.yaml"), "utf8")) as RuleFile;
}

function rules(): readonly Rule[] {
  return ruleFile().groups.flatMap((group) => group.rules);
}

function alertNames(): readonly string[] {
  return rules().flatMap(({ alert }) => alert ?? []);
}

function dashboardQueries(): readonly string[] {
  const file = readFileSync(join(chart, "dashboards", "resilver.json"), "utf8");
  const { panels, templating } = JSON.parse(file) as Dashboard;
  const variables = templating.list.flatMap(
    ({ query }) => /^query_result\((.*)\)$/u.exec(query)?.[1] ?? [],
  );
  return [...variables, ...panels.flatMap(({ targets = [] }) => targets.map(({ expr }) => expr))];
}

/** Names of metrics in a query: what looks like one of ours or of those we know. */
function metricsIn(query: string): readonly string[] {
  const withoutText = query.replaceAll(/"[^"]*"/g, '""');
  const prefixes =
    "resilver|kubelet|controller_runtime|workqueue|leader_election|rest_client|process|nodejs";
  return withoutText.match(new RegExp(`\\b(${prefixes})[_:][a-z0-9_:]+`, "g")) ?? [];
}

/** Names of all metrics that the sidecar and the coordinator tell. */
async function toldMetrics(): Promise<ReadonlySet<string>> {
  const sidecar = openMetrics({ node: "a", statuses: () => [], anonymousMemoryBytes: () => 1 });
  const operator = new OperatorMetrics();
  operator.watch({
    depth: () => 0,
    longestWorkMs: () => 0,
    unfinishedWorkMs: () => 0,
    activeWorkers: () => 0,
    workers: 1,
    leads: () => false,
  });
  new CoordinatorMetrics(operator.registry, () => []);
  const pages = [await sidecar.page(), await operator.registry.metrics()];
  const told = pages.flatMap((page) =>
    [...page.matchAll(/^# TYPE (\S+) /gm)].map(([, name]) => name ?? ""),
  );
  return new Set([...told, ...OTHERS]);
}

/** Links of a page to files, or to headings in them, that are not there. */
function brokenLinks(page: string): readonly string[] {
  const text = readFileSync(page, "utf8");
  const links = [...text.matchAll(/\]\(([^)]+)\)/g)].map(([, link]) => link ?? "");
  return links.filter((link) => {
    if (link.startsWith("https://")) return false;
    const [file = "", heading] = link.split("#", 2);
    const target = join(page, "..", file);
    if (!existsSync(target)) return true;
    return heading !== undefined && !headingsOf(target).includes(heading);
  });
}

/** As links name them. */
function headingsOf(page: string): readonly string[] {
  const headings = readFileSync(page, "utf8").matchAll(/^#+ (.*)$/gm);
  return [...headings].map(([, text = ""]) => text.toLowerCase().replaceAll(" ", "-"));
}

describe("alerts", function () {
  this.timeout(60_000);

  it("ask only for metrics that there are, and so does the dashboard", async () => {
    const told = await toldMetrics();
    const recorded = new Set(rules().flatMap(({ record }) => record ?? []));
    const queries = [...rules().map(({ expr }) => expr), ...dashboardQueries()];
    const unknown = queries.flatMap(metricsIn).filter((name) => {
      const base = name.replace(/_(bucket|count|sum)$/, "");
      return !told.has(name) && !told.has(base) && !recorded.has(name);
    });
    assert.deepEqual([...new Set(unknown)], []);
    assert.ok(queries.flatMap(metricsIn).length > 50, "the queries were not understood");
  });

  it("have a page each, and so have gates, conditions, stops and what needs a person", () => {
    for (const { alert, annotations } of rules()) {
      if (alert === undefined) continue;
      assert.equal(annotations?.["runbook"], `runbooks/${alert}.md`);
      assert.ok(existsSync(join(chart, "runbooks", `${alert}.md`)), alert);
    }
    const pages = (folder: string): readonly string[] =>
      readdirSync(join(chart, "runbooks", folder)).map((page) => `runbooks/${folder}/${page}`);
    assert.deepEqual(pages("gates").toSorted(), GATE_NAMES.map(gatePage).toSorted());
    const conditions = ["Available", "Progressing", "Degraded", "NodeLost"];
    const own = conditions.map((name) => `runbooks/conditions/${name}.md`);
    const stops = STOP_REASONS.map(stopPage);
    assert.deepEqual(pages("conditions").toSorted(), [...own, ...stops].toSorted());
    const text = own.map((page) => readFileSync(join(chart, page), "utf8")).join("");
    const others = [
      "ApplyRejected",
      "ApplyFailed",
      "RecordUnread",
      "LeaderIsolated",
      "VotersBehind",
    ];
    for (const reason of [...PERSON_REASONS, ...others]) {
      assert.match(text, new RegExp(`\\b${reason}\\b`), reason);
    }
  });

  it("pages are all in the table of contents", () => {
    const folder = join(chart, "runbooks");
    const contents = readFileSync(join(folder, "README.md"), "utf8");
    const pages = readdirSync(folder, { recursive: true, encoding: "utf8" });
    const missing = pages.filter(
      (page) => page.endsWith(".md") && page !== "README.md" && !contents.includes(`](${page})`),
    );
    assert.deepEqual(missing, []);
  });

  it("pages link to pages that there are, and so do the READMEs", () => {
    const folder = join(chart, "runbooks");
    const pages = readdirSync(folder, { recursive: true, encoding: "utf8" })
      .filter((page) => page.endsWith(".md"))
      .map((page) => join(folder, page));
    const readmes = [join(chart, "README.md"), join(chart, "..", "..", "README.md")];
    assert.deepEqual([...pages, ...readmes].flatMap(brokenLinks), []);
  });

  it("are listed beside metrics that there are", async () => {
    const told = await toldMetrics();
    const named = metricsIn(readFileSync(join(chart, "README.md"), "utf8"));
    assert.deepEqual(
      named.filter((name) => !told.has(name)),
      [],
    );
    assert.ok(named.length > 15, "the table was not found");
  });

  it("name the store as people do", () => {
    for (const { alert = "", annotations = {} } of rules()) {
      const { summary = "" } = annotations;
      const named = alert === "" || OF_NO_STORE.includes(alert);
      if (!named)
        assert.match(summary, /of \{\{ with printf "resilver:store_called:last1d/u, alert);
    }
  });

  it("are each seen to fire and not to fire", () => {
    const { tests } = parse(readFileSync(cases, "utf8")) as CaseFile;
    const seen = tests.flatMap((test) => test.alert_rule_test);
    for (const alert of alertNames()) {
      const own = seen.filter(({ alertname }) => alertname === alert);
      assert.ok(
        own.some(({ exp_alerts }) => exp_alerts.length > 0),
        `${alert} never fires`,
      );
      assert.ok(
        own.some(({ exp_alerts }) => exp_alerts.length === 0),
        `${alert} always fires`,
      );
    }
  });

  describe("in Prometheus", () => {
    let promtool: string;
    let scratch: string;

    before(function () {
      promtool = outsideTool(this, "promtool");
      scratch = mkdtempSync(join(tmpdir(), "resilver-alerts-"));
    });
    after(() => {
      if (scratch !== undefined) rmSync(scratch, { recursive: true, force: true });
    });

    function run(...args: readonly string[]): void {
      const { status, stdout, stderr, error } = spawnSync(promtool, args, {
        cwd: scratch,
        encoding: "utf8",
      });
      if (error !== undefined) throw error;
      assert.equal(status, 0, stdout + stderr);
    }

    it("the rules are valid", () => {
      run("check", "rules", join(chart, "rules", "resilver.yaml"));
    });

    it("the alerts fire when they should", () => {
      const file = ruleFile();
      // Their words are not repeated in every case; `check rules` has read them.
      for (const { rules: all } of file.groups) for (const rule of all) delete rule.annotations;
      writeFileSync(join(scratch, "rules.yaml"), stringify(file));
      writeFileSync(join(scratch, "alerts.yaml"), readFileSync(cases));
      run("test", "rules", "alerts.yaml");
    });

    it("the alerts say which store it is, and fire even if nobody knows", () => {
      const file = ruleFile();
      for (const { rules: all } of file.groups) {
        for (const rule of all) {
          const { summary } = rule.annotations ?? {};
          if (summary !== undefined) rule.annotations = { summary };
        }
      }
      writeFileSync(join(scratch, "rules.yaml"), stringify(file));
      writeFileSync(join(scratch, "alert-words.yaml"), readFileSync(wordCases));
      run("test", "rules", "alert-words.yaml");
    });

    it("the README's join gives series their store's name, whoever tells of it or told last", () => {
      const readme = readFileSync(join(chart, "README.md"), "utf8");
      const [, query = ""] = /`METRIC (\* on [^`]+)`/u.exec(readme) ?? [];
      assert.notEqual(query, "", "the README has no join");
      const expr = `resilver_replica_voter ${query.replaceAll(/\s+/gu, " ")}`;
      const named = (store: string, name: string) =>
        `resilver_store_info{store="${store}",store_namespace="shop",store_name="${name}"`;
      const labels = '{store="s",pod="s-1",store_namespace="shop",store_name="carts"}';
      const test = {
        interval: "1m",
        input_series: [
          { series: `${named("s", "carts")},pod="op-a"}`, values: "1x60" },
          { series: `${named("s", "carts")},pod="op-b"}`, values: "1x60" },
          // Restored under another name: its records, and with them its id, came along.
          { series: `${named("t", "old")},pod="op-a"}`, values: "1x60" },
          { series: `${named("t", "new")},pod="op-a"}`, values: "1x60" },
          { series: 'resilver_replica_voter{store="s",pod="s-1"}', values: "1x300" },
        ],
        promql_expr_test: ["30m", "280m"].map((time) => ({
          expr,
          eval_time: time,
          exp_samples: [{ labels, value: 1 }],
        })),
      };
      writeFileSync(join(scratch, "join.yaml"), stringify({ rule_files: [], tests: [test] }));
      run("test", "rules", "join.yaml");
    });

    it("the dashboard's queries are valid", () => {
      const filled = dashboardQueries().map((query) =>
        query
          .replaceAll(/\$__(rate_interval|range)/g, "5m")
          .replaceAll(/\$(store|namespace)/g, ".*"),
      );
      const queries = filled.map((expr, index) => ({ record: `dashboard:query:${index}`, expr }));
      const groups = [{ name: "dashboard", rules: queries }];
      writeFileSync(join(scratch, "dashboard.yaml"), stringify({ groups }));
      run("check", "rules", "dashboard.yaml");
    });
  });
});
