/**
 * One active process of several, by a Lease. A holder that does not renew in time stops acting
 * before another may begin; how old a Lease is, SeenLease says.
 *
 * A Lease is no lock: a process that slept may act for a moment beside its successor. What must not
 * happen twice is guarded where it happens, by compare-and-swap of the record (R18).
 */
import type { Clock } from "../../sidecar/lib/ports/clock.ts";
import type { Logger } from "../../sidecar/lib/ports/logger.ts";
import { childAbort, pause } from "../controller/wake.ts";
import type { ApiClient, Call } from "./api-client.ts";
import { isStatus } from "./api-error.ts";
import { KUBE_LIMITS, type KubeLimits } from "./limits.ts";
import { microTime } from "./micro-time.ts";
import { KINDS, type KubeObject } from "./resources.ts";
import { leaseHolder, leaseSpec, SeenLease } from "./seen-lease.ts";

/** What an elector needs. */
export interface LeaseElectorOptions {
  readonly client: ApiClient;
  readonly namespace: string;
  /** Name of the Lease. */
  readonly name: string;
  /** Of this process; no other may ever have it. */
  readonly identity: string;
  readonly clock: Clock;
  readonly logger: Logger;
  /** What this process says of itself on the Lease while it has it. */
  readonly annotations?: Readonly<Record<string, string>>;
  /** Told when this process begins and ends to lead. */
  readonly changed?: (leads: boolean) => void;
  readonly limits?: Partial<KubeLimits>;
}

/** See the file's header. */
export class LeaseElector {
  readonly #options: LeaseElectorOptions;
  readonly #limits: KubeLimits;
  readonly #seen: SeenLease;
  #leads = false;

  constructor(options: LeaseElectorOptions) {
    this.#options = options;
    this.#limits = { ...KUBE_LIMITS, ...options.limits };
    this.#seen = new SeenLease(options.clock, this.#limits.leaseDurationMs);
  }

  /** True while this process leads. */
  get leads(): boolean {
    return this.#leads;
  }

  /** Who held the Lease when it was last seen; "" when nobody did. */
  get holder(): string {
    return this.#seen.holder;
  }

  /**
   * Waits for the Lease, then does `work` until that ends, `signal` aborts, or the Lease is lost.
   * `lost`: the process must end, since nobody can say what it still believes. The signal that
   * `work` gets aborts when it has to stop; it is awaited. Rejects with what `work` throws.
   */
  async run(
    signal: AbortSignal,
    work: (signal: AbortSignal) => Promise<void>,
  ): Promise<"stopped" | "lost"> {
    const { clock, logger, identity } = this.#options;
    while ((await this.#try(signal, this.#limits.leaseRenewMs / 2)) === null) {
      if (signal.aborted) return "stopped";
      await pause(clock, this.#limits.leaseRetryMs, signal);
      if (signal.aborted) return "stopped";
    }
    logger.info("leads", { identity });
    this.#setLeads(true);
    const { controller, unlink } = childAbort(signal);
    const worked = work(controller.signal);
    // A failure of the work ends the renewal as well; it is thrown below.
    const ended = worked.then(
      () => controller.abort(new Error("the work has ended")),
      (error: unknown) => controller.abort(error),
    );
    const lost = await this.#renew(controller.signal);
    if (lost) controller.abort(new Error("the leader lease was lost"));
    try {
      await worked;
    } catch (error) {
      if (!signal.aborted && !lost) throw error;
    } finally {
      await ended;
      unlink();
      this.#setLeads(false);
      if (!lost) await this.#release();
    }
    return lost ? "lost" : "stopped";
  }

  /** Renews until the signal aborts (false), or until it is too late (true). */
  async #renew(signal: AbortSignal): Promise<boolean> {
    const { clock, logger, identity } = this.#options;
    const { leaseRenewMs, leaseRetryMs } = this.#limits;
    let renewedAtMs = clock.monotonicMs();
    let triedAtMs = renewedAtMs;
    for (;;) {
      // A slow answer leaves less time for the next one: what it took is not waited as well.
      await pause(clock, Math.max(0, triedAtMs + leaseRetryMs - clock.monotonicMs()), signal);
      if (signal.aborted) return false;
      triedAtMs = clock.monotonicMs();
      const leftMs = renewedAtMs + leaseRenewMs - triedAtMs;
      const renewed =
        leftMs <= 0 ? null : await this.#try(signal, Math.min(leftMs, leaseRenewMs / 2));
      if (signal.aborted) return false;
      if (renewed !== null) {
        renewedAtMs = renewed;
      } else if (clock.monotonicMs() - renewedAtMs >= leaseRenewMs || this.#heldByOther()) {
        const sinceMs = Math.round(clock.monotonicMs() - renewedAtMs);
        logger.error("leader election lost", { identity, holder: this.holder, sinceMs });
        return true;
      }
    }
  }

  #heldByOther(): boolean {
    return this.holder !== "" && this.holder !== this.#options.identity;
  }

  /**
   * One attempt to get or renew it; never rejects. Returns when what wrote it was asked for, by the
   * monotonic clock: nobody can have seen it written earlier. Null: it is not ours.
   */
  async #try(signal: AbortSignal, deadlineMs: number): Promise<number | null> {
    const { client, namespace, name, clock, logger } = this.#options;
    const call = { signal, deadlineMs: Math.max(1, deadlineMs), urgent: true };
    try {
      // One call instead of two, which a busy server may take seconds for, each.
      const known = this.#seen.lease;
      if (this.#leads && known !== null) {
        const askedAtMs = await this.#renewAsSeen(known, call);
        if (askedAtMs !== null) return askedAtMs;
      }
      const lease = await client.get(KINDS.lease, namespace, name, call);
      if (lease !== null) this.#seen.see(lease);
      if (lease !== null && !this.#mayTake()) return null;
      const askedAtMs = clock.monotonicMs();
      const after = this.#leaseAfter(lease);
      const written =
        lease === null
          ? await client.create(KINDS.lease, after, call)
          : await client.replace(KINDS.lease, after, call);
      this.#seen.see(written);
      return askedAtMs;
    } catch (error) {
      if (signal.aborted) return null;
      // Somebody else was quicker: look again in a while.
      if (isStatus(error, 409)) {
        await this.#lookAgain(signal, deadlineMs);
        return null;
      }
      const message = error instanceof Error ? error.message : String(error);
      logger.warn("lease not reached", { error: message });
      return null;
    }
  }

  /** Null when it is another one by now. */
  async #renewAsSeen(seen: KubeObject, call: Call): Promise<number | null> {
    const askedAtMs = this.#options.clock.monotonicMs();
    try {
      this.#seen.see(await this.#options.client.replace(KINDS.lease, this.#leaseAfter(seen), call));
      return askedAtMs;
    } catch (error) {
      if (isStatus(error, 409) || isStatus(error, 404)) return null;
      throw error;
    }
  }

  async #lookAgain(signal: AbortSignal, deadlineMs: number): Promise<void> {
    const { client, namespace, name } = this.#options;
    const call = { signal, deadlineMs: Math.max(1, deadlineMs), urgent: true };
    const lease = await client.get(KINDS.lease, namespace, name, call).catch(() => null);
    if (lease !== null) this.#seen.see(lease);
  }

  /** Ours, or nobody's any more. */
  #mayTake(): boolean {
    return this.holder === this.#options.identity || this.#seen.isFree;
  }

  #leaseAfter(before: KubeObject | null): KubeObject {
    const { namespace, name, identity, clock, annotations } = this.#options;
    const now = microTime(clock.nowMs());
    const metadata = before?.metadata ?? { name, namespace };
    const spec = before === null ? {} : leaseSpec(before);
    const same = spec["holderIdentity"] === identity;
    const transitions = typeof spec["leaseTransitions"] === "number" ? spec["leaseTransitions"] : 0;
    return {
      metadata: { ...metadata, annotations: { ...metadata.annotations, ...annotations } },
      spec: {
        ...spec,
        holderIdentity: identity,
        leaseDurationSeconds: Math.ceil(this.#limits.leaseDurationMs / 1_000),
        acquireTime: same ? (spec["acquireTime"] ?? now) : now,
        renewTime: now,
        leaseTransitions: same || before === null ? transitions : transitions + 1,
      },
    };
  }

  /** Lets the next one begin at once; what goes wrong only makes it wait. */
  async #release(): Promise<void> {
    const { logger } = this.#options;
    try {
      // A renewal that was cut short may have reached the server: then the first attempt meets it.
      if (!(await this.#tryRelease())) await this.#tryRelease();
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      logger.warn("lease not released", { error: message });
    }
  }

  /** False when the Lease changed in between. */
  async #tryRelease(): Promise<boolean> {
    const { client, clock, namespace, name, identity } = this.#options;
    const { signal } = new AbortController();
    const call = { signal, deadlineMs: this.#limits.leaseRetryMs, urgent: true };
    const lease = await client.get(KINDS.lease, namespace, name, call);
    if (lease === null || leaseHolder(lease) !== identity) return true;
    const now = microTime(clock.nowMs());
    const spec = {
      ...leaseSpec(lease),
      holderIdentity: "",
      leaseDurationSeconds: 1,
      acquireTime: now,
      renewTime: now,
    };
    try {
      await client.replace(KINDS.lease, { metadata: lease.metadata, spec }, call);
      return true;
    } catch (error) {
      if (isStatus(error, 409)) return false;
      throw error;
    }
  }

  #setLeads(leads: boolean): void {
    this.#leads = leads;
    this.#options.changed?.(leads);
  }
}
