import { childAbort } from "./wake.ts";

/**
 * Asks all `nodes` at once whether they are there. Resolves with those that answered yes as soon as
 * `enough` holds for them, else when every one has answered: the longer the answers lie, the less
 * they say about now, so that nobody waits for the slowest without need. Calls left over are
 * aborted and awaited. `ask` must not reject.
 */
export async function confirmNodes(
  nodes: ReadonlySet<string>,
  ask: (node: string, signal: AbortSignal) => Promise<boolean>,
  enough: (there: ReadonlySet<string>) => boolean,
  signal: AbortSignal,
): Promise<ReadonlySet<string>> {
  const { controller, unlink } = childAbort(signal);
  const there = new Set<string>();
  const one = async (node: string): Promise<void> => {
    const yes = await ask(node, controller.signal);
    if (!yes || controller.signal.aborted) return;
    there.add(node);
    if (enough(there)) controller.abort(new Error("enough have answered"));
  };
  try {
    await Promise.all([...nodes].map(one));
    return there;
  } finally {
    unlink();
  }
}
