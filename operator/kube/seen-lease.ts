/**
 * A Lease as this process sees it. How old it is follows from when this process saw it change, by
 * its own monotonic clock: clocks of other machines, and jumps of the wall clock, do not matter.
 */
import type { Clock } from "../../sidecar/lib/ports/clock.ts";
import type { KubeObject } from "./resources.ts";

/** See the file's header. */
export class SeenLease {
  readonly #clock: Pick<Clock, "monotonicMs">;
  readonly #usualMs: number;
  /** As last seen, and when it was first seen so. */
  #seen: { readonly lease: KubeObject; readonly sinceMs: number } | null = null;

  /** `usualMs`: how long one holds that does not say so. */
  constructor(clock: Pick<Clock, "monotonicMs">, usualMs: number) {
    this.#clock = clock;
    this.#usualMs = usualMs;
  }

  /** As it was last seen; null: it was not seen yet. */
  get lease(): KubeObject | null {
    return this.#seen?.lease ?? null;
  }

  /** Who held it when it was last seen; "" when nobody did. */
  get holder(): string {
    return this.#seen === null ? "" : leaseHolder(this.#seen.lease);
  }

  /** Nobody's when it was last seen, or unchanged for as long as its holder said it would hold. */
  get isFree(): boolean {
    if (this.#seen === null) return false;
    if (this.holder === "") return true;
    const { lease, sinceMs } = this.#seen;
    const seconds = leaseSpec(lease)["leaseDurationSeconds"];
    const holdsMs = typeof seconds === "number" ? seconds * 1_000 : this.#usualMs;
    return this.#clock.monotonicMs() - sinceMs >= holdsMs;
  }

  /** Notes what was read or written just now. */
  see(lease: KubeObject): void {
    const known = this.#seen?.lease.metadata.resourceVersion;
    if (known !== undefined && known === lease.metadata.resourceVersion) return;
    this.#seen = { lease, sinceMs: this.#clock.monotonicMs() };
  }
}

/** The Lease's spec, empty where it has none. */
export function leaseSpec(lease: KubeObject): Readonly<Record<string, unknown>> {
  const spec = lease["spec"];
  return typeof spec === "object" && spec !== null ? (spec as Record<string, unknown>) : {};
}

/** Who holds the Lease; "" when nobody does. */
export function leaseHolder(lease: KubeObject): string {
  const holder = leaseSpec(lease)["holderIdentity"];
  return typeof holder === "string" ? holder : "";
}
