/**
 * `npm run image`: the container image without Docker, as an archive that `docker load`, `kind load
 * image-archive` and `ctr images import` take. What it holds is in image-root.mjs; .docker has a
 * Dockerfile for an image with the same commands.
 */
import { createHash } from "node:crypto";
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { homedir, tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { compile, installDependencies, root } from "./bootstrap.mjs";
import { ARCHITECTURES, fillBase, fillProgram, RUN_AS } from "./image-root.mjs";
import { writeArchive } from "./oci-archive.mjs";

const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
const HELP = `Usage: npm run image -- [options]

Writes the container image as an archive, without Docker.

  --output FILE    where to (default: dist/image/resilver-${version}.tar)
  --tag NAME:TAG   what the image is called (default: resilver:${version})
  --keep-root DIR  leave the unpacked root file system in DIR as well
  --help           print this

Then one of:
  docker load --input FILE
  kind load image-archive FILE
  ctr --namespace k8s.io images import FILE
`;

const options = readOptions();
if (process.platform !== "linux" || !(process.arch in ARCHITECTURES)) {
  fail(
    `this machine is ${process.platform}/${process.arch}; an image is made on linux, x64 or arm64`,
  );
}
installDependencies();
compile();
const { digest, bytes } = build(options);
process.stdout.write(
  `${options.output}: ${options.tag}, ${(bytes / 1024 / 1024).toFixed(1)} MiB\n${digest}\n`,
);

function build({ output, tag, keepRoot }) {
  const scratch = mkdtempSync(join(tmpdir(), "resilver-root-"));
  const base = join(scratch, "base");
  const program = join(scratch, "program");
  const cache = join(process.env.XDG_CACHE_HOME ?? join(homedir(), ".cache"), "resilver");
  const lock = readFileSync(join(root, "package-lock.json"));
  const lockDigest = createHash("sha256").update(lock).digest("hex").slice(0, 16);
  try {
    mkdirSync(base);
    mkdirSync(program);
    fillProgram(program, { cache, lockDigest });
    fillBase(base, { cache, arch: process.arch, program });
    if (keepRoot !== undefined) {
      mkdirSync(keepRoot, { recursive: true });
      copyTree(base, keepRoot);
      copyTree(program, keepRoot);
    }
    mkdirSync(dirname(output), { recursive: true });
    return writeArchive({
      file: output,
      reference: tag,
      architecture: ARCHITECTURES[process.arch],
      layers: [
        { folder: base, comment: "node, shared libraries, certificates, users" },
        { folder: program, comment: "resilver" },
      ],
      config: {
        User: `${RUN_AS}:${RUN_AS}`,
        Env: [
          "PATH=/usr/local/bin",
          "NODE_ENV=production",
          "MALLOC_ARENA_MAX=1",
          "NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt",
        ],
        Entrypoint: ["resilver"],
        Cmd: ["--help"],
        WorkingDir: "/",
        ExposedPorts: { "6648/tcp": {}, "6649/tcp": {}, "6650/tcp": {} },
      },
      labels: {
        "org.opencontainers.image.title": "resilver",
        "org.opencontainers.image.version": version,
        "org.opencontainers.image.licenses": "Apache-2.0",
      },
    });
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

function readOptions() {
  let values;
  try {
    ({ values } = parseArgs({
      options: {
        output: { type: "string", default: join(root, "dist", "image", `resilver-${version}.tar`) },
        tag: { type: "string", default: `resilver:${version}` },
        "keep-root": { type: "string" },
        help: { type: "boolean", default: false },
      },
    }));
  } catch (error) {
    fail(`${error.message}; see --help`);
  }
  if (values.help) {
    process.stdout.write(HELP);
    process.exit(0);
  }
  if (!/^[a-z0-9][a-z0-9._/:-]*:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$/.test(values.tag)) {
    fail(`--tag is ${JSON.stringify(values.tag)}; allowed: a name and a tag, such as resilver:1`);
  }
  const keepRoot = values["keep-root"];
  return {
    output: resolve(values.output),
    tag: values.tag,
    ...(keepRoot === undefined ? {} : { keepRoot: resolve(keepRoot) }),
  };
}

function copyTree(from, to) {
  cpSync(from, to, { recursive: true, force: true, verbatimSymlinks: true });
}

function fail(message) {
  process.stderr.write(`image: ${message}\n`);
  process.exit(2);
}
