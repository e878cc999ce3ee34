/**
 * Watches one node: a status stream for what it reports, probes for whether it still answers. A
 * broken stream is noticed at once and confirmed by one quick probe; a silent node within
 * `silentAfterMs`, also one that has not been heard of at all.
 */
import type { Clock, Timer } from "../../sidecar/lib/ports/clock.ts";
import type { NodeStatus, ReplicaStatus } from "../../sidecar/protocol/gen/resilver.ts";
import type { CoordinatorEvents } from "../core/events.ts";
import type { Reach } from "../core/observed.ts";
import { shardKeyText, type ShardKey } from "../core/record.ts";
import { CallFailed, type NodeEndpoint, type SidecarClient } from "./ports.ts";
import type { Timings } from "./timings.ts";
import { childAbort, Wake } from "./wake.ts";

/**
 * What a watch needs. `changed` is called after anything about the node changed; it must not throw.
 */
export interface NodeWatchOptions {
  readonly endpoint: NodeEndpoint;
  readonly sidecars: SidecarClient;
  readonly clock: Clock;
  readonly events: CoordinatorEvents;
  readonly timings: Timings;
  readonly changed: () => void;
}

/** A call that ends so long after its deadline says that this process is late, not its node. */
const LATE_MS = 100;
const ASKED_MAX = 5;
const STREAM_OVER = new Error("the status stream is over");

export class NodeWatch {
  readonly endpoint: NodeEndpoint;
  readonly #options: NodeWatchOptions;
  readonly #replicas = new Map<string, ReplicaStatus>();
  #reach: Reach = "unknown";
  #bootId = 0;
  #heardAtMs: number;
  /** Ends the stream in use, so that it is opened anew. */
  #dropStream: (() => void) | null = null;
  /** The stream in use has brought something. */
  #received = false;
  /** The stream in use could not be opened in time: nobody refused it either. */
  #unanswered = false;
  /** The stream in use was ended since the node is elsewhere: that says nothing of the node. */
  #moved = false;
  readonly #retry: Wake;
  /** Until it is tried again, and since when it ought to be there. */
  #delayMs = 0;
  #expectedAtMs = 0;

  constructor(options: NodeWatchOptions) {
    this.#retry = new Wake(options.clock);
    this.endpoint = options.endpoint;
    this.#options = options;
    this.#heardAtMs = options.clock.monotonicMs();
  }

  get reach(): Reach {
    return this.#reach;
  }

  /** Of the process that was heard of last; 0: none was. */
  get bootId(): number {
    return this.#bootId;
  }

  /** The last report about a shard's replica; null when the node has none open. */
  replica(key: ShardKey): ReplicaStatus | null {
    return this.#replicas.get(shardKeyText(key)) ?? null;
  }

  /** Takes a report that came as the answer to a call; the stream may bring it later. */
  learn(replica: ReplicaStatus): void {
    this.#replicas.set(shardKeyText(replica), replica);
    this.#options.changed();
  }

  /** Forgets a shard that was deleted there. */
  forget(key: ShardKey): void {
    this.#replicas.delete(shardKeyText(key));
  }

  /** Watches until `signal` aborts; never rejects otherwise. */
  async run(signal: AbortSignal): Promise<void> {
    this.#heardAtMs = this.#options.clock.monotonicMs();
    await Promise.all([this.#streamLoop(signal), this.#probeLoop(signal)]);
  }

  async #streamLoop(signal: AbortSignal): Promise<void> {
    const { timings, clock } = this.#options;
    this.#expectSoon();
    while (!signal.aborted) {
      const received = await this.#stream(signal);
      if (signal.aborted) return;
      if (this.#moved) continue;
      if (received) this.#expectSoon();
      // One that is down already is not asked: that would keep the next attempt waiting.
      const alive = this.#reach === "up" && (await this.confirm(signal));
      // Of one that was never heard of, that nobody answers says no more than its silence does.
      const untold = this.#reach === "unknown" && this.#unanswered;
      if (!alive && !untold) this.#setReach("down", "connection refused or broken");
      await this.#retry.wait(this.#delayMs, signal);
      const quick = clock.monotonicMs() - this.#expectedAtMs < timings.reconnectQuickMs;
      const maxMs = quick ? timings.reconnectMaxMs : timings.reconnectSlowMs;
      this.#delayMs = Math.min(this.#delayMs * 2, maxMs);
    }
  }

  /**
   * The platform saw it come back: it is tried at once, and often while it may be starting.
   * `elsewhere`: what nobody has answered yet goes to where it was before, and can hang there.
   */
  retryNow(elsewhere: boolean): void {
    this.#expectSoon();
    const drop = elsewhere && !this.#received ? this.#dropStream : null;
    if (drop === null) this.#retry.notify();
    else {
      this.#moved = true;
      drop();
    }
  }

  #expectSoon(): void {
    this.#delayMs = this.#options.timings.reconnectMinMs;
    this.#expectedAtMs = this.#options.clock.monotonicMs();
  }

  /** Follows one stream to its end; true when it brought anything. */
  async #stream(signal: AbortSignal): Promise<boolean> {
    const { controller, unlink } = childAbort(signal);
    this.#dropStream = () => {
      controller.abort(new Error("status stream dropped"));
    };
    this.#received = false;
    this.#unanswered = false;
    this.#moved = false;
    try {
      for await (const status of this.#options.sidecars.watchStatus(
        this.endpoint,
        { heartbeatMs: this.#options.timings.heartbeatMs },
        controller.signal,
      )) {
        const { node } = this.endpoint;
        // Its address is another one's by now, whose replicas must never be taken for its own.
        if (status.node !== node) throw new CallFailed(node, `there is ${status.node}`, false);
        this.#received = true;
        this.#take(status);
      }
    } catch (error) {
      // Every end of the stream means the same: confirm, then open another.
      this.#unanswered = error instanceof CallFailed && error.timedOut;
    } finally {
      this.#dropStream = null;
      unlink();
      // With a reason that is there: Node's own is dear to make, and this one nobody reads.
      controller.abort(STREAM_OVER);
    }
    return this.#received;
  }

  #take(status: NodeStatus): void {
    this.#heardAtMs = this.#options.clock.monotonicMs();
    this.#bootId = status.bootId;
    // A sign of life, no news.
    if (!status.full && status.replicas.length === 0 && this.#reach === "up") return;
    if (status.full) this.#replicas.clear();
    for (const replica of status.replicas) this.#replicas.set(shardKeyText(replica), replica);
    // Before its first full report nothing is known of a node.
    if (status.full || this.#reach === "silent") this.#setReach("up", "");
    this.#options.changed();
  }

  /** True when the process that was heard of last answers now. Never rejects. */
  async confirm(signal: AbortSignal): Promise<boolean> {
    const { clock, timings } = this.#options;
    for (let asked = 1; ; asked += 1) {
      const before = clock.monotonicMs();
      const bootId = await this.#ask(timings.confirmDeadlineMs, signal);
      if (bootId !== null) return bootId === this.#bootId && this.#reach === "up";
      // An answer may have lain there unread.
      const lateMs = clock.monotonicMs() - before - timings.confirmDeadlineMs;
      if (signal.aborted || asked >= ASKED_MAX || lateMs < LATE_MS) return false;
    }
  }

  /** The answering process; null: none in time. Never rejects. */
  async #ask(deadlineMs: number, signal: AbortSignal): Promise<number | null> {
    const { sidecars } = this.#options;
    return await sidecars.getInfo(this.endpoint, { deadlineMs, signal }).then(
      ({ bootId }) => bootId,
      () => null,
    );
  }

  async #probeLoop(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await this.#untilProbeIsDue(signal);
      if (signal.aborted) return;
      if (this.#reach === "unknown") await this.#awaitFirstReport(signal);
      else await this.#probe(signal);
    }
  }

  /**
   * Resolves when something is to be asked: of a node that reports only when it has been quiet. Its
   * stream tells that it lives; a probe of every node beside that is most of an operator's work
   * with thousands of pods, and to wake for each of them is much of what is left. So one promise
   * lasts for as long as all is well.
   */
  #untilProbeIsDue(signal: AbortSignal): Promise<void> {
    const { clock, timings } = this.#options;
    return new Promise((resolve) => {
      const done = (): void => {
        timer.cancel();
        signal.removeEventListener("abort", done);
        resolve();
      };
      const sleep = (): Timer => {
        const before = clock.monotonicMs();
        const waitMs = Math.max(timings.probeIntervalMs, this.#probeDueMs());
        return clock.timer(waitMs, () => {
          if (this.#reach !== "down") this.#discount(clock.monotonicMs() - before - waitMs);
          const isQuiet = this.#reach === "up" && this.#probeDueMs() === 0;
          if (isQuiet || this.#reach === "unknown" || this.#reach === "silent") done();
          else timer = sleep();
        });
      };
      let timer = sleep();
      signal.addEventListener("abort", done, { once: true });
    });
  }

  /** Milliseconds until a node that reports is to be probed; 0 for one that does not. */
  #probeDueMs(): number {
    if (this.#reach !== "up") return 0;
    return Math.max(0, this.#options.timings.probeAfterMs - this.#silenceMs());
  }

  /**
   * The kernel of a process that hangs still takes connections, and nothing ever fails. Whoever
   * answers gets twice the time: then it is this process that is slow, with thousands of nodes.
   */
  async #awaitFirstReport(signal: AbortSignal): Promise<void> {
    const { clock, timings } = this.#options;
    if (this.#silenceMs() < timings.silentAfterMs) return;
    const before = clock.monotonicMs();
    const bootId = await this.#ask(timings.probeDeadlineMs, signal);
    if (signal.aborted || this.#reach !== "unknown") return;
    this.#discount(clock.monotonicMs() - before - timings.probeDeadlineMs);
    const enough = timings.silentAfterMs * (bootId === null ? 1 : 2);
    if (this.#silenceMs() < enough) return;
    this.#setReach("silent", `no report for ${timings.silentAfterMs} ms`);
    this.#dropStream?.();
  }

  async #probe(signal: AbortSignal): Promise<void> {
    const { clock, timings } = this.#options;
    const left = timings.silentAfterMs - this.#silenceMs();
    const deadlineMs = Math.min(timings.probeDeadlineMs, Math.max(100, left));
    const before = clock.monotonicMs();
    const bootId = await this.#ask(deadlineMs, signal);
    if (bootId !== null) {
      this.#heardAtMs = clock.monotonicMs();
      // The stream still hangs on a process that is gone: its reports say nothing about this one.
      if (bootId !== this.#bootId) this.#dropStream?.();
      return;
    }
    if (signal.aborted || this.#reach !== "up") return;
    this.#discount(clock.monotonicMs() - before - deadlineMs);
    if (this.#silenceMs() < timings.silentAfterMs) return;
    this.#setReach("silent", `no answer for ${timings.silentAfterMs} ms`);
    // What comes after the silence must begin with a full report.
    this.#dropStream?.();
  }

  /**
   * A wait took so much longer than it should: this process was stopped, or has too much to do.
   * What a node said meanwhile may not be read yet, so that its silence proves nothing.
   */
  #discount(overdueMs: number): void {
    const { clock, timings } = this.#options;
    if (overdueMs <= 0) return;
    const nowMs = clock.monotonicMs();
    const wholly = overdueMs > timings.silentAfterMs / 2;
    this.#heardAtMs = wholly ? nowMs : Math.min(nowMs, this.#heardAtMs + overdueMs);
  }

  #silenceMs(): number {
    return this.#options.clock.monotonicMs() - this.#heardAtMs;
  }

  #setReach(reach: Reach, message: string): void {
    if (this.#reach === reach) return;
    const before = this.#reach;
    this.#reach = reach;
    const { events, changed } = this.#options;
    const { node } = this.endpoint;
    if (reach === "up") events.emit({ kind: "nodeUp", node });
    else if (before === "up" || before === "unknown")
      events.emit({ kind: "nodeDown", node, message });
    changed();
  }
}
