/** What the pages under charts/resilver/runbooks have people type. */
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parse } from "yaml";
import { parseReplicaRecovery } from "../../operator/api/v1alpha1/validation.ts";

const RUNBOOKS = fileURLToPath(new URL("../../charts/resilver/runbooks", import.meta.url));

/** Verbs that change something. */
const CHANGES = new Set(
  "annotate apply create delete edit evict label patch replace rollout scale set".split(" "),
);
/** What belongs to no namespace. */
const CLUSTER_WIDE = /^kubectl (delete node|label node|apply --server-side -f crds\/)/u;

interface Command {
  readonly page: string;
  readonly text: string;
}

/** Every `kubectl` between backquotes, over line ends too, or at the beginning of a line. */
function commandsOf(page: string): readonly Command[] {
  const text = readFileSync(join(RUNBOOKS, page), "utf8");
  const spans = [...text.matchAll(/`([^`]+)`/gu)].map(([, span = ""]) => span);
  const lines = [...text.matchAll(/^ {4,}(kubectl .*)$/gmu)].map(([, line = ""]) => line);
  return [...spans, ...lines]
    .flatMap((code) => code.split(";"))
    .map((code) => code.replaceAll(/\s+/gu, " ").trim())
    .filter((code) => code.startsWith("kubectl "))
    .map((code) => ({ page, text: code }));
}

/** The node selector in a merge patch of a ReplicatedStore. */
function replicatedStoreSelector(patch: string): unknown {
  const { spec } = JSON.parse(patch) as {
    readonly spec: { readonly template: { readonly spec: { readonly nodeSelector: unknown } } };
  };
  return spec.template.spec.nodeSelector;
}

describe("runbooks", () => {
  const pages = readdirSync(RUNBOOKS, { recursive: true, encoding: "utf8" });
  const commands = pages.filter((name) => name.endsWith(".md")).flatMap(commandsOf);
  const changing = commands.filter(({ text }) => CHANGES.has(text.split(" ")[1] ?? ""));

  it("name the namespace wherever something is changed: pods of other stores have such names", () => {
    assert.ok(changing.length >= 10, `only ${changing.length} commands are seen`);
    const lost = changing.filter(
      ({ text }) => !CLUSTER_WIDE.test(text) && !/ --namespace NS( |$)/u.test(text),
    );
    assert.deepEqual(lost, []);
  });

  it("make orders under names that nobody used: a finished one is kept, and cannot be changed", () => {
    const orders = pages
      .filter((name) => name.endsWith(".md"))
      .map((page) => ({ page, text: readFileSync(join(RUNBOOKS, page), "utf8") }))
      .filter(({ text }) => /^ +kind: ReplicaRecovery$/mu.test(text));
    assert.ok(orders.length >= 3, `only ${orders.length} pages are seen`);
    for (const { page, text } of orders) {
      assert.match(text, /kubectl create .*\n.*\n.*\n +metadata: \{ generateName: /u, page);
    }
  });

  it("hold back the pods of one store, and let them go again", () => {
    const patches = commands
      .filter(({ page }) => page === join("conditions", "QuorumLost.md"))
      .flatMap(({ text }) => /--patch '(.*)'$/u.exec(text)?.[1] ?? []);
    const selectors = patches.map((patch) => replicatedStoreSelector(patch));
    assert.deepEqual(selectors, [{ hold: "STORE" }, { hold: null }]);
  });

  it("order with a phrase that the definition lets pass", () => {
    const page = readFileSync(join(RUNBOOKS, "conditions", "QuorumLost.md"), "utf8");
    const [, order = ""] = /<<EOF\n(.*?)\n +EOF/su.exec(page) ?? [];
    const { spec } = parse(order) as { readonly spec: object };
    const metadata = { name: "force-1", namespace: "shop" };
    const named = JSON.parse(JSON.stringify(spec).replaceAll(/STORE|POD/gu, "demo")) as object;
    parseReplicaRecovery({
      apiVersion: "resilver.io/v1alpha1",
      kind: "ReplicaRecovery",
      metadata,
      spec: named,
    });
  });

  for (const page of ["ResilverRepeatedWipes.md", join("gates", "VolumeTerminating.md")]) {
    it(`${page} has a pod's data given up only where all others vote`, () => {
      const text = readFileSync(join(RUNBOOKS, page), "utf8");
      assert.match(text, /`kubectl get rshard --namespace NS`: VOTERS .*delete/su);
    });
  }
});
