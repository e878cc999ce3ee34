/** Quantities as Kubernetes writes them: `10Gi`, `500M`, `1024`. Pure. */

const FACTORS: Readonly<Record<string, number>> = {
  "": 1,
  k: 1e3,
  M: 1e6,
  G: 1e9,
  T: 1e12,
  P: 1e15,
  Ki: 2 ** 10,
  Mi: 2 ** 20,
  Gi: 2 ** 30,
  Ti: 2 ** 40,
  Pi: 2 ** 50,
};

/** Whole numbers with an optional unit; what Kubernetes allows beyond that is no use for sizes. */
export const QUANTITY_PATTERN = /^[1-9][0-9]{0,15}(k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$/u;

/**
 * All that Kubernetes allows of a resource, such as `0.5`, `100m` or `1e3`: anything but a negative
 * amount.
 */
export const AMOUNT_PATTERN =
  /^\+?([0-9]+(\.[0-9]*)?|\.[0-9]+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]+)?$/u;

/** The number of bytes; null when the text is no quantity, or one beyond exact numbers. */
export function parseQuantity(text: string): number | null {
  if (!QUANTITY_PATTERN.test(text)) return null;
  const digits = /^[0-9]+/u.exec(text)?.[0] ?? "";
  const bytes = Number(digits) * (FACTORS[text.slice(digits.length)] ?? Number.NaN);
  return Number.isSafeInteger(bytes) ? bytes : null;
}
