/**
 * `npm run gen`: generates sidecar/protocol/gen from the .proto files and `crds` from
 * operator/api. With `--check` generates into a scratch folder instead and exits 1 when what is
 * committed differs.
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { root, run, tool } from "./bootstrap.mjs";

const check = process.argv.includes("--check");
const scratch = mkdtempSync(join(tmpdir(), "resilver-gen-"));
const output = check ? scratch : root;
/** Folder -> what it is made from, and how. */
const FOLDERS = [
  {
    folder: join("sidecar", "protocol", "gen"),
    from: "the .proto files",
    generate: generateProtocol,
  },
  { folder: "crds", from: "operator/api", generate: generateDefinitions },
];
try {
  for (const { folder, from, generate } of FOLDERS) {
    generate(output, folder);
    if (!check || equal(join(root, folder), join(scratch, folder))) continue;
    process.stdout.write(`${folder} is not what ${from} gives: npm run gen\n`);
    process.exitCode = 1;
  }
} finally {
  rmSync(scratch, { recursive: true, force: true });
}

/** The template's `out` is relative to what is given with --output. */
function generateProtocol(output) {
  // buf looks for protoc-gen-ts_proto on the PATH.
  const PATH = [join(root, "node_modules", ".bin"), process.env.PATH].join(delimiter);
  run(
    process.execPath,
    [
      tool("@bufbuild/buf", "bin/buf"),
      "generate",
      "--template",
      "sidecar/protocol/.buf.gen.yaml",
      "--output",
      output,
    ],
    { env: { ...process.env, PATH } },
  );
}

function generateDefinitions(output, folder) {
  run(process.execPath, ["--import", "tsx", ".scripts/crds.mjs", join(output, folder)]);
}

function equal(left, right) {
  const names = readdirSync(left).sort();
  if (names.join() !== readdirSync(right).sort().join()) return false;
  return names.every((name) =>
    readFileSync(join(left, name)).equals(readFileSync(join(right, name))),
  );
}
