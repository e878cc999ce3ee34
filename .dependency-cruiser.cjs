/**
 * The layers: what each folder may import, types included. A file may always import from its own
 * folder. Rules are made from the tables below, so that a folder that is in none of them is itself
 * an error. Cycles are the linter's (import/no-cycle): two types may know each other, running code
 * may not, and this parser does not tell one from the other.
 */

/** Anyone in the sidecar: bounds, ports and other code without input or output. */
const everywhere = ["sidecar/limits\\.ts$", "sidecar/lib/"];

/** Folder of the sidecar -> folders of the sidecar below it. */
const sidecar = {
  lib: [],
  protocol: ["lib"],
  core: ["protocol", "lib"],
  wal: ["core", "protocol", "lib"],
  state: ["core", "protocol", "lib"],
  snapshot: ["state", "wal", "core", "protocol", "lib"],
  runtime: ["snapshot", "state", "wal", "core", "protocol", "lib"],
  observability: ["runtime", "protocol", "lib"],
  os: ["runtime", "protocol", "lib"],
  rpc: ["observability", "runtime", "snapshot", "state", "wal", "core", "protocol", "lib"],
};

/** Folder of the operator -> folders of the operator below it. */
const operator = {
  core: [],
  // The adapter of a port that the controller owns.
  "sidecar-client": ["controller/ports\\.ts", "core"],
  api: ["core"],
  specs: ["api", "core"],
  controller: ["specs", "api", "core"],
  kube: ["controller", "specs", "api", "core"],
  local: ["sidecar-client", "controller", "core"],
  // The command that puts Kubernetes and the sidecars' client together.
  cli: ["local", "kube", "sidecar-client", "controller", "specs", "api", "core"],
};

const layer = (top, folder, below, extra) => ({
  name: `${top}-${folder}`,
  comment: `${top}/${folder} may import: ${below.join(", ") || "nothing else"}`,
  severity: "error",
  from: { path: `^${top}/${folder}/` },
  to: {
    path: "^(sidecar|operator|test)/",
    pathNot: [`^${top}/${folder}/`, ...below.map((b) => `^${top}/${b}(/|$)`), ...extra],
  },
});

const outside = (name, path, packages, comment) => ({
  name,
  comment,
  severity: "error",
  from: { path: "^(sidecar|operator)/", pathNot: path },
  to: { path: packages },
});

/** Of the sidecar's code: what both sides speak, and what they log with. */
const wire = ["^sidecar/protocol/", "^sidecar/lib/", "^sidecar/observability/logger\\.ts$"];

module.exports = {
  forbidden: [
    { name: "resolvable", severity: "error", from: {}, to: { couldNotResolve: true } },
    {
      name: "not-to-test",
      comment: "Nothing imports test code.",
      severity: "error",
      from: { pathNot: "^test/" },
      to: { path: "^test/" },
    },
    {
      name: "not-to-main",
      comment: "The composition roots are imported by nothing.",
      severity: "error",
      from: {},
      to: { path: "^(sidecar|operator)/main\\.ts$" },
    },
    {
      name: "no-dev-dependencies",
      comment: "What ships may import only what ships.",
      severity: "error",
      from: { path: "^(sidecar|operator)/" },
      to: { dependencyTypes: ["npm-dev", "npm-no-pkg"], dependencyTypesNot: ["type-only"] },
    },
    ...Object.entries(sidecar).map(([folder, below]) =>
      layer(
        "sidecar",
        folder,
        below,
        everywhere.map((path) => `^${path}`),
      ),
    ),
    ...Object.entries(operator).map(([folder, below]) => layer("operator", folder, below, wire)),
    {
      name: "sidecar-knows-no-operator",
      severity: "error",
      from: { path: "^sidecar/" },
      to: { path: "^operator/" },
    },
    {
      name: "operator-knows-the-wire-only",
      severity: "error",
      from: { path: "^operator/" },
      to: { path: "^sidecar/", pathNot: wire },
    },
    {
      name: "folder-without-a-layer",
      comment: "Add the folder to a table in .dependency-cruiser.cjs.",
      severity: "error",
      from: {
        path: "^(sidecar|operator)/[^/]+/",
        pathNot: [
          `^sidecar/(${Object.keys(sidecar).join("|")})/`,
          `^operator/(${Object.keys(operator).join("|")})/`,
        ],
      },
      to: {},
    },
    {
      name: "core-is-pure",
      comment: "The cores and lib use no module of Node's.",
      severity: "error",
      from: { path: "^(sidecar/core|operator/core)/" },
      to: { dependencyTypes: ["core"] },
    },
    outside(
      "grpc-at-the-edges",
      "^(sidecar/rpc|operator/sidecar-client)/",
      "node_modules/(@grpc|grpc-health-check)/",
      "Only sidecar/rpc and operator/sidecar-client speak gRPC.",
    ),
    outside(
      "kubernetes-in-one-place",
      "^operator/kube/",
      "node_modules/@kubernetes/",
      "Only operator/kube speaks to Kubernetes.",
    ),
    outside(
      "engine-in-one-place",
      "^sidecar/state/",
      "node_modules/lmdb/",
      "Only sidecar/state knows the storage engine.",
    ),
  ],
  options: {
    parser: "swc",
    tsPreCompilationDeps: true,
    tsConfig: { fileName: "tsconfig.json" },
    doNotFollow: { path: "node_modules" },
    enhancedResolveOptions: {
      exportsFields: ["exports"],
      conditionNames: ["import", "require", "node", "default", "types"],
    },
  },
};
