/** A real cluster with this project's operator on it, for the tests in test/cluster. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import type { Context } from "mocha";
import { ApiClient } from "../../operator/kube/api-client.ts";
import { ApiTransport } from "../../operator/kube/api-transport.ts";
import { loadKubeConfig } from "../../operator/kube/kubeconfig.ts";
import { systemClock } from "../../operator/local/system-clock.ts";
import { skip } from "./skip.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
/** Where the operator is installed. */
export const OPERATOR_NAMESPACE = "resilver-system";
const COMMAND_MS = 180_000;
const OPERATOR_PODS = [
  ...["-n", OPERATOR_NAMESPACE],
  ...["-l", "app.kubernetes.io/name=resilver-operator"],
] as const;
/** Pods of these namespaces get no right that a careful cluster would not give them. */
const RESTRICTED = { "pod-security.kubernetes.io/enforce": "restricted" };

/** Names given so far, in all suites of this process. */
let namespaces = 0;
const DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class";

interface StorageClass {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: {
    readonly name: string;
    readonly annotations?: Readonly<Record<string, string>>;
  };
  readonly provisioner: string;
  readonly parameters?: Readonly<Record<string, string>>;
}

/** Commands against the cluster that KUBECONFIG names. */
export class KubeCluster {
  readonly client: ApiClient;
  private readonly transport: ApiTransport;

  /** Skips the suite where no cluster was given: `npm run test:cluster` gives one. */
  constructor(context: Context) {
    if ((process.env["KUBECONFIG"] ?? "") === "") {
      skip(context, "KUBECONFIG names no cluster; npm run test:cluster brings one up");
    }
    this.transport = new ApiTransport({
      config: loadKubeConfig({ env: process.env }),
      clock: systemClock,
      userAgent: "resilver-test",
    });
    this.client = new ApiClient(this.transport, "resilver-test");
  }

  /** Its output. Throws with everything the command said when it fails. */
  kubectl(args: readonly string[], input?: string): string {
    return this.run("kubectl", args, input);
  }

  /** See {@link kubectl}. */
  helm(...args: readonly string[]): string {
    return this.run("helm", args);
  }

  /** The definitions and the chart, as README.md says. */
  installOperator(...options: readonly string[]): void {
    this.kubectl(["apply", "--server-side", "-f", "crds/"]);
    this.namespace(OPERATOR_NAMESPACE);
    const chart = ["--install", "resilver", "charts/resilver", "--namespace", OPERATOR_NAMESPACE];
    // Without any option helm would take those of the time before.
    this.helm("upgrade", ...chart, "--reset-values", "--wait", "--timeout", "170s", ...options);
  }

  /** The image of the sidecar where a store names none. */
  sidecarImage(): string {
    const args = "-o=jsonpath={.items[0].spec.template.spec.containers[0].args}";
    const given: unknown = JSON.parse(
      this.kubectl(["get", "deployment", "-n", OPERATOR_NAMESPACE, args]),
    );
    assert.ok(Array.isArray(given));
    const flag = "--image=";
    const image = given.map(String).find((argument) => argument.startsWith(flag));
    assert.ok(image !== undefined, "the operator is told of no image");
    return image.slice(flag.length);
  }

  /** Removes the operator; stores stay. */
  uninstallOperator(): void {
    this.helm("uninstall", "resilver", "--namespace", OPERATOR_NAMESPACE, "--wait");
  }

  /** Ends all operator processes at once, without a word to them. */
  killOperator(): void {
    const kill = ["delete", "pod", ...OPERATOR_PODS, "--grace-period=0", "--force"];
    assert.match(this.kubectl(kill), /pod "resilver-.*force deleted/);
  }

  /** Makes a namespace under the restricted pod security standard. */
  namespace(name: string): void {
    const object = {
      apiVersion: "v1",
      kind: "Namespace",
      metadata: { name, labels: RESTRICTED },
    };
    this.kubectl(["apply", "-f", "-"], JSON.stringify(object));
  }

  /** Makes the like of the default storage class which binds a claim once its pod has a machine. */
  lateBindingClass(): string {
    return this.classLike("resilver-test-late", { volumeBindingMode: "WaitForFirstConsumer" });
  }

  /** Makes the like of the default storage class whose claims may ask for more. */
  growingClass(): string {
    return this.classLike("resilver-test-growing", { allowVolumeExpansion: true });
  }

  private classLike(name: string, more: object): string {
    const listed: unknown = JSON.parse(this.kubectl(["get", "storageclass", "-o", "json"]));
    const { items } = listed as { items: readonly StorageClass[] };
    const usual = items.find(({ metadata }) => metadata.annotations?.[DEFAULT_CLASS] === "true");
    assert.ok(usual !== undefined, "the cluster has no default storage class");
    const { apiVersion, kind, provisioner, parameters } = usual;
    const made = { apiVersion, kind, metadata: { name }, provisioner, parameters, ...more };
    this.kubectl(["apply", "-f", "-"], JSON.stringify(made));
    return name;
  }

  /** A name for a namespace that is not there yet. */
  freshNamespace(): string {
    namespaces += 1;
    return `resilver-test-${process.pid}-${namespaces}`;
  }

  /** The last lines of all operator processes, for a failed test. */
  operatorLog(lines = 20): string {
    const show = ["logs", ...OPERATOR_PODS, "--prefix", `--tail=${lines}`];
    const { stdout } = spawnSync("kubectl", show, { encoding: "utf8" });
    return stdout;
  }

  close(): void {
    this.transport.close();
  }

  private run(command: string, args: readonly string[], input?: string): string {
    const { status, stdout, stderr, error } = spawnSync(command, args, {
      cwd: root,
      encoding: "utf8",
      timeout: COMMAND_MS,
      ...(input === undefined ? {} : { input }),
    });
    const said = `${error?.message ?? ""}${stdout}${stderr}`;
    assert.equal(status, 0, `${command} ${args.join(" ")}: ${said}`);
    return stdout;
  }
}
