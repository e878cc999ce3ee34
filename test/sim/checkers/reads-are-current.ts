import type { CheckContext } from "./checker.ts";

/** A read or write as its client saw it. Times are virtual. */
export interface ClientView {
  readonly key: string;
  readonly value: string | null;
  /** Newest offset that any client knew of for this key when the request was sent. */
  readonly knownOffset: number;
}

/**
 * R15: reads are linearizable. Entries of one key are ordered by offset, so it is enough that no
 * read shows an older one than a request that had ended before the read began. Keys are never
 * deleted here.
 */
export class ReadsAreCurrent {
  readonly #context: CheckContext;
  readonly #known = new Map<string, number>();

  constructor(context: CheckContext) {
    this.#context = context;
  }

  knownOffset(key: string): number {
    return this.#known.get(key) ?? -1;
  }

  /** A request ended at its client. */
  ended(kind: "write" | "read", view: ClientView): void {
    const { key, value, knownOffset } = view;
    const offset = value === null ? -1 : (this.#context.model.offsetOf(value) ?? -1);
    if (kind === "read" && offset < knownOffset) {
      const seen = value ?? "nothing";
      this.#context.violate(
        "R15",
        `a read of ${key} showed ${seen}, offset ${knownOffset} was known`,
      );
    }
    this.#known.set(key, Math.max(this.knownOffset(key), offset));
  }
}
