/** Classes changed from outside, for one run: nothing in the shipped code knows of it. */

/** Replaces a method until undone. */
export function replace<T extends object, K extends keyof T>(on: T, name: K, by: T[K]): () => void {
  const before = on[name];
  on[name] = by;
  return () => {
    on[name] = before;
  };
}

/** Has `by` called instead of a method until undone, with the method itself to call. */
export function wrap<T extends object>(
  on: T,
  name: keyof T & string,
  by: (
    self: T,
    original: (...all: readonly unknown[]) => unknown,
    all: readonly unknown[],
  ) => unknown,
): () => void {
  const methods = on as unknown as Record<string, (...all: readonly unknown[]) => unknown>;
  const before = methods[name];
  if (before === undefined) throw new Error(`${name} is no method`);
  methods[name] = function wrapped(this: T, ...all: readonly unknown[]) {
    return by(this, (...given) => before.apply(this, [...given]), all);
  };
  return () => {
    methods[name] = before;
  };
}

/** Replaces a getter until undone, by something that may ask the getter itself. */
export function replaceGetter<T extends object>(
  on: T,
  name: keyof T,
  by: (self: T, original: () => unknown) => unknown,
): () => void {
  const before = Object.getOwnPropertyDescriptor(on, name);
  if (before?.get === undefined) throw new Error(`${String(name)} is no getter`);
  Object.defineProperty(on, name, {
    ...before,
    get(this: T) {
      return by(this, () => before.get?.call(this));
    },
  });
  return () => {
    Object.defineProperty(on, name, before);
  };
}
