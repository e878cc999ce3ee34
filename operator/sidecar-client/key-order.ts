/**
 * Order of keys as the store sorts them, to merge what several shards answered. Hierarchical: by
 * depth, then by bytes with the slash above all others.
 */
export type KeyOrder = (a: string, b: string) => number;

const SLASH = 0x2f;

/**
 * Hierarchical order: `/a` and `/b` come before `/a/x`, and `/a/` to `/a//` are the children of
 * `/a`.
 */
export const hierarchicalOrder: KeyOrder = (a, b) =>
  depth(a) - depth(b) || Buffer.compare(slashHigh(a), slashHigh(b));

/** The count of slashes; a trailing pair, the end of a range, counts as one. */
function depth(key: string): number {
  let slashes = 0;
  for (let at = key.indexOf("/"); at !== -1; at = key.indexOf("/", at + 1)) slashes += 1;
  return key.endsWith("//") ? slashes - 1 : slashes;
}

/** UTF-8 with each slash as the one byte above all that UTF-8 uses. */
function slashHigh(key: string): Buffer {
  const bytes = Buffer.from(key);
  for (let at = bytes.indexOf(SLASH); at !== -1; at = bytes.indexOf(SLASH, at + 1))
    bytes[at] = 0xff;
  return bytes;
}

/** Merges sorted sequences into one sorted sequence; each source is read no further than needed. */
export async function* mergeSorted<T>(
  sources: readonly AsyncIterable<T>[],
  keyOf: (item: T) => string,
  order: KeyOrder,
): AsyncGenerator<T, void, void> {
  const iterators = sources.map((source) => source[Symbol.asyncIterator]());
  try {
    const heads = await Promise.all(iterators.map((iterator) => iterator.next()));
    for (;;) {
      let least = -1;
      let leastItem: T | undefined;
      for (const [index, head] of heads.entries()) {
        if (head.done === true) continue;
        if (leastItem === undefined || order(keyOf(head.value), keyOf(leastItem)) < 0) {
          least = index;
          leastItem = head.value;
        }
      }
      const iterator = iterators[least];
      if (leastItem === undefined || iterator === undefined) return;
      yield leastItem;
      heads[least] = await iterator.next();
    }
  } finally {
    // Abandoned half way: the servers must not go on sending.
    await Promise.all(iterators.map(async (iterator) => await iterator.return?.()));
  }
}
