/** Maps are merged, conditions by their type, everything else is replaced; null removes. */
export function merge(target: unknown, patch: unknown): unknown {
  if (isConditions(target) && isConditions(patch)) {
    const kept = target.filter(({ type }) => !patch.some((other) => other.type === type));
    return [...kept, ...patch];
  }
  if (!isMap(patch) || !isMap(target)) return patch;
  const result: Record<string, unknown> = { ...target };
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) delete result[key];
    else result[key] = merge(result[key], value);
  }
  return result;
}

function isConditions(value: unknown): value is readonly { readonly type: string }[] {
  return (
    Array.isArray(value) &&
    value.length > 0 &&
    value.every((item) => isMap(item) && "type" in item && "status" in item)
  );
}

function isMap(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
