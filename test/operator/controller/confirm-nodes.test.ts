import assert from "node:assert/strict";
import { confirmNodes } from "../../../operator/controller/confirm-nodes.ts";

const NODES = new Set(["a", "b", "c"]);

/** Answers for each node when told to; what is aborted answers no. */
class Answers {
  readonly #open = new Map<string, (yes: boolean) => void>();
  readonly aborted: string[] = [];

  readonly ask = (node: string, signal: AbortSignal): Promise<boolean> =>
    new Promise((resolve) => {
      this.#open.set(node, resolve);
      signal.addEventListener("abort", () => {
        this.aborted.push(node);
        resolve(false);
      });
    });

  give(node: string, yes: boolean): void {
    const resolve = this.#open.get(node);
    assert.ok(resolve, `${node} was not asked`);
    this.#open.delete(node);
    resolve(yes);
  }
}

describe("confirmNodes", () => {
  const signal = new AbortController().signal;

  it("is content with the first that are enough, and gives the others up", async () => {
    const answers = new Answers();
    const asked = confirmNodes(NODES, answers.ask, (there) => there.size === 2, signal);
    answers.give("c", true);
    answers.give("a", true);
    assert.deepEqual(await asked, new Set(["c", "a"]));
    assert.ok(answers.aborted.includes("b"));
  });

  it("waits for all while those that are there are too few", async () => {
    const answers = new Answers();
    const asked = confirmNodes(NODES, answers.ask, (there) => there.size === 2, signal);
    answers.give("a", true);
    answers.give("b", false);
    answers.give("c", false);
    assert.deepEqual(await asked, new Set(["a"]));
    assert.deepEqual(answers.aborted, []);
  });

  it("ends when its caller does", async () => {
    const answers = new Answers();
    const caller = new AbortController();
    const asked = confirmNodes(NODES, answers.ask, () => false, caller.signal);
    caller.abort();
    assert.deepEqual(await asked, new Set());
  });
});
