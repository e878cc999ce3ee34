/** Distinct texts whose hashes are kept: most lines say one of a few things. */
const KNOWN_MAX = 1_000;

interface Line {
  readonly atMs: number;
  readonly who: string;
  readonly what: string;
}

/**
 * The newest lines of a run, all of them for whoever asked, and a hash over all. Lines are put
 * together only for somebody who reads them.
 */
export class Trace {
  readonly #kept: Line[] = [];
  readonly #keptMax: number;
  readonly #sink: ((line: string) => void) | null;
  readonly #known = new Map<string, number>();
  readonly #time = new Float64Array(1);
  readonly #timeWords = new Uint32Array(this.#time.buffer);
  #high = 0x811c9dc5;
  #low = 0x01000193;

  constructor(keptMax: number, sink: ((line: string) => void) | null = null) {
    this.#keptMax = keptMax;
    this.#sink = sink;
  }

  add(atMs: number, who: string, what: string): void {
    const line = { atMs, who, what };
    this.#time[0] = atMs;
    this.#mix(this.#timeWords[0] as number);
    this.#mix(this.#timeWords[1] as number);
    this.#mix(this.#hashOf(who));
    this.#mix(this.#hashOf(what));
    this.#sink?.(textOf(line));
    this.#kept.push(line);
    if (this.#kept.length > 2 * this.#keptMax) this.#kept.splice(0, this.#keptMax);
  }

  /** 16 hexadecimal digits: equal traces have equal ones. */
  get hash(): string {
    const hex = (value: number): string => (value >>> 0).toString(16).padStart(8, "0");
    return hex(this.#high) + hex(this.#low);
  }

  newest(): readonly string[] {
    return this.#kept.slice(-this.#keptMax).map(textOf);
  }

  #hashOf(text: string): number {
    const known = this.#known.get(text);
    if (known !== undefined) return known;
    let hash = 0x811c9dc5;
    for (let i = 0; i < text.length; i += 1) {
      hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
    }
    if (this.#known.size < KNOWN_MAX) this.#known.set(text, hash);
    return hash;
  }

  #mix(word: number): void {
    this.#high = Math.imul(this.#high ^ word, 0x01000193) ^ (this.#high >>> 15);
    this.#low = Math.imul(this.#low + word, 0x85ebca6b) ^ (this.#low >>> 13);
  }
}

function textOf({ atMs, who, what }: Line): string {
  return `${atMs.toFixed(3)} ${who} ${what}`;
}
