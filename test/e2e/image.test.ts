/** The image that `npm run image` makes: the same twice, whole, and it runs with nothing else. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { RUN_AS } from "../../operator/specs/sidecar-container.ts";
import { skip } from "../support/skip.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
/** Where chroot is. */
const PATH = "/usr/sbin:/usr/bin:/sbin:/bin";
const MIB = 1024 * 1024;
/** It is 52 MiB; what makes it much larger is to be looked at. */
const ARCHIVE_BYTES_MAX = 64 * MIB;

interface Descriptor {
  readonly digest: string;
  readonly size: number;
}

describe("image", function () {
  this.timeout(600_000);
  let scratch: string;
  let archives: readonly string[];
  let layout: string;
  let rootfs: string;

  before(function () {
    if (process.platform !== "linux") skip(this, "an image is made on Linux");
    scratch = mkdtempSync(join(tmpdir(), "resilver-image-test-"));
    rootfs = join(scratch, "root");
    archives = ["one.tar", "two.tar"].map((name) => join(scratch, name));
    archives.forEach((file, index) => {
      const temporary = join(scratch, `tmp-${index}`);
      mkdirSync(temporary);
      const script = join(root, ".scripts", "image.mjs");
      const args = [script, "--output", file, "--tag", "registry.example/a/resilver:1.2.3"];
      if (index === 0) args.push("--keep-root", rootfs);
      // As somebody else would, elsewhere: neither may show.
      const command = `umask ${index === 0 ? "022" : "077"}; exec "$0" "$@"`;
      const { status, stdout, stderr } = spawnSync(
        "sh",
        ["-c", command, process.execPath, ...args],
        {
          encoding: "utf8",
          env: { ...process.env, TMPDIR: temporary },
        },
      );
      assert.equal(status, 0, stdout + stderr);
    });
    layout = join(scratch, "layout");
    mkdirSync(layout);
    const unpacked = spawnSync("tar", ["-xf", archives[0] ?? "", "-C", layout]);
    assert.equal(unpacked.status, 0, String(unpacked.stderr));
  });

  after(() => {
    if (scratch !== undefined) rmSync(scratch, { recursive: true, force: true });
  });

  function json(path: string): never {
    return JSON.parse(readFileSync(join(layout, path), "utf8")) as never;
  }

  function blob({ digest, size }: Descriptor): string {
    const path = join("blobs", digest.replace(":", "/"));
    const bytes = readFileSync(join(layout, path));
    assert.equal(bytes.length, size);
    assert.equal(`sha256:${createHash("sha256").update(bytes).digest("hex")}`, digest);
    return path;
  }

  function inside(command: string, ...args: readonly string[]) {
    const all = [`--userspec=${RUN_AS}:${RUN_AS}`, rootfs, command, ...args];
    const { status, stdout, stderr } = spawnSync("chroot", all, {
      encoding: "utf8",
      env: { PATH },
    });
    return { status, stdout, text: stdout + stderr };
  }

  it("is the same to the last byte when it is made again", () => {
    const [one, two] = archives.map((file) => readFileSync(file));
    assert.ok(one !== undefined && two !== undefined && one.equals(two));
  });

  it("is an OCI layout, and Docker's own archive as well", () => {
    const index: { manifests: readonly (Descriptor & { annotations: object })[] } =
      json("index.json");
    const [entry] = index.manifests;
    assert.ok(entry !== undefined);
    assert.deepEqual(entry.annotations, {
      "io.containerd.image.name": "registry.example/a/resilver:1.2.3",
      "org.opencontainers.image.ref.name": "1.2.3",
    });
    const manifest: { config: Descriptor; layers: readonly Descriptor[] } = json(blob(entry));
    const layers = manifest.layers.map(blob);
    const config: { config: Record<string, unknown>; rootfs: { diff_ids: readonly string[] } } =
      json(blob(manifest.config));
    assert.equal(config.rootfs.diff_ids.length, layers.length);
    assert.equal(config.config["User"], `${RUN_AS}:${RUN_AS}`);
    assert.deepEqual(json("manifest.json"), [
      {
        Config: blob(manifest.config),
        RepoTags: ["registry.example/a/resilver:1.2.3"],
        Layers: layers,
      },
    ]);
  });

  it("is small, and has no shell and no development packages", () => {
    const { size } = statSync(archives[0] ?? "");
    assert.ok(size < ARCHIVE_BYTES_MAX, `${(size / MIB).toFixed(1)} MiB`);
    for (const path of ["bin/sh", "usr/bin/env", "app/node_modules/typescript", "app/test"]) {
      assert.ok(!existsSync(join(rootfs, path)), path);
    }
  });

  it("runs both commands with nothing but itself, not as root", function () {
    if (process.getuid?.() !== 0) skip(this, "chroot takes root");
    for (const command of ["/usr/local/bin/resilver", "/usr/local/bin/resilver-sidecar"]) {
      const { status, text } = inside(command, "--version");
      assert.equal(status, 0, text);
      assert.match(text, /^\d+\.\d+\.\d+\n$/);
      assert.match(inside(command, "--help").stdout, /^Usage: /);
    }
    const refused = inside("/usr/local/bin/resilver-sidecar");
    assert.equal(refused.status, 2, refused.text);
    assert.match(refused.text, /node is not set; set --node/);
  });

  it("loads every native package and the Kubernetes client", function () {
    if (process.getuid?.() !== 0) skip(this, "chroot takes root");
    const names = ["lmdb", "@node-rs/crc32", "@node-rs/xxhash", "fs-native-extensions"];
    const program = `
      const load = require("node:module").createRequire("/app/");
      for (const name of ${JSON.stringify(names)}) load(name);
      import("/app/dist/operator/kube/kubeconfig.js").then(({ loadKubeConfig }) => {
        const env = { KUBERNETES_SERVICE_HOST: "10.0.0.1", KUBERNETES_SERVICE_PORT: "443" };
        Object.assign(process.env, env);
        const { server } = loadKubeConfig({ env }).getCurrentCluster();
        console.log(process.getuid(), process.versions.node, server);
      });`;
    const { status, text } = inside("/usr/local/bin/node", "--eval", program);
    assert.equal(status, 0, text);
    assert.match(text, new RegExp(`^${RUN_AS} 24\\..* https://10\\.0\\.0\\.1:443\n`));
  });
});
