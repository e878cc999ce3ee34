import type { Seen } from "./fake-api-server.ts";

/** One right as RBAC has it: `group/resource[/subresource] verb`; the core group is "". */
export type Right = string;

/** The rights that a request to the API server needs. */
export function rightsOf({ method, path, query, contentType }: Seen): readonly Right[] {
  const [, root, ...rest] = path.split("/");
  const group = root === "api" ? "" : (rest.shift() ?? "");
  rest.shift();
  if (rest[0] === "namespaces") rest.splice(0, 2);
  const [resource = "", name, subresource] = rest;
  const what = `${group}/${resource}${subresource === undefined ? "" : `/${subresource}`}`;
  const verbs = verbsOf(method, name !== undefined, query.get("watch") === "true");
  // Applied where nothing is yet, an object is made.
  const applied = contentType.includes("apply-patch") && subresource === undefined;
  return [...verbs, ...(applied ? ["create"] : [])].map((verb) => `${what} ${verb}`);
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
