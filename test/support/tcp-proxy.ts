import { createServer, connect, type Server, type Socket } from "node:net";
import { once } from "node:events";

/**
 * `open`: forwards. `cut`: refuses and resets, as a dead host's neighbour would. `frozen`: accepts,
 * forwards nothing.
 */
export type ProxyMode = "open" | "cut" | "frozen";

/** A network between one address and what listens behind it, to be broken at will. */
export class TcpProxy {
  private readonly target: { readonly host: string; readonly port: number };
  private readonly server: Server;
  private readonly pairs = new Set<readonly [Socket, Socket]>();
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
    for (const [near, far] of this.pairs) {
      if (mode === "cut") {
        near.destroy();
        far.destroy();
      } else if (mode === "frozen") {
        near.pause();
        far.pause();
      } else {
        near.resume();
        far.resume();
      }
    }
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
    const pair = [near, far] as const;
    this.pairs.add(pair);
    for (const [from, to] of [pair, [far, near] as const]) {
      from.setNoDelay(true);
      from.on("data", (bytes: Buffer) => {
        if (!to.write(bytes)) {
          from.pause();
          to.once("drain", () => this.mode !== "frozen" && from.resume());
        }
      });
      from.on("error", () => undefined);
      from.on("close", () => {
        to.destroy();
        this.pairs.delete(pair);
      });
    }
    if (this.mode === "frozen") this.set("frozen");
  }
}
