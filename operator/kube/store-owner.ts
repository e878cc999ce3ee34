/**
 * Whose store it is: `status.operator` names the Lease of the operator that looks after it. Any
 * other operator, one of another release with a Lease of its own, leaves the store alone until that
 * Lease has been free for a while, or says that its holder does not watch the store's namespace.
 * Two that look after one store lose no data, since records are saved by compare-and-swap (R18),
 * but elect leaders against each other and make each other's pods anew.
 *
 * The name is written by compare-and-swap with the store's version, as all of the store's status is
 * (see StatusWriter): of two that claim a store one does, and what the one before still writes is
 * refused. That one may act for a moment beside its successor, as with any Lease.
 */
import type { Clock } from "../../sidecar/lib/ports/clock.ts";
import type { Logger } from "../../sidecar/lib/ports/logger.ts";
import type { ReplicatedStoreStatus } from "../api/v1alpha1/replicated-store.ts";
import type { ApiClient } from "./api-client.ts";
import { ApiError, isStatus } from "./api-error.ts";
import type { EventRecorder } from "./event-recorder.ts";
import { KUBE_LIMITS, type KubeLimits } from "./limits.ts";
import { OtherLeases } from "./other-leases.ts";
import type { ReconcileResult } from "./reconcile-loop.ts";
import { KINDS, type KubeObject } from "./resources.ts";
import type { StatusWriter } from "./status-writer.ts";

/** Where the Lease of an operator is. */
export interface LeasePlace {
  readonly namespace: string;
  readonly name: string;
}

/** What it takes to tell whose stores are. */
export interface StoreOwnerOptions {
  readonly client: ApiClient;
  readonly statuses: Pick<StatusWriter, "write">;
  readonly clock: Clock;
  readonly events: Pick<EventRecorder, "record">;
  readonly logger: Logger;
  /** That of this operator. */
  readonly lease: LeasePlace;
  /** Ends what this process does for the store `namespace/name`. */
  readonly leave: (key: string) => Promise<void>;
  readonly limits?: Partial<KubeLimits>;
}

/** When a store whose claim was just written, or was not since it changed, is seen as it is now. */
const AGAIN_MS = 1_000;

/** API servers forget an Event after an hour; what it says is still so. */
const TELL_AGAIN_MS = 1_800_000;

/** Answers that pass by themselves, and soon. */
const BUSY: ReadonlySet<number> = new Set([429, 503]);

/** Where the runbooks say how to find the other operator. */
const PAGE = "runbooks/conditions/Progressing.md#two-operators";

/** See the file's header. */
export class StoreOwner {
  readonly #options: StoreOwnerOptions;
  readonly #limits: KubeLimits;
  readonly #leases: OtherLeases;
  /** `namespace/name` of this operator's Lease. */
  readonly #self: string;
  /** Store -> what was told of it last, and when. Its bound is the number of stores. */
  readonly #told = new Map<string, { readonly note: string; readonly atMs: number }>();
  /** Store -> when its claim, which was refused, is tried again. */
  readonly #refused = new Map<string, number>();

  constructor(options: StoreOwnerOptions) {
    this.#options = options;
    this.#limits = { ...KUBE_LIMITS, ...options.limits };
    this.#leases = new OtherLeases(options.client, options.clock, this.#limits);
    this.#self = leaseText(options.lease);
  }

  /**
   * "ours": go on. Otherwise nothing may be done for the store now, and it is looked at again as
   * said. No request for a store that is ours already.
   */
  async settle(
    key: string,
    object: KubeObject,
    signal: AbortSignal,
  ): Promise<ReconcileResult | "ours"> {
    const { operator } = (object["status"] ?? {}) as ReplicatedStoreStatus;
    if (operator === undefined) return await this.#claim(key, object, signal);
    if (operator === this.#self) {
      this.forget(key);
      return "ours";
    }
    // Before anything that takes time: somebody else looks after it already.
    await this.#options.leave(key);
    return await this.#wait(key, object, operator, signal);
  }

  /** The store is gone. */
  forget(key: string): void {
    this.#told.delete(key);
    this.#refused.delete(key);
  }

  /**
   * A claim that is refused, by a webhook or by definitions that are older than the operator, keeps
   * no store from being looked after: as little as any other manifest.
   */
  async #claim(
    key: string,
    object: KubeObject,
    signal: AbortSignal,
  ): Promise<ReconcileResult | "ours"> {
    const { clock, logger } = this.#options;
    const nowMs = clock.monotonicMs();
    if (nowMs < (this.#refused.get(key) ?? nowMs)) return "ours";
    try {
      await this.#name(object, signal);
    } catch (error) {
      const passes = isChanged(error) || !(error instanceof ApiError) || BUSY.has(error.status);
      if (passes) return this.#again(error);
      this.#refused.set(key, nowMs + this.#limits.otherLookMs);
      const { message } = error;
      if (this.#told.get(key)?.note !== message) {
        logger.warn("store not claimed; it is looked after all the same", { store: key, message });
      }
      this.#told.set(key, { note: message, atMs: nowMs });
      return "ours";
    }
    this.forget(key);
    logger.info("store claimed", { store: key });
    return { requeueAfterMs: AGAIN_MS };
  }

  /** The store is `operator`'s, as long as that one's Lease is held, for its namespace too. */
  async #wait(
    key: string,
    object: KubeObject,
    operator: string,
    signal: AbortSignal,
  ): Promise<ReconcileResult> {
    const place = leasePlace(operator);
    const state = await this.#leases.state(place, object.metadata.namespace, signal);
    const requeueAfterMs = this.#limits.otherLookMs;
    if (state === "held") {
      this.#tell(key, object, heldNote(operator, this.#self));
      return { requeueAfterMs, routine: true };
    }
    if (state === "forbidden") {
      this.#tell(key, object, forbiddenNote(object, place, this.#self));
      return { requeueAfterMs, failed: true };
    }
    try {
      await this.#name(object, signal);
    } catch (error) {
      return this.#again(error);
    }
    this.forget(key);
    const { events, logger } = this.#options;
    const why =
      state === "free"
        ? `the Lease of ${operator} is free`
        : `the operator of Lease ${operator} does not watch namespace ${object.metadata.namespace}`;
    const note = `${this.#self} looks after this store now: ${why}`;
    const [type, reason, action] = ["Normal", "TakenOver", "TakeOver"] as const;
    events.record({ regarding: object, type, reason, action, note });
    logger.info("store taken over", { store: key, from: operator });
    return { requeueAfterMs: AGAIN_MS };
  }

  /** What was written is gone on from when the cache shows it: only then is there a version. */
  async #name(object: KubeObject, signal: AbortSignal): Promise<void> {
    const status = { ...(object["status"] as object | undefined), operator: this.#self };
    await this.#options.statuses.write(KINDS.store, object, status, signal, "unchanged");
  }

  /** Somebody else was quicker, and the store's watch tells; throws what is something else. */
  #again(error: unknown): ReconcileResult {
    if (!isChanged(error)) throw error;
    return { requeueAfterMs: AGAIN_MS };
  }

  #tell(key: string, object: KubeObject, note: string): void {
    const { events, logger, clock } = this.#options;
    const nowMs = clock.monotonicMs();
    const before = this.#told.get(key);
    const isNews = before?.note !== note;
    const isRecent = before !== undefined && nowMs - before.atMs < TELL_AGAIN_MS;
    if (!isNews && isRecent) return;
    this.#told.set(key, { note, atMs: nowMs });
    const [type, reason, action] = ["Warning", "OtherOperator", "LeaveAlone"] as const;
    events.record({ regarding: object, type, reason, action, note });
    if (isNews) logger.warn("store of another operator", { store: key, message: note });
  }
}

/** The object is another version by now, another object, or gone. */
function isChanged(error: unknown): boolean {
  return isStatus(error, 409) || isStatus(error, 404);
}

function leaseText({ namespace, name }: LeasePlace): string {
  return `${namespace}/${name}`;
}

function leasePlace(text: string): LeasePlace {
  const [namespace = "", name = ""] = text.split("/");
  return { namespace, name };
}

function heldNote(operator: string, self: string): string {
  return (
    `status.operator is ${operator}, whose Lease is held, or not free for long enough yet: this one, ` +
    `${self}, leaves the store alone until it is. If that operator works, let one release alone ` +
    `watch this namespace (watchNamespaces), or uninstall the other; see ${PAGE}`
  );
}

function forbiddenNote({ metadata }: KubeObject, other: LeasePlace, self: string): string {
  const patch = JSON.stringify({ status: { operator: self } });
  return (
    `status.operator is ${leaseText(other)}, and whether that operator still works cannot be seen: ` +
    `the right "get leases.coordination.k8s.io" in namespace ${other.namespace} is missing. ` +
    `${self} leaves this store alone. Give the right, or, when that operator is gone or does not ` +
    `watch this namespace: kubectl ` +
    `patch rstore ${metadata.name} --namespace ${metadata.namespace} --subresource=status ` +
    `--type=merge --patch '${patch}'; see ${PAGE}`
  );
}
