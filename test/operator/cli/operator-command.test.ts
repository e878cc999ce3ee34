import assert from "node:assert/strict";
import { addOperatorCommand } from "../../../operator/cli/operator-command.ts";
import type { Terminal } from "../../../operator/local/cli/exit.ts";
import { runCommandLine } from "../../../operator/local/cli/program.ts";

interface Outcome {
  readonly status: number;
  readonly out: string;
  readonly err: string;
}

async function operator(...args: string[]): Promise<Outcome> {
  let out = "";
  let err = "";
  const terminal: Terminal = {
    out: (text) => {
      out += text;
    },
    err: (text) => {
      err += text;
    },
    isScreen: false,
    interactive: false,
    stop: new AbortController().signal,
    env: {},
  };
  const status = await runCommandLine(["operator", ...args], terminal, "1.2.3", [
    (program) => addOperatorCommand(program, terminal, "1.2.3"),
  ]);
  return { status, out, err };
}

describe("resilver operator: flags and environment", () => {
  it("help names every flag, its default and its variable", async () => {
    const { status, out, err } = await operator("--help");
    assert.deepEqual([status, err], [0, ""]);
    const text = out.replaceAll(/\s+/gu, " ");
    for (const [flag, rest] of [
      ["--watch-namespaces", "default: all, env: WATCH_NAMESPACE"],
      ["--lease-namespace", "env: POD_NAMESPACE"],
      ["--lease-name", 'default: "resilver-operator", env: RESILVER_LEASE_NAME'],
      ["--image", 'default: "resilver:1.2.3", env: RESILVER_IMAGE'],
      ["--metrics-port", "default: 8080, env: RESILVER_METRICS_PORT"],
      ["--health-port", "default: 8081, env: RESILVER_HEALTH_PORT"],
      ["--workers", "default: 4, env: RESILVER_WORKERS"],
      ["--log-level", 'choices: "error", "warn", "info", "debug", default: "info"'],
      ["--pod-name", "env: POD_NAME"],
    ] as const) {
      const at = text.indexOf(flag);
      assert.ok(at >= 0 && text.includes(rest, at), `${flag}: ${rest} is not in ${text}`);
    }
  });

  const many = Array.from({ length: 51 }, (_, i) => `n${i}`).join();
  const wrong: readonly (readonly [readonly string[], RegExp])[] = [
    [["--health-port", "http"], /'http' is invalid.*from 0 to 65535/u],
    [["--metrics-port", "65536"], /'65536' is invalid.*from 0 to 65535/u],
    [["--metrics-port", "9", "--health-port", "9"], /--health-port is 9, as --metrics-port is/u],
    [["--workers", "0"], /'0' is invalid.*from 1 to 64/u],
    [["--log-level", "loud"], /'loud' is invalid.*error, warn, info, debug/u],
    [["--watch-namespaces", "prod,Test"], /'prod,Test' is invalid.*a namespace, 1 to 63/u],
    [["--watch-namespaces", many], /at most 50 namespaces; leave it empty to watch all/u],
    [["--lease-namespace", "-a"], /'-a' is invalid.*a namespace/u],
    [["--lease-name", "A"], /'A' is invalid.*1 to 253/u],
    [["--image", "a b"], /'a b' is invalid.*an image such as/u],
    [["everything"], /too many arguments/u],
  ];
  for (const [args, message] of wrong) {
    it(`wrong usage: ${args.join(" ").slice(0, 40)}`, async () => {
      const { status, out, err } = await operator(...args);
      assert.equal(status, 2, out + err);
      assert.match(err, message);
    });
  }
});
