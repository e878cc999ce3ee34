/** Durations as Kubernetes writes them: `500ms`, `10s`, `1h30m`. Pure. */

const MILLISECONDS: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000 };

/** Whole numbers with units, larger units first. */
export const DURATION_PATTERN = /^(0|([0-9]{1,4}h)?([0-9]{1,5}m)?([0-9]{1,6}s)?([0-9]{1,6}ms)?)$/u;

/** The number of milliseconds; null when the text is no duration. */
export function parseDuration(text: string): number | null {
  if (text === "" || !DURATION_PATTERN.test(text)) return null;
  let totalMs = 0;
  for (const [, digits = "", unit = ""] of text.matchAll(/([0-9]+)(ms|s|m|h)/gu)) {
    totalMs += Number(digits) * (MILLISECONDS[unit] ?? 0);
  }
  return totalMs;
}
