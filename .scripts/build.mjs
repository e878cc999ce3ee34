/** `npm run build`: installs what is missing and compiles to `dist` when something changed. */
import { compile, installDependencies } from "./bootstrap.mjs";

installDependencies();
compile();
