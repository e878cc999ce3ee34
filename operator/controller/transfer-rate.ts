interface Sample {
  readonly atMs: number;
  readonly bytes: number;
}

/** How fast a transfer is now, and how long it will still take. */
export interface TransferRate {
  readonly bytesPerSecond: number;
  /** Milliseconds; null when it cannot be said. */
  readonly etaMs: number | null;
}

const WINDOW_MS = 3_000;
const SAMPLES_MAX = 100;

/** Rates of transfers by key, over the last three seconds. Pure but for what it remembers. */
export class TransferRates {
  private readonly samples = new Map<string, Sample[]>();

  /**
   * Notes how far a transfer is, and returns its rate. A transfer that goes back has started anew.
   */
  observe(key: string, bytes: number, bytesTotal: number, nowMs: number): TransferRate {
    const known = this.samples.get(key) ?? [];
    const last = known.at(-1);
    const samples = last !== undefined && bytes < last.bytes ? [] : known;
    if (last === undefined || last.bytes !== bytes || samples.length === 0) {
      samples.push({ atMs: nowMs, bytes });
    }
    // The oldest one may lie outside the window: it is where the window's bytes are counted from.
    while (samples.length > 2 && (samples[1]?.atMs ?? nowMs) < nowMs - WINDOW_MS) samples.shift();
    while (samples.length > SAMPLES_MAX) samples.splice(1, 1);
    this.samples.set(key, samples);
    return rateOf(samples, bytes, bytesTotal, nowMs);
  }

  /** Forgets all transfers but these. */
  retain(keys: ReadonlySet<string>): void {
    for (const key of this.samples.keys()) if (!keys.has(key)) this.samples.delete(key);
  }
}

function rateOf(
  samples: readonly Sample[],
  bytes: number,
  bytesTotal: number,
  nowMs: number,
): TransferRate {
  const first = samples[0];
  const elapsedMs = first === undefined ? 0 : nowMs - first.atMs;
  const moved = bytes - (first?.bytes ?? bytes);
  if (elapsedMs <= 0 || moved <= 0) return { bytesPerSecond: 0, etaMs: null };
  const bytesPerSecond = (moved * 1_000) / elapsedMs;
  const left = Math.max(0, bytesTotal - bytes);
  return { bytesPerSecond, etaMs: bytesTotal > 0 ? (left * 1_000) / bytesPerSecond : null };
}
