/**
 * An image as one tar file that `docker load`, `kind load image-archive` and `ctr images import`
 * take: an OCI layout (OCI image specification 1.1) with Docker's own manifest.json beside it. The
 * same input gives the same bytes: no times, no user names, names in order.
 */
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";

const OCI = "application/vnd.oci.image";
const GZIP_LEVEL = 6;
/** Every time there is. Pages of images say "56 years ago", and that is the price. */
const EPOCH = "1970-01-01T00:00:00Z";

/**
 * Writes the archive `file`. `layers`: folders, the lowest first, as they are to be under `/`.
 * `config`: of the container (Entrypoint, User ...). Returns the image's digest and the archive's
 * size in bytes.
 */
export function writeArchive({ file, reference, layers, config, architecture, labels }) {
  const scratch = mkdtempSync(join(tmpdir(), "resilver-image-"));
  try {
    const blobs = join(scratch, "blobs", "sha256");
    mkdirSync(blobs, { recursive: true });
    const put = (mediaType, bytes) => {
      const hex = sha256(bytes);
      writeFileSync(join(blobs, hex), bytes);
      return { mediaType, digest: `sha256:${hex}`, size: bytes.length };
    };
    const putJson = (mediaType, value) => put(mediaType, Buffer.from(JSON.stringify(value)));

    const packed = layers.map(({ folder, comment }) => {
      const plain = tar(folder, ["."], []);
      const blob = put(`${OCI}.layer.v1.tar+gzip`, gzipSync(plain, { level: GZIP_LEVEL }));
      return { comment, diffId: `sha256:${sha256(plain)}`, blob };
    });
    const image = putJson(`${OCI}.config.v1+json`, {
      created: EPOCH,
      architecture,
      os: "linux",
      config: { ...config, Labels: labels },
      rootfs: { type: "layers", diff_ids: packed.map(({ diffId }) => diffId) },
      history: packed.map(({ comment }) => ({ created: EPOCH, created_by: comment })),
    });
    const manifest = putJson(`${OCI}.manifest.v1+json`, {
      schemaVersion: 2,
      mediaType: `${OCI}.manifest.v1+json`,
      config: image,
      layers: packed.map(({ blob }) => blob),
    });
    const files = {
      "oci-layout": { imageLayoutVersion: "1.0.0" },
      "index.json": {
        schemaVersion: 2,
        mediaType: `${OCI}.index.v1+json`,
        manifests: [
          {
            ...manifest,
            platform: { architecture, os: "linux" },
            annotations: {
              "io.containerd.image.name": fullReference(reference),
              "org.opencontainers.image.ref.name": reference.slice(reference.lastIndexOf(":") + 1),
            },
          },
        ],
      },
      "manifest.json": [
        {
          Config: blobPath(image),
          RepoTags: [reference],
          Layers: packed.map(({ blob }) => blobPath(blob)),
        },
      ],
    };
    for (const [name, value] of Object.entries(files)) {
      writeFileSync(join(scratch, name), JSON.stringify(value));
    }
    // Whatever the umask is.
    const modes = ["--mode=u=rwX,go=rX"];
    const bytes = tar(scratch, [...Object.keys(files), "blobs"], modes);
    writeFileSync(file, bytes);
    return { digest: manifest.digest, bytes: bytes.length };
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

/** Largest layer, far above what there is. */
const TAR_BYTES_MAX = 1024 * 1024 * 1024;

/** A folder's contents as a tar; owner, times and order say nothing of who packed it. */
function tar(folder, names, options) {
  const done = spawnSync(
    "tar",
    [
      "--create",
      "--format=gnu",
      "--sort=name",
      "--mtime=@0",
      "--owner=0",
      "--group=0",
      "--numeric-owner",
      ...options,
      "--directory",
      folder,
      ...names,
    ],
    { maxBuffer: TAR_BYTES_MAX, env: { ...process.env, LC_ALL: "C" } },
  );
  if (done.error !== undefined) throw new Error(`tar: ${done.error.message}`);
  if (done.status !== 0) throw new Error(`tar: ${done.stderr.toString("utf8").trim()}`);
  return done.stdout;
}

function sha256(bytes) {
  return createHash("sha256").update(bytes).digest("hex");
}

function blobPath({ digest }) {
  return `blobs/${digest.replace(":", "/")}`;
}

/** As containerd stores names: `resilver:1` is short for docker.io/library/resilver:1. */
function fullReference(reference) {
  const [first, ...rest] = reference.split("/");
  if (rest.length === 0) return `docker.io/library/${reference}`;
  return /[.:]|^localhost$/.test(first ?? "") ? reference : `docker.io/${reference}`;
}
