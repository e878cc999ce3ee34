/**
 * Order of keys as the store sorts them, to merge what several shards answered. Hierarchical: fewer
 * slashes first, then bytes; natural: bytes only.
 */
export type KeyOrder = (a: string, b: string) => number;

/** Hierarchical order (WIRE.md): `/a` and `/b` come before `/a/x`. */
export const hierarchicalOrder: KeyOrder = (a, b) => depth(a) - depth(b) || naturalOrder(a, b);

/** Order of the UTF-8 bytes. */
export const naturalOrder: KeyOrder = (a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b));

function depth(key: string): number {
  let slashes = 0;
  for (let at = key.indexOf("/"); at !== -1; at = key.indexOf("/", at + 1)) slashes += 1;
  return slashes;
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
