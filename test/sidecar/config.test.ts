import assert from "node:assert/strict";
import {
  advertised,
  ConfigError,
  type ConfigSources,
  loadConfig,
  parseAddress,
  type SidecarConfig,
} from "../../sidecar/config.ts";

const REQUIRED = [
  ...["--node", "n1", "--store-id", "s1"],
  ...["--wal-dir", "/data/wal", "--state-dir", "/data/state"],
] as const;

interface Inputs {
  readonly argv?: readonly string[];
  readonly env?: ConfigSources["env"];
  readonly files?: Readonly<Record<string, string>>;
}

function load(inputs: Inputs): ReturnType<typeof loadConfig> {
  return loadConfig({
    argv: inputs.argv ?? REQUIRED,
    env: inputs.env ?? {},
    version: "1.2.3",
    readFile: async (path) => inputs.files?.[path] ?? null,
  });
}

async function config(inputs: Inputs): Promise<SidecarConfig> {
  const loaded = await load(inputs);
  assert.ok(!("kind" in loaded));
  return loaded;
}

async function help(argv: readonly string[]): Promise<string> {
  const loaded = await load({ argv });
  assert.ok("kind" in loaded);
  return loaded.text;
}

describe("Sidecar configuration", () => {
  it("has defaults for everything but name and directories", async () => {
    const loaded = await config({});
    assert.equal(loaded.publicAddress, "0.0.0.0:6648");
    assert.equal(loaded.internalAddress, "0.0.0.0:6649");
    assert.equal(loaded.metricsAddress, "0.0.0.0:6650");
    assert.equal(loaded.logLevel, "info");
    assert.equal(loaded.heartbeatMs, 100);
    assert.ok(Object.isFrozen(loaded));
  });

  it("lets the environment win over the file, and flags over both", async () => {
    const files = { "c.yaml": "heartbeatMs: 20\nlogLevel: debug\nwalRetentionMs: 5\n" };
    const env = { RESILVER_HEARTBEAT_MS: "30", RESILVER_LOG_LEVEL: "warn", OTHER: "x" };
    const argv = [...REQUIRED, "--config", "c.yaml", "--heartbeat-ms", "40"];
    const loaded = await config({ argv, env, files });
    assert.equal(loaded.heartbeatMs, 40);
    assert.equal(loaded.logLevel, "warn");
    assert.equal(loaded.walRetentionMs, 5);
  });

  it("reads JSON too", async () => {
    const files = {
      "c.json": '{"node":"n2","storeId":"s","walDir":"/a","stateDir":"/b","segmentBytes":8388608}',
    };
    const loaded = await config({ argv: ["--config", "c.json"], files });
    assert.equal(loaded.node, "n2");
    assert.equal(loaded.segmentBytes, 8_388_608);
  });

  const bad: readonly (readonly [string, Inputs, RegExp])[] = [
    ["no name", { argv: REQUIRED.slice(2) }, /node is not set; set --node, RESILVER_NODE/],
    ["no directory", { argv: REQUIRED.slice(0, 6) }, /stateDir is not set/],
    ["bad name", { argv: ["--node", "N 1"] }, /node is "N 1"; allowed: 1 to 253 of a-z/],
    ["unknown flag", { argv: [...REQUIRED, "--prot", "1"] }, /unknown option '--prot'.*--help/],
    ["flag without value", { argv: [...REQUIRED, "--log-level"] }, /--log-level.*argument missing/],
    ["stray argument", { argv: [...REQUIRED, "extra"] }, /too many arguments/],
    [
      "unknown key",
      { argv: ["--config", "c"], files: { c: "prot: 1" } },
      /unknown key prot; allowed: node, storeId, publicAddress/,
    ],
    [
      "key of a prototype",
      { argv: ["--config", "c"], files: { c: "toString: 1" } },
      /unknown key toString/,
    ],
    [
      "unknown variable",
      { env: { RESILVER_PROT: "1" } },
      /unknown environment variable RESILVER_PROT; allowed: RESILVER_NODE/,
    ],
    [
      "address without port",
      { argv: [...REQUIRED, "--public-address", "localhost"] },
      /publicAddress is "localhost"; allowed: host:port with a port from 0 to 65535/,
    ],
    [
      "port out of range",
      { argv: [...REQUIRED, "--public-address", "localhost:65536"] },
      /publicAddress is "localhost:65536"/,
    ],
    [
      "advertised port 0",
      { argv: [...REQUIRED, "--advertised-public-address", "h:0"] },
      /advertisedPublicAddress is "h:0"/,
    ],
    [
      "level",
      { argv: [...REQUIRED, "--log-level", "loud"] },
      /logLevel is "loud"; allowed: error, /,
    ],
    [
      "number",
      { argv: [...REQUIRED, "--heartbeat-ms", "1e3"] },
      /heartbeatMs is "1e3"; allowed: a whole number from 10 to 1000/,
    ],
    ["empty number", { env: { RESILVER_HEARTBEAT_MS: "" } }, /heartbeatMs is ""/],
    [
      "number in the file",
      { argv: [...REQUIRED, "--config", "c"], files: { c: "segmentBytes: 1.5" } },
      /segmentBytes is 1.5; allowed: a whole number/,
    ],
    [
      "wrong type in the file",
      { argv: ["--config", "c"], files: { c: "node: [1]" } },
      /node is \[1\]; allowed: 1 to 253/,
    ],
    ["absent file", { argv: ["--config", "none"] }, /--config none does not exist/],
    ["broken file", { argv: ["--config", "c"], files: { c: "{" } }, /neither YAML nor JSON/],
    ["list in the file", { argv: ["--config", "c"], files: { c: "- 1" } }, /allowed: settings by/],
    [
      "one directory in the other",
      { argv: [...REQUIRED, "--wal-dir", "/d", "--state-dir", "/d/state"] },
      /walDir is \/d and stateDir is \/d\/state; allowed: two directories/,
    ],
    ["store", { argv: [...REQUIRED, "--store-id", "a b"] }, /storeId is "a b"; allowed: 1 to 128/],
  ];
  for (const [title, inputs, text] of bad) {
    it(`refuses by name: ${title}`, async () => {
      await assert.rejects(load(inputs), (error) => {
        assert.ok(error instanceof ConfigError, String(error));
        assert.match(error.message, text);
        return true;
      });
    });
  }

  it("ignores what Kubernetes sets for a Service named resilver", async () => {
    const env = {
      RESILVER_SERVICE_HOST: "10.0.0.1",
      RESILVER_SERVICE_PORT_PUBLIC: "6648",
      RESILVER_PORT: "tcp://10.0.0.1:6648",
      RESILVER_PORT_6648_TCP_ADDR: "10.0.0.1",
      RESILVER_OPERATOR_SERVICE_HOST: "10.0.0.2",
    };
    assert.equal((await config({ env })).node, "n1");
  });

  it("explains every setting in --help, and tells its version", async () => {
    const text = await help(["--help"]);
    for (const part of ["--wal-dir <path>", "RESILVER_WAL_DIR", "(required)", "(default: info)"]) {
      assert.ok(text.includes(part), part);
    }
    assert.equal((await help(["--version"])).trim(), "1.2.3");
  });

  it("takes addresses apart and puts them together", () => {
    assert.deepEqual(parseAddress("[::1]:80"), { host: "::1", port: 80 });
    assert.throws(() => parseAddress("x"), ConfigError);
    const any = { host: "0.0.0.0", port: 0 };
    assert.equal(advertised("", any, 71, "pod-0"), "pod-0:71");
    assert.equal(advertised("", { host: "::1", port: 0 }, 71, "pod-0"), "[::1]:71");
    assert.equal(advertised("given:1", any, 71, "pod-0"), "given:1");
  });
});
