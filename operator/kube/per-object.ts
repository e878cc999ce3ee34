import type { KubeObject } from "./resources.ts";

/**
 * `derive`, but once for each object of the caches: those never change, another version is another
 * object. With a thousand stores, what is looked at again every minute is the same nearly always.
 * What `derive` throws is not kept.
 */
export function perObject<T extends object>(
  derive: (object: KubeObject) => T,
): (object: KubeObject) => T {
  const known = new WeakMap<KubeObject, T>();
  return (object) => {
    const before = known.get(object);
    if (before !== undefined) return before;
    const now = derive(object);
    known.set(object, now);
    return now;
  };
}
