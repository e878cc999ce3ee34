import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { loadKubeConfig } from "../../../operator/kube/kubeconfig.ts";

const FILE = `
apiVersion: v1
kind: Config
clusters: [{name: a, cluster: {server: "https://a.example"}}, {name: b, cluster: {server: "https://b.example"}}]
users: [{name: me, user: {token: secret}}]
contexts: [{name: in-a, context: {cluster: a, user: me}}, {name: in-b, context: {cluster: b, user: me}}]
current-context: in-a
`;

describe("kubeconfig", () => {
  let dir: string;
  let file: string;
  before(() => {
    dir = mkdtempSync(join(tmpdir(), "resilver-kubeconfig-"));
    file = join(dir, "config");
    writeFileSync(file, FILE);
  });
  after(() => rmSync(dir, { recursive: true, force: true }));

  it("a file, and a context of it", () => {
    const server = (context?: string) =>
      loadKubeConfig({
        kubeconfig: file,
        env: {},
        ...(context === undefined ? {} : { context }),
      }).getCurrentCluster()?.server;
    assert.equal(server(), "https://a.example");
    assert.equal(server("in-b"), "https://b.example");
  });

  it("what is wrong names the value and what is allowed", () => {
    const load = (options: object) => () => loadKubeConfig({ env: {}, ...options });
    assert.throws(load({ kubeconfig: file, context: "in-c" }), {
      name: "KubeConfigError",
      message: 'context is "in-c"; allowed: in-a, in-b',
    });
    assert.throws(load({ kubeconfig: join(dir, "none") }), {
      name: "KubeConfigError",
      message: /cannot be read/,
    });
  });
});
