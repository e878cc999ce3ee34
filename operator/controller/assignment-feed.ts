/**
 * Keeps one node told of the shard assignments: everything at first, the newest after each change.
 */
import type { Clock } from "../../sidecar/lib/ports/clock.ts";
import type { ShardAssignments } from "../../sidecar/protocol/gen/oxia-client.ts";
import type { NodeEndpoint, SidecarClient } from "./ports.ts";
import type { Timings } from "./timings.ts";
import { childAbort, pause, Wake } from "./wake.ts";

export class AssignmentFeed {
  readonly #endpoint: NodeEndpoint;
  readonly #sidecars: SidecarClient;
  readonly #clock: Clock;
  readonly #timings: Timings;
  readonly #wake: Wake;
  readonly #reach: Wake;
  #reachable = false;
  /** Ends the stream in use. */
  #dropStream: (() => void) | null = null;
  #latest: ShardAssignments | null = null;
  #version = 0;

  constructor(endpoint: NodeEndpoint, sidecars: SidecarClient, clock: Clock, timings: Timings) {
    this.#endpoint = endpoint;
    this.#sidecars = sidecars;
    this.#clock = clock;
    this.#timings = timings;
    this.#wake = new Wake(clock);
    this.#reach = new Wake(clock);
  }

  /**
   * Whoever watches the node has heard of it, or knows that it is away: then nothing is tried, and
   * the stream ends. Where nobody is any more it could hang for long, and nobody would tell the
   * process that comes next.
   */
  reachable(reachable: boolean): void {
    if (this.#reachable === reachable) return;
    this.#reachable = reachable;
    if (!reachable) this.#dropStream?.();
    this.#reach.notify();
  }

  /** Replaces what is to be told; versions that were not sent yet are skipped. */
  set(assignments: ShardAssignments): void {
    this.#latest = assignments;
    this.#version += 1;
    this.#wake.notify();
  }

  /** Feeds until `signal` aborts; never rejects. */
  async run(signal: AbortSignal): Promise<void> {
    let delayMs = this.#timings.reconnectMaxMs;
    while (!signal.aborted) {
      if (!this.#reachable) {
        await this.#reach.wait(null, signal);
        continue;
      }
      const beganMs = this.#clock.monotonicMs();
      const { controller, unlink } = childAbort(signal);
      const stream = controller.signal;
      let dropped = false;
      this.#dropStream = () => {
        dropped = true;
        controller.abort(new Error("the node is away"));
      };
      try {
        await this.#sidecars.pushAssignments(this.#endpoint, this.#updates(stream), stream);
      } catch {
        // The node is away; whoever watches it says so. The next stream begins with everything.
      } finally {
        this.#dropStream = null;
        unlink();
        // The source must not go on waiting for updates of a stream that is gone.
        controller.abort(new Error("assignment stream ended"));
      }
      const { reconnectMaxMs, reconnectSlowMs } = this.#timings;
      // Told at once when it is back; how long the last stream was there says nothing then.
      if (dropped || !this.#reachable) {
        delayMs = reconnectMaxMs;
        continue;
      }
      const lasted = this.#clock.monotonicMs() - beganMs > reconnectSlowMs;
      delayMs = lasted ? reconnectMaxMs : Math.min(delayMs * 2, reconnectSlowMs);
      await pause(this.#clock, delayMs, signal);
    }
  }

  async *#updates(signal: AbortSignal): AsyncGenerator<ShardAssignments, void> {
    let sent = 0;
    while (!signal.aborted) {
      if (this.#latest !== null && sent !== this.#version) {
        sent = this.#version;
        yield this.#latest;
        continue;
      }
      await this.#wake.wait(null, signal);
    }
  }
}
