/**
 * `npm start`: installs and compiles what is missing, then runs `resilver local demo` with the
 * arguments given.
 */
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { compile, installDependencies, root } from "./bootstrap.mjs";

installDependencies();
compile();
const main = join(root, "dist", "operator", "main.js");
// In this process, not in a child: signals, exit status and terminal are then simply its own.
process.argv = [process.execPath, main, "local", "demo", ...process.argv.slice(2)];
process.setSourceMapsEnabled(true);
await import(pathToFileURL(main).href);
