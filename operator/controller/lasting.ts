/** For how long something has been so, within one term. */
export class Lasting {
  #began: { readonly term: number; readonly atMs: number } | null = null;

  /** Takes what is so now; returns for how many milliseconds it has been, 0 when it is not. */
  see(isSo: boolean, term: number, nowMs: number): number {
    if (!isSo) this.#began = null;
    else if (this.#began?.term !== term) this.#began = { term, atMs: nowMs };
    return this.#began === null ? 0 : nowMs - this.#began.atMs;
  }
}
