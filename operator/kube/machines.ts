/** From which machines a volume can be reached, and whether those machines are there. */
import type { Machine, MachineState } from "../core/node-loss.ts";
import type { ApiClient } from "./api-client.ts";
import { KINDS, type KubeObject } from "./resources.ts";

/** Where a volume is: by a label of machines, or by their names (`label` null). */
export interface VolumePlace {
  readonly label: string | null;
  readonly machine: string;
}

/** Set by people on a machine that is down and stays so until they take it away. */
const OUT_OF_SERVICE = "node.kubernetes.io/out-of-service";

/**
 * Labels that tell one machine from another: Kubernetes' own, and those that drivers of local
 * volumes make up. A zone is none: its volumes outlive any machine.
 */
const MACHINE_LABEL = /^kubernetes\.io\/hostname$|\/(node|nodename|hostname)$/u;

/**
 * The machines to which a PersistentVolume is bound. Null: it can be reached from elsewhere, or
 * nothing is said of it.
 */
export function placesOf(volume: KubeObject): readonly VolumePlace[] | null {
  const terms = at(volume, "spec", "nodeAffinity", "required", "nodeSelectorTerms");
  if (!Array.isArray(terms) || terms.length === 0) return null;
  const places: VolumePlace[] = [];
  for (const term of terms as readonly unknown[]) {
    const named = requirements(term, "matchFields").find(({ key }) => key === "metadata.name");
    const labelled = requirements(term, "matchExpressions").find(({ key }) =>
      MACHINE_LABEL.test(key),
    );
    const found = named ?? labelled;
    // Terms are alternatives: one that names no machine admits any.
    if (found === undefined) return null;
    const label = found === named ? null : found.key;
    places.push(...found.values.map((machine) => ({ label, machine })));
  }
  return places;
}

/** From most to least alive. */
const STATES = ["ready", "back", "not ready", "out of service"] as const;

/**
 * Asked of the API server itself. Gone only when neither a label nor a name finds the machine.
 * Needs the rights to get and list Nodes.
 */
export async function machineAt(
  client: ApiClient,
  { label, machine }: VolumePlace,
  signal: AbortSignal,
): Promise<Machine> {
  const found: KubeObject[] = [];
  const named = await client.get(KINDS.node, null, machine, { signal });
  if (named !== null) found.push(named);
  if (label !== null) {
    const labelSelector = `${label}=${machine}`;
    const { items } = await client.list(KINDS.node, { namespace: null, labelSelector }, { signal });
    found.push(...items);
  }
  const states = found.map(stateOf);
  return { name: machine, state: STATES.find((state) => states.includes(state)) ?? "gone" };
}

function stateOf(node: KubeObject): MachineState {
  const taints = at(node, "spec", "taints");
  const down = (Array.isArray(taints) ? taints : []).some(
    (taint: unknown) => at(taint, "key") === OUT_OF_SERVICE,
  );
  const conditions = at(node, "status", "conditions");
  const ready = (Array.isArray(conditions) ? conditions : []).some(
    (entry: unknown) => at(entry, "type") === "Ready" && at(entry, "status") === "True",
  );
  if (down) return ready ? "back" : "out of service";
  return ready ? "ready" : "not ready";
}

/** Requirements of a selector's term that name what they want. */
function requirements(
  term: unknown,
  field: "matchFields" | "matchExpressions",
): readonly { readonly key: string; readonly values: readonly string[] }[] {
  const list = at(term, field);
  return (Array.isArray(list) ? list : []).flatMap((entry: unknown) => {
    const [key, operator, values] = [at(entry, "key"), at(entry, "operator"), at(entry, "values")];
    if (typeof key !== "string" || operator !== "In" || !Array.isArray(values)) return [];
    return [{ key, values: values.filter((value) => typeof value === "string") }];
  });
}

function at(value: unknown, ...keys: readonly string[]): unknown {
  return keys.reduce<unknown>(
    (part, key) => (typeof part === "object" && part !== null ? Reflect.get(part, key) : undefined),
    value,
  );
}
