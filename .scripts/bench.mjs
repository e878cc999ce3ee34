/** `npm run bench -- WHAT [options]`: installs and compiles what is missing, then measures. */
import { compile, installDependencies, run } from "./bootstrap.mjs";

installDependencies();
compile();
run(process.execPath, ["--import", "tsx", "test/bench/main.ts", ...process.argv.slice(2)]);
