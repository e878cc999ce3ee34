/** Which fields of an object differ from what they ought to be. Pure. */
import { parseQuantity } from "../api/v1alpha1/quantity.ts";

/**
 * Paths of the fields in `wanted` that `live` has otherwise, or not at all. What `live` has beyond
 * that is the API server's (defaults) or others'. List entries with a name are told apart by it.
 */
export function differences(wanted: unknown, live: unknown, path = ""): readonly string[] {
  if (wanted === undefined) return [];
  if (Array.isArray(wanted)) return listDifferences(wanted, live, path);
  if (typeof wanted === "object" && wanted !== null) {
    // Nor is an empty map.
    if (live === undefined && Object.keys(wanted).length === 0) return [];
    if (typeof live !== "object" || live === null || Array.isArray(live)) return [path];
    return Object.entries(wanted).flatMap(([key, value]) =>
      differences(value, Reflect.get(live, key), path === "" ? key : `${path}.${key}`),
    );
  }
  return sameValue(wanted, live) ? [] : [path];
}

function listDifferences(
  wanted: readonly unknown[],
  live: unknown,
  path: string,
): readonly string[] {
  // An empty list is not kept.
  if (wanted.length === 0 && live === undefined) return [];
  if (!Array.isArray(live) || live.length !== wanted.length) return [path];
  return wanted.flatMap((item, index) => {
    const name = nameOf(item);
    if (name === undefined) return differences(item, live[index], `${path}[${index}]`);
    const other: unknown = live.find((entry) => nameOf(entry) === name);
    return differences(item, other, `${path}[${name}]`);
  });
}

/** Containers, volumes and variables have a name; a claim template has it in its metadata. */
function nameOf(item: unknown): string | undefined {
  if (typeof item !== "object" || item === null) return undefined;
  const name: unknown = Reflect.get(item, "name");
  if (typeof name === "string") return name;
  return nameOf(Reflect.get(item, "metadata"));
}

/** The API server writes quantities its own way: 1024Mi as 1Gi. */
function sameValue(wanted: unknown, live: unknown): boolean {
  if (wanted === live) return true;
  if (typeof wanted !== "string" || typeof live !== "string") return false;
  const bytes = parseQuantity(wanted);
  return bytes !== null && bytes === parseQuantity(live);
}

/** Fields of a StatefulSet that may be changed; a change of any other needs another StatefulSet. */
const CHANGEABLE = [
  "spec.replicas",
  "spec.template",
  "spec.updateStrategy",
  "spec.revisionHistoryLimit",
  "spec.minReadySeconds",
  "spec.ordinals",
  "spec.persistentVolumeClaimRetentionPolicy",
] as const;

/** What has to be done about a StatefulSet that is not as it ought to be. */
export interface StatefulSetDifference {
  /** All fields that differ. */
  readonly fields: readonly string[];
  /** Those that can only be had by deleting it, its pods orphaned, and making it again. */
  readonly immutable: readonly string[];
}

/** Compares a StatefulSet with what it ought to be. */
export function statefulSetDifference(wanted: object, live: object): StatefulSetDifference {
  const fields = differences(wanted, live);
  const immutable = fields.filter(
    (field) =>
      field.startsWith("spec.") &&
      !CHANGEABLE.some((name) => field === name || field.startsWith(`${name}.`)),
  );
  return { fields, immutable };
}
