/** The newest lines of a run, all of them for whoever asked, and a hash over all. */
export class Trace {
  readonly #kept: string[] = [];
  readonly #keptMax: number;
  readonly #sink: ((line: string) => void) | null;
  #high = 0x811c9dc5;
  #low = 0x01000193;

  constructor(keptMax: number, sink: ((line: string) => void) | null = null) {
    this.#keptMax = keptMax;
    this.#sink = sink;
  }

  add(atMs: number, who: string, what: string): void {
    const line = `${atMs.toFixed(3)} ${who} ${what}`;
    this.#mix(line);
    this.#sink?.(line);
    this.#kept.push(line);
    if (this.#kept.length > 2 * this.#keptMax) this.#kept.splice(0, this.#keptMax);
  }

  /** 16 hexadecimal digits: equal traces have equal ones. */
  get hash(): string {
    const hex = (value: number): string => (value >>> 0).toString(16).padStart(8, "0");
    return hex(this.#high) + hex(this.#low);
  }

  newest(): readonly string[] {
    return this.#kept.slice(-this.#keptMax);
  }

  #mix(line: string): void {
    let high = this.#high;
    let low = this.#low;
    for (let i = 0; i < line.length; i += 1) {
      const code = line.charCodeAt(i);
      high = Math.imul(high ^ code, 0x01000193);
      low = Math.imul(low + code, 0x85ebca6b) ^ (low >>> 13);
    }
    this.#high = high;
    this.#low = low;
  }
}
