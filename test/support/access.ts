import { readFileSync } from "node:fs";
import { parseAllDocuments } from "yaml";
import type { Seen } from "./fake-api-server.ts";

/** One right as RBAC has it: `group/resource[/subresource] verb`; the core group is "". */
export type Right = string;

/** The rights that a request to the API server needs. */
export function rightsOf({ method, path, query, contentType, body }: Seen): readonly Right[] {
  const [, root, ...rest] = path.split("/");
  const group = root === "api" ? "" : (rest.shift() ?? "");
  rest.shift();
  if (rest[0] === "namespaces") rest.splice(0, 2);
  const [resource = "", name, subresource] = rest;
  const what = `${group}/${resource}${subresource === undefined ? "" : `/${subresource}`}`;
  const verbs = verbsOf(method, name !== undefined, query.get("watch") === "true");
  // Applied where nothing is yet, an object is made.
  const applied = contentType.includes("apply-patch") && subresource === undefined;
  const own = [...verbs, ...(applied ? ["create"] : [])].map((verb) => `${what} ${verb}`);
  return [...own, ...(holdsUpItsOwner(body) ? [OWNER] : [])];
}

/** What the admission plugin OwnerReferencesPermissionEnforcement asks for. */
const OWNER: Right = "resilver.io/replicatedstores/finalizers update";

/** True for an object that keeps a store from being deleted in the foreground. */
function holdsUpItsOwner(body: unknown): boolean {
  const { metadata } = (body ?? {}) as { readonly metadata?: object };
  const owners: unknown = Reflect.get(metadata ?? {}, "ownerReferences");
  return (
    Array.isArray(owners) &&
    owners.some((owner: { blockOwnerDeletion?: boolean }) => owner.blockOwnerDeletion === true)
  );
}

function verbsOf(method: string, named: boolean, watched: boolean): readonly string[] {
  switch (method) {
    case "GET":
      return [named ? "get" : watched ? "watch" : "list"];
    case "POST":
      return ["create"];
    case "PUT":
      return ["update"];
    case "PATCH":
      return ["patch"];
    case "DELETE":
      return [named ? "delete" : "deletecollection"];
    default:
      return [method];
  }
}

/** The namespace that a request is about; null: none, or all. */
function namespaceOf({ path }: Seen): string | null {
  return /\/namespaces\/([^/]+)\//u.exec(path)?.[1] ?? null;
}

/** True when the roles together let their holder do this. */
export function isAllowed(request: Seen, roles: readonly Role[]): boolean {
  const namespace = namespaceOf(request);
  const held = roles.filter(({ kind, metadata }) => {
    return kind === "ClusterRole" || metadata.namespace === namespace;
  });
  const given = rightsIn(held.flatMap(({ rules }) => rules));
  return rightsOf(request).every((right) => given.includes(right));
}

/** A Role or ClusterRole. */
export interface Role {
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace?: string };
  readonly rules: readonly RoleRule[];
}

/** The operator's own roles: what it is given in any case. */
const OWN_ROLES = /^resilver(-leader-election)?$/u;
/** What `nodeLoss.enabled` adds. */
export const NODE_LOSS_ROLE = /^resilver-node-loss$/u;

/** The roles of the operator itself in a chart as rendered, by the name of the golden file. */
export function operatorRoles(golden: string, names = OWN_ROLES): readonly Role[] {
  const text = readFileSync(new URL(`../golden/${golden}.yaml`, import.meta.url), "utf8");
  return parseAllDocuments(text)
    .map((document) => document.toJS() as Role | null)
    .filter((object): object is Role => object !== null && /^(Cluster)?Role$/u.test(object.kind))
    .filter(({ metadata }) => names.test(metadata.name));
}

/** A rule of a Role or ClusterRole. */
export interface RoleRule {
  readonly apiGroups: readonly string[];
  readonly resources: readonly string[];
  readonly verbs: readonly string[];
}

/** The rights that rules give. */
export function rightsIn(rules: readonly RoleRule[]): readonly Right[] {
  return rules.flatMap(({ apiGroups, resources, verbs }) =>
    apiGroups.flatMap((group) =>
      resources.flatMap((resource) => verbs.map((verb) => `${group}/${resource} ${verb}`)),
    ),
  );
}
