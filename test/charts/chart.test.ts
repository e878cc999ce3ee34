/**
 * What Helm makes of charts/resilver, against test/golden, and what it refuses. REWRITE=1 writes
 * the files; look at what changed before it is committed.
 */
import assert from "node:assert/strict";
import { execFile, spawnSync } from "node:child_process";
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseAllDocuments } from "yaml";
import { KINDS } from "../../operator/kube/resources.ts";
import { outsideTool } from "../support/outside-tool.ts";

const CHART = fileURLToPath(new URL("../../charts/resilver", import.meta.url));
/** A Helm that was compiled from its module knows an old version of Kubernetes only. */
const KUBE = ["--kube-version", "1.30.0"];

const GOLDEN: Readonly<Record<string, readonly string[]>> = {
  "chart-default": [],
  "chart-two-namespaces": [
    "watchNamespaces={team-a,team-b}",
    "networkPolicy.enabled=true",
    "networkPolicy.metricsFrom[0].namespaceSelector.matchLabels.team=monitoring",
    "serviceMonitor.enabled=true",
    "podMonitor.enabled=true",
    "nodeLoss.enabled=true",
    "image.pullSecrets[0].name=registry-login",
    "sidecarImage=registry.example/resilver:1.2.3",
  ],
};

const REFUSED: readonly (readonly [value: string, message: RegExp])[] = [
  ["replicas=two", /replicas'?:? got string, want integer/],
  ["replicaCount=3", /additional properties 'replicaCount' not allowed/],
  ["watchNamespaces={Not_A_Name}", /watchNamespaces\/0.*does not match/],
  ["serviceAccount.create=false", /serviceAccount\/name/],
  ["image.digest=sha256:short", /image\/digest.*does not match/],
  [
    `watchNamespaces={${Array.from({ length: 51 }, (_, n) => `team-${n}`).join()}}`,
    /watchNamespaces.*maxItems: got 51, want 50/,
  ],
  ["ports.health=8080", /ports\.metrics is 8080, as ports\.health is; allowed: another port/],
  ["operator.logLevel=loud", /operator\/logLevel.*must be one of/],
];

/** The Lease has a Role of its own, and Events are only written. */
const NOT_WATCHED = new Set(["leases", "events", "nodes", "persistentvolumes"]);

interface Rendered {
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace?: string };
  readonly rules?: readonly Rule[];
  readonly spec?: Record<string, unknown>;
}

interface Rule {
  readonly apiGroups: readonly string[];
  readonly resources: readonly string[];
  readonly resourceNames?: readonly string[];
  readonly verbs: readonly string[];
}

describe("chart", function () {
  this.timeout(60_000);
  let helm: string;

  before(function () {
    helm = outsideTool(this, "helm");
  });

  function run(args: readonly string[]) {
    const { status, stdout, stderr, error } = spawnSync(helm, args, { encoding: "utf8" });
    if (error !== undefined) throw error;
    return { status, stdout, text: stdout + stderr };
  }

  function template(values: readonly string[]) {
    const set = values.flatMap((value) => ["--set", value]);
    return run(["template", "resilver", CHART, "--namespace", "resilver-system", ...KUBE, ...set]);
  }

  function render(values: readonly string[]): { text: string; objects: readonly Rendered[] } {
    const { status, stdout, text } = template(values);
    assert.equal(status, 0, text);
    const documents = parseAllDocuments(stdout).map((document) => document.toJS() as Rendered);
    return { text: stdout, objects: documents.filter((object) => object !== null) };
  }

  it("has nothing that helm lint finds fault with", () => {
    const { status, text } = run(["lint", "--strict", ...KUBE, CHART]);
    assert.equal(status, 0, text);
  });

  for (const [name, values] of Object.entries(GOLDEN)) {
    it(`renders ${name}`, () => {
      const url = new URL(`../golden/${name}.yaml`, import.meta.url);
      const { text } = render(values);
      if (process.env["REWRITE"] === "1") writeFileSync(url, text);
      assert.equal(text, readFileSync(url, "utf8"));
    });
  }

  for (const [value, message] of REFUSED) {
    it(`refuses ${value.slice(0, 60)}`, () => {
      const { status, text } = template([value]);
      assert.notEqual(status, 0);
      assert.match(text, message);
    });
  }

  it("refuses to leave out an alert that there is not, and names those there are", () => {
    const { status, text } = template([
      "prometheusRule.enabled=true",
      "prometheusRule.disabledAlerts={ResilverNothing}",
    ]);
    assert.notEqual(status, 0);
    assert.match(text, /"ResilverNothing"; allowed: ResilverQuorumLost, /);
  });

  it("leaves out alerts, and links the others to their pages", () => {
    const { text } = render([
      "prometheusRule.enabled=true",
      "prometheusRule.disabledAlerts={ResilverFollowerLag}",
      "prometheusRule.runbookUrlPrefix=https://runbooks.example/",
    ]);
    assert.doesNotMatch(text, /alert: ResilverFollowerLag/);
    assert.match(text, /runbook_url: https:\/\/runbooks\.example\/ResilverQuorumLost\.md\n/);
    // Prometheus fills these in, not Helm.
    assert.match(text, /\{\{ \$labels\.pod \}\} does not vote/);
  });

  it("asks for nothing cluster-wide when namespaces are named", () => {
    const { objects } = render(["watchNamespaces={team-a,team-b}"]);
    assert.deepEqual(
      objects.filter(({ kind }) => kind.startsWith("Cluster")),
      [],
    );
    const inTeamA = objects.filter(({ metadata }) => metadata.namespace === "team-a");
    assert.deepEqual(inTeamA.map(({ kind }) => kind).toSorted(), [
      "Role",
      "Role",
      "Role",
      "RoleBinding",
    ]);
  });

  it("lets it look at machines and volumes, and no more, only where that is asked for", () => {
    const { objects } = render(["watchNamespaces={team-a}", "nodeLoss.enabled=true"]);
    const [role, binding, ...others] = objects.filter(({ kind }) => kind.startsWith("Cluster"));
    assert.deepEqual(
      [role?.kind, binding?.kind, others],
      ["ClusterRole", "ClusterRoleBinding", []],
    );
    const rights = role?.rules?.flatMap(({ resources, verbs }) => [resources.join(), verbs.join()]);
    assert.deepEqual(rights, ["persistentvolumes", "get", "nodes", "get,list"]);
  });

  it("lets the operator read every kind that it watches, and nothing with a wildcard", () => {
    const { objects } = render([]);
    const operator = objects.find(
      ({ kind, metadata }) => kind === "ClusterRole" && metadata.name === "resilver",
    );
    const rules = operator?.rules ?? [];
    for (const { apiVersion, plural } of Object.values(KINDS)) {
      if (NOT_WATCHED.has(plural)) continue;
      const group = apiVersion.includes("/") ? apiVersion.split("/", 1)[0] : "";
      const rule = rules.find(
        ({ apiGroups, resources }) => apiGroups.includes(group ?? "") && resources.includes(plural),
      );
      assert.ok(rule?.verbs.includes("list") && rule.verbs.includes("watch"), plural);
    }
    assert.ok(!JSON.stringify(objects.flatMap((object) => object.rules ?? [])).includes("*"));
  });

  it("lets it look at Leases of operators alone, and make one of its own", () => {
    for (const values of Object.values(GOLDEN)) {
      const rules = render(values).objects.flatMap((object) => object.rules ?? []);
      const named = rules
        .filter(({ resources }) => resources.includes("leases"))
        .map(({ verbs, resourceNames = [] }) => `${verbs.join()} ${resourceNames.join()}`);
      assert.deepEqual([...new Set(named)].toSorted(), [
        "create ",
        "get resilver-operator",
        "get,update resilver-operator",
      ]);
    }
  });

  it("selects none of its own pods as a store's", () => {
    const { text } = render([]);
    // By this label the operator's caches and the PodMonitor select.
    assert.doesNotMatch(text, /app\.kubernetes\.io\/name: resilver\n/);
  });

  /** The notes that an installation with these values shows. */
  function notesOf(...values: readonly string[]): string {
    const copy = mkdtempSync(join(tmpdir(), "resilver-chart-"));
    try {
      cpSync(CHART, copy, { recursive: true });
      // `helm template` leaves the notes out: here they are a manifest.
      const notes = readFileSync(join(CHART, "templates", "NOTES.txt"), "utf8");
      const wrapped = `{{- define "notes" }}\n${notes}{{ end }}text: {{ include "notes" . | quote }}\n`;
      writeFileSync(join(copy, "templates", "notes.yaml"), wrapped);
      const set = values.flatMap((value) => ["--set", value]);
      const args = ["--show-only", "templates/notes.yaml", ...set];
      const { status, stdout, text } = run(["template", "resilver", copy, ...KUBE, ...args]);
      assert.equal(status, 0, text);
      const [document] = parseAllDocuments(stdout);
      return String(document?.get("text"));
    } finally {
      rmSync(copy, { recursive: true, force: true });
    }
  }

  it("says what to type next, in a watched namespace, and what an uninstall leaves alone", () => {
    const told = notesOf("watchNamespaces={team-a}");
    assert.match(told, /^ {2}kubectl apply --server-side -f crds\/$/m);
    assert.match(told, /^ {2}kubectl apply --namespace team-a -f - <<EOF$/m);
    assert.match(told, /^ {2}kubectl get rstore,rshard,rrec --namespace team-a$/m);
    assert.match(told, /No volume, store or record is deleted/);
  });

  it("warns when no operator is to run", () => {
    assert.match(notesOf("replicas=0"), /^WARNING: replicas is 0: no operator runs\./mu);
    assert.doesNotMatch(notesOf("replicas=0"), /is being started/u);
    assert.match(notesOf("replicas=0"), /^1\. Once replicas is 1 or more, see that it runs:$/mu);
    assert.match(notesOf(), /^1\. See that it runs:$/mu);
    assert.doesNotMatch(notesOf(), /replicas is 0/u);
  });

  it("helm test passes for an operator that is ready, and says why where it tells too little", async () => {
    const pages: Record<string, string> = {
      "/readyz": "ok",
      "/metrics": 'leader_election_master_status{name="resilver"} 1',
    };
    const server = createServer((request, response) => response.end(pages[request.url ?? ""]));
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const { port } = server.address() as AddressInfo;
    const script = join(CHART, "tests", "ready.mjs");
    const tried = () =>
      new Promise<{ failed: boolean; text: string }>((resolve) => {
        const env = {
          OPERATOR_HOST: "127.0.0.1",
          HEALTH_PORT: String(port),
          METRICS_PORT: String(port),
        };
        execFile(process.execPath, [script], { env }, (error, stdout, stderr) =>
          resolve({ failed: error !== null, text: stdout + stderr }),
        );
      });
    try {
      const passed = await tried();
      assert.ok(!passed.failed, passed.text);
      assert.match(passed.text, /the operator is ready/);
      pages["/metrics"] = "nothing 1";
      const refused = await tried();
      assert.ok(refused.failed);
      assert.match(refused.text, /says nothing of leader election/);
    } finally {
      server.close();
    }
  });
});
