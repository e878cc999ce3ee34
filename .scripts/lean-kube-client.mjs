/**
 * Of `@kubernetes/client-node` only what is used: loading all of its generated API takes an
 * operator 28 MB of memory and the first second of its life, of which it needs the kubeconfig.
 */
import { rmSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { root } from "./bootstrap.mjs";

const CLIENT = "@kubernetes/client-node";
/** For esbuild, whose expressions take none of JavaScript's flags. */
const EVERY = new RegExp("");

/**
 * An esbuild plugin: joins the client's modules that are used into the output, and the packages
 * that it has for itself; all other packages stay apart.
 */
export const leanKubeClient = {
  name: "lean-kube-client",
  setup(build) {
    build.onResolve({ filter: EVERY }, async ({ path, importer, kind, resolveDir, pluginData }) => {
      if (kind === "entry-point" || pluginData === leanKubeClient) return undefined;
      const ofClient = importer.includes(CLIENT);
      if (!ofClient && path.startsWith(".")) return undefined;
      if (!ofClient && path !== CLIENT) return { path, external: true };
      const options = { importer, kind, resolveDir, pluginData: leanKubeClient };
      const found = await build.resolve(path, options);
      if (!found.path.includes(`${CLIENT}/`)) return { path, external: true };
      return { path: found.path, sideEffects: found.path.includes(`${CLIENT}/node_modules/`) };
    });
  },
};

/** Puts a lean client into the compiled module that reads kubeconfigs. */
async function main() {
  const { build } = createRequire(import.meta.url)("esbuild");
  const file = join("dist", "operator", "kube", "kubeconfig.js");
  await build({
    absWorkingDir: root,
    entryPoints: [file],
    outfile: file,
    allowOverwrite: true,
    bundle: true,
    platform: "node",
    format: "esm",
    target: "node20",
    logLevel: "warning",
    legalComments: "inline",
    plugins: [leanKubeClient],
  });
  // The compiler's, of the module as it was.
  rmSync(join(root, `${file}.map`), { force: true });
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) await main();
