/**
 * `npm run gen`: generates sidecar/protocol/gen from the .proto files. With `--check` generates
 * into a scratch folder instead and exits 1 when the committed code differs.
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { root, run, tool } from "./bootstrap.mjs";

const check = process.argv.includes("--check");
const scratch = mkdtempSync(join(tmpdir(), "resilver-gen-"));
const folder = join("sidecar", "protocol", "gen");
// The template's `out` is relative to what is given with --output.
generate(check ? scratch : root);
const same = !check || equal(join(root, folder), join(scratch, folder));
rmSync(scratch, { recursive: true, force: true });
if (!same) {
  process.stdout.write(`${folder} is not what the .proto files give: npm run gen\n`);
  process.exitCode = 1;
}

function generate(output) {
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

function equal(left, right) {
  const names = readdirSync(left).sort();
  if (names.join() !== readdirSync(right).sort().join()) return false;
  return names.every((name) =>
    readFileSync(join(left, name)).equals(readFileSync(join(right, name))),
  );
}
