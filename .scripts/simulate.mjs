/**
 * `npm run sim -- [options]`: the simulator in one file, without the loader's work in front of each
 * module and each named function. A seed takes a fifth less time so.
 */
import { pathToFileURL } from "node:url";
import { installDependencies, run } from "./bootstrap.mjs";
import { bundle } from "./bundle.mjs";

/** Program and arguments that run the simulator with `args`; bundles it first. */
export function simulatorCommand(args) {
  // Garbage is most of what a simulated second leaves: a larger nursery is cleared less often.
  const flags = ["--enable-source-maps", "--max-semi-space-size=64"];
  return [process.execPath, [...flags, bundle("test/sim/main.ts", "sim"), ...args]];
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  installDependencies();
  run(...simulatorCommand(process.argv.slice(2)));
}
