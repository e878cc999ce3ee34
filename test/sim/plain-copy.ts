/**
 * A deep copy of a message, as it would come out of a connection: objects, lists, bytes and simple
 * values. Throws for anything else, which no message holds. `structuredClone` copies more, and
 * takes ten times as long.
 */
export function plainCopy<T>(value: T): T {
  return copied(value) as T;
}

function copied(value: unknown): unknown {
  if (typeof value === "function" || typeof value === "symbol") {
    throw new TypeError(`a message holds a ${typeof value}; allowed: data`);
  }
  if (typeof value !== "object" || value === null) return value;
  if (Array.isArray(value)) return value.map(copied);
  if (value instanceof Uint8Array) return new Uint8Array(value);
  const prototype: unknown = Object.getPrototypeOf(value);
  if (prototype !== Object.prototype && prototype !== null) {
    throw new TypeError(`a message holds a ${value.constructor.name}; allowed: plain objects`);
  }
  const copy: Record<string, unknown> = {};
  for (const name of Object.keys(value)) {
    copy[name] = copied((value as Record<string, unknown>)[name]);
  }
  return copy;
}
