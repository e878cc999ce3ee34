/**
 * Events on objects, for `kubectl describe` and `kubectl events`. The same event again is counted,
 * not repeated, and its count is sent when it has doubled. Nothing is decided by an event: what
 * cannot be sent is dropped.
 */
import type { Clock } from "../../sidecar/lib/ports/clock.ts";
import type { Logger } from "../../sidecar/lib/ports/logger.ts";
import { pause, Wake } from "../controller/wake.ts";
import type { ApiClient } from "./api-client.ts";
import { ApiError, isStatus } from "./api-error.ts";
import { KUBE_LIMITS, type KubeLimits } from "./limits.ts";
import { microTime } from "./micro-time.ts";
import { KINDS, type KubeObject } from "./resources.ts";

/** Something to be told of an object. */
export interface ObjectEvent {
  readonly regarding: KubeObject;
  readonly type: "Normal" | "Warning";
  /** One word, the same for the same kind of happening. */
  readonly reason: string;
  /** One word: what the operator did about it. */
  readonly action: string;
  readonly note: string;
}

/** What a recorder needs. */
export interface EventRecorderOptions {
  readonly client: ApiClient;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Who says so: the program, and this process of it. */
  readonly controller: string;
  readonly instance: string;
  readonly limits?: Partial<KubeLimits>;
}

interface Series {
  readonly event: ObjectEvent;
  readonly name: string;
  readonly firstAtMs: number;
  lastAtMs: number;
  count: number;
  /** Count that was sent last; 0: none yet. */
  sent: number;
}

/** How often one event is tried while the API server is away. */
const ATTEMPTS_MAX = 5;

/** See the file's header. */
export class EventRecorder {
  readonly #options: EventRecorderOptions;
  readonly #limits: KubeLimits;
  /** By what makes events the same; the least recent first. */
  readonly #series = new Map<string, Series>();
  readonly #waiting = new Set<Series>();
  readonly #wake: Wake;
  #number = 0;
  #dropped = 0;

  constructor(options: EventRecorderOptions) {
    this.#options = options;
    this.#limits = { ...KUBE_LIMITS, ...options.limits };
    this.#wake = new Wake(options.clock);
  }

  /** Events that were not sent, since too many waited or the API server refused them. */
  get dropped(): number {
    return this.#dropped;
  }

  /** Notes the event; returns at once. */
  record(event: ObjectEvent): void {
    const nowMs = this.#options.clock.nowMs();
    const series = this.#seriesOf(event, nowMs);
    series.count += 1;
    series.lastAtMs = nowMs;
    if (series.sent > 0 && series.count < series.sent * 2) return;
    this.#waiting.add(series);
    if (this.#waiting.size > this.#limits.eventsWaitingMax) {
      const [oldest] = this.#waiting;
      if (oldest !== undefined) this.#drop(oldest);
    }
    this.#wake.notify();
  }

  /** Sends what waits, until the signal aborts. Never rejects. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const [series] = this.#waiting;
      if (series === undefined) {
        await this.#wake.wait(this.#limits.eventSeriesMs, signal);
        continue;
      }
      await this.#send(series, signal);
    }
  }

  #seriesOf(event: ObjectEvent, nowMs: number): Series {
    const { uid = "" } = event.regarding.metadata;
    const key = JSON.stringify([uid, event.type, event.reason, event.action, event.note]);
    const known = this.#series.get(key);
    this.#series.delete(key);
    const sinceMs = nowMs - (known?.lastAtMs ?? 0);
    const goesOn = known !== undefined && sinceMs >= 0 && sinceMs < this.#limits.eventSeriesMs;
    const series = goesOn ? known : this.#newSeries(event, nowMs);
    this.#series.set(key, series);
    if (this.#series.size > this.#limits.eventsRememberedMax) {
      const [oldest] = this.#series.keys();
      if (oldest !== undefined) this.#series.delete(oldest);
    }
    return series;
  }

  #newSeries(event: ObjectEvent, nowMs: number): Series {
    this.#number += 1;
    const suffix = `${Math.round(nowMs * 1_000).toString(16)}${this.#number.toString(16)}`;
    // Names of objects are bounded, and so is this one's.
    const name = `${event.regarding.metadata.name.slice(0, 220)}.${suffix}`;
    return { event, name, firstAtMs: nowMs, lastAtMs: nowMs, count: 0, sent: 0 };
  }

  async #send(series: Series, signal: AbortSignal): Promise<void> {
    const { clock, logger } = this.#options;
    for (let attempt = 1; attempt <= ATTEMPTS_MAX; attempt += 1) {
      const { count } = series;
      try {
        await this.#write(series, signal);
        series.sent = count;
        // It may have happened again meanwhile.
        if (series.count < series.sent * 2) this.#waiting.delete(series);
        return;
      } catch (error) {
        if (signal.aborted) return;
        const final = error instanceof ApiError && error.status !== 429 && error.status < 500;
        const message = error instanceof Error ? error.message : String(error);
        logger.debug("event not sent", { reason: series.event.reason, error: message });
        if (final) break;
        await pause(clock, this.#limits.retryMinMs * 2 ** attempt, signal);
        if (signal.aborted) return;
      }
    }
    this.#drop(series);
  }

  async #write(series: Series, signal: AbortSignal): Promise<void> {
    const { client } = this.#options;
    const namespace = series.event.regarding.metadata.namespace;
    if (series.sent > 0) {
      const at = { namespace, name: series.name };
      try {
        await client.merge(KINDS.event, at, { series: seriesField(series) }, { signal });
        return;
      } catch (error) {
        // Events are kept for an hour; then this one begins anew.
        if (!isStatus(error, 404)) throw error;
      }
    }
    try {
      await client.create(KINDS.event, this.#object(series), { signal });
    } catch (error) {
      // An attempt whose answer was lost has made it.
      if (!isStatus(error, 409)) throw error;
    }
  }

  #object(series: Series): KubeObject {
    const { controller, instance } = this.#options;
    const { regarding, type, reason, action, note } = series.event;
    const { namespace, name, uid, resourceVersion } = regarding.metadata;
    const { apiVersion, kind } = regarding;
    return {
      metadata: { name: series.name, namespace },
      eventTime: microTime(series.firstAtMs),
      reportingController: controller,
      reportingInstance: instance.slice(0, 128),
      type,
      reason: reason.slice(0, 128),
      action: action.slice(0, 128),
      note: shortened(note, this.#limits.eventNoteLengthMax),
      regarding: { apiVersion, kind, namespace, name, uid, resourceVersion },
      ...(series.count > 1 ? { series: seriesField(series) } : {}),
    };
  }

  #drop(series: Series): void {
    this.#waiting.delete(series);
    this.#dropped += 1;
  }
}

function seriesField({ count, lastAtMs }: Series) {
  return { count, lastObservedTime: microTime(lastAtMs) };
}

/** Longer notes are refused, and the event with them; the bound is in bytes. */
function shortened(text: string, bytesMax: number): string {
  const bytes = Buffer.from(text);
  if (bytes.length <= bytesMax) return text;
  const cut = bytes.subarray(0, bytesMax - 3).toString("utf8");
  // A character that was cut in two.
  return `${cut.replace(/\uFFFD$/u, "")}...`;
}
