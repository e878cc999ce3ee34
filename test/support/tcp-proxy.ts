import { createServer, connect, type Server, type Socket } from "node:net";
import { once } from "node:events";

/**
 * `open`: forwards. `cut`: refuses and resets, as a dead host's neighbour would. `frozen`: accepts,
 * forwards nothing. `slow`: forwards late, and little at a time.
 */
export type ProxyMode = "open" | "cut" | "frozen" | "slow";

/** What a slow link adds to each way. */
const SLOW_DELAY_MS = 60;
const SLOW_BYTES_PER_MS = 512;
/** Bytes on their way beyond which a sender has to wait. */
const IN_FLIGHT_MAX = 256 * 1024;

/** A network between one address and what listens behind it, to be broken at will. */
export class TcpProxy {
  private readonly target: { readonly host: string; readonly port: number };
  private readonly server: Server;
  private readonly ways = new Set<Way>();
  private mode: ProxyMode = "open";
  address = "";

  constructor(target: string) {
    const [host = "", port = ""] = target.split(":");
    this.target = { host, port: Number(port) };
    this.server = createServer((socket) => this.accept(socket));
  }

  async listen(port: number): Promise<void> {
    this.server.listen(port, "127.0.0.1");
    await once(this.server, "listening");
    this.address = `127.0.0.1:${port}`;
  }

  set(mode: ProxyMode): void {
    this.mode = mode;
    for (const way of this.ways) way.set(mode);
  }

  async close(): Promise<void> {
    this.set("cut");
    this.server.close();
    await once(this.server, "close");
  }

  private accept(near: Socket): void {
    if (this.mode === "cut") {
      near.destroy();
      return;
    }
    const far = connect(this.target.port, this.target.host);
    for (const [from, to] of [[near, far] as const, [far, near] as const]) {
      const way = new Way(from, to);
      this.ways.add(way);
      from.on("close", () => this.ways.delete(way));
      way.set(this.mode);
    }
  }
}

interface Chunk {
  readonly bytes: Buffer;
  readonly dueMs: number;
}

/** One direction of one connection. */
class Way {
  private readonly from: Socket;
  private readonly to: Socket;
  private mode: ProxyMode = "open";
  private readonly queue: Chunk[] = [];
  private queuedBytes = 0;
  private lastDueMs = 0;
  private timer: NodeJS.Timeout | null = null;
  /** The receiver takes no more for now. */
  private full = false;

  constructor(from: Socket, to: Socket) {
    this.from = from;
    this.to = to;
    from.setNoDelay(true);
    from.on("data", (bytes: Buffer) => this.take(bytes));
    to.on("drain", () => {
      this.full = false;
      this.forward();
    });
    from.on("error", () => undefined);
    from.on("close", () => {
      clearTimeout(this.timer ?? undefined);
      to.destroy();
    });
  }

  set(mode: ProxyMode): void {
    this.mode = mode;
    if (mode === "cut") this.from.destroy();
    else this.forward();
  }

  private take(bytes: Buffer): void {
    // Looked at while slow only. Nothing overtakes what is still on its way.
    const firstMs = Math.max(this.lastDueMs, performance.now() + SLOW_DELAY_MS);
    this.lastDueMs = firstMs + bytes.byteLength / SLOW_BYTES_PER_MS;
    this.queue.push({ bytes, dueMs: this.lastDueMs });
    this.queuedBytes += bytes.byteLength;
    this.forward();
  }

  /** Sends on what is due; takes no more while too much is on its way. */
  private forward(): void {
    clearTimeout(this.timer ?? undefined);
    this.timer = null;
    while (this.mode !== "frozen" && !this.full) {
      const [next] = this.queue;
      if (next === undefined) break;
      const waitMs = this.mode === "slow" ? next.dueMs - performance.now() : 0;
      if (waitMs > 0) {
        this.timer = setTimeout(() => this.forward(), waitMs);
        break;
      }
      this.queue.shift();
      this.queuedBytes -= next.bytes.byteLength;
      this.full = !this.to.write(next.bytes);
    }
    const stands = this.mode === "frozen" || this.full || this.queuedBytes > IN_FLIGHT_MAX;
    if (stands) this.from.pause();
    else this.from.resume();
  }
}
