/** A moment as Leases and Events want it: six digits of a second. */
export function microTime(nowMs: number): string {
  return new Date(nowMs).toISOString().replace("Z", "000Z");
}
