import type { Chance } from "./chance.ts";
import { plainCopy } from "./plain-copy.ts";
import type { SimProcess, SimTime } from "./sim-clock.ts";
import { type Codec, SimLane, SimStream } from "./sim-stream.ts";
import { withoutStack } from "./without-stack.ts";

/** How the network behaves without any fault. Milliseconds. */
export interface NetworkSpeed {
  latencyMsMin: number;
  latencyMsMax: number;
  /** One message in how many takes `slowMs` more; 0: none. */
  slowOneIn: number;
  slowMs: number;
}

/** Silence after which an end gives a connection up, and the longest a connect waits. */
const CLIENT_KEEPALIVE_MS = 2_000;
const SERVER_KEEPALIVE_MS = 4_000;
const CONNECT_TIMEOUT_MS = 1_500;
/** What a blocked way held back arrives within this after it is free. */
const LATE_MS_MAX = 200;

/** The longest that the second copy of a request is late. */
const REPEAT_MS_MAX = 2_000;
/** A lost packet of a stream comes after its retransmission. */
const RETRANSMIT_MS_MIN = 200;
const RETRANSMIT_MS_MAX = 1_000;

/** What is wrong with one way between two hosts. */
export interface Impairment {
  /** Everything takes so much longer. */
  readonly delayMs?: number;
  /** So many of the requests and answers are lost; messages of streams are sent again. */
  readonly lostShare?: number;
  /** So many of the requests that may come twice do. */
  readonly repeatedShare?: number;
}

const UNIMPAIRED: Impairment = {};
const HELD = "held travels";

interface Open {
  readonly stream: SimStream<never, never>;
  readonly client: SimProcess;
  readonly server: SimProcess;
}

/** Messages of one direction of one stream, in order. */
interface Pipe {
  readonly from: SimProcess;
  readonly to: SimProcess;
  readonly label: string;
  readonly held: (() => void)[];
  lastAtMs: number;
  over: () => boolean;
}

/** What the events of one kind of call, or of stream, are called. */
interface Labels {
  readonly own: string;
  readonly travels: string;
  readonly cancels: string;
  readonly failed: string;
  readonly answered: string;
  readonly refused: string;
  readonly up: string;
  readonly down: string;
}

/** By kind, of which there are few. Each text is made once, and so hashed once for the trace. */
const LABELS = new Map<string, Labels>();

function labelsOf(own: string): Labels {
  const known = LABELS.get(own);
  if (known !== undefined) return known;
  const labels = {
    own,
    travels: `${own} travels`,
    cancels: `${own} cancel travels`,
    failed: `${own} failed`,
    answered: `${own} answered`,
    refused: `${own} refused`,
    up: `${own}>`,
    down: `${own}<`,
  };
  LABELS.set(own, labels);
  return labels;
}

/** No answer will come: refused, broken, or given up. */
export class NetworkFailure extends Error {
  override readonly name = "NetworkFailure";
}

/** One request and its answer. `signal` aborts when the request is cancelled. */
export interface UnaryCall<T> {
  readonly from: SimProcess;
  /** Name of the host; whichever process runs there when the request arrives serves it. */
  readonly to: string;
  readonly label: string;
  /** The request may come twice, a while apart; only the first one is answered. */
  readonly mayRepeat?: boolean;
  readonly serve: (process: SimProcess, signal: () => AbortSignal) => Promise<T>;
}

/** Whether a request was cancelled. Few ask, and a signal is dear: it is made for who does. */
class Cancellation {
  #cancelled = false;
  #abort: AbortController | null = null;

  get signal(): AbortSignal {
    this.#abort ??= new AbortController();
    if (this.#cancelled) this.#abort.abort(new Error("cancelled"));
    return this.#abort.signal;
  }

  cancel(): void {
    this.#cancelled = true;
    this.#abort?.abort(new Error("cancelled"));
  }
}

/**
 * The network between hosts. Streams keep their order and lose nothing while they last, as TCP
 * does; faults are delay, one-way and full partitions (what was sent arrives late, or its
 * connection is given up), broken and half-open connections. Requests may arrive long after their
 * caller gave up.
 */
export class SimNetwork {
  readonly #time: SimTime;
  readonly #chance: Chance;
  readonly #speed: NetworkSpeed;
  readonly #hosts = new Map<string, SimProcess>();
  readonly #blocked = new Set<string>();
  readonly #impaired = new Map<string, Impairment>();
  readonly #open = new Set<Open>();
  readonly #pipes = new Set<Pipe>();
  /** Requests and answers that a blocked way has not lost: they arrive when it is free. */
  #late: { readonly from: string; readonly to: string; readonly arrive: () => void }[] = [];

  constructor(time: SimTime, chance: Chance, speed: NetworkSpeed) {
    this.#time = time;
    this.#chance = chance;
    this.#speed = speed;
  }

  /** Puts a process on its host; calls go there from now on. */
  up(process: SimProcess): void {
    this.#hosts.set(process.name, process);
  }

  /** The process is dead: its connections break, at once or, when `silent`, by keepalive only. */
  down(process: SimProcess, silent: boolean): void {
    if (this.#hosts.get(process.name) === process) this.#hosts.delete(process.name);
    for (const open of [...this.#open]) {
      if (open.client !== process && open.server !== process) continue;
      this.#open.delete(open);
      const serverLeft = open.client === process;
      const left = serverLeft ? open.server : open.client;
      const reached = !silent && !this.#isBlocked(process.name, left.name);
      const patience = serverLeft ? SERVER_KEEPALIVE_MS : CLIENT_KEEPALIVE_MS;
      this.#time.after(reached ? this.#latency() : patience, left, "broken", () => {
        if (serverLeft) open.stream.breakServer("connection reset");
        else open.stream.breakClient("connection reset");
      });
    }
  }

  /** Nothing gets from one host to the other any more (one way). */
  block(from: string, to: string): void {
    this.#blocked.add(`${from}>${to}`);
    for (const open of this.#open) {
      if (isBetween(open, from, to)) this.#watchKeepalive(open);
    }
  }

  /** What was held on the way arrives now, unless its connection was given up. */
  unblock(from: string, to: string): void {
    if (!this.#blocked.delete(`${from}>${to}`)) return;
    for (const pipe of this.#pipes) {
      if (pipe.from.name !== from || pipe.to.name !== to) continue;
      for (const deliver of pipe.held.splice(0)) this.#send(pipe, deliver);
    }
    const late = this.#late;
    this.#late = late.filter((one) => one.from !== from || one.to !== to);
    for (const { arrive, ...way } of late) {
      if (way.from !== from || way.to !== to) continue;
      this.#time.after(this.#chance.unit() * LATE_MS_MAX, null, "held", () => {
        // It may be blocked again by now.
        this.#pass(from, to, HELD, arrive);
      });
    }
  }

  /** From now on the way from one host to the other is like that; null: nothing is wrong. */
  impair(from: string, to: string, how: Impairment | null): void {
    if (how === null) this.#impaired.delete(`${from}>${to}`);
    else this.#impaired.set(`${from}>${to}`, how);
  }

  unblockAll(): void {
    this.#impaired.clear();
    for (const pair of [...this.#blocked]) {
      const [from = "", to = ""] = pair.split(">");
      this.unblock(from, to);
    }
  }

  /** Connections between two hosts break; `half`: only one end learns of it soon. */
  sever(a: string, b: string, half: boolean): number {
    let count = 0;
    for (const open of [...this.#open]) {
      if (!isBetween(open, a, b)) continue;
      count += 1;
      this.#open.delete(open);
      const clientFirst = this.#chance.happens(0.5);
      const lateMs = (patience: number): number => (half ? patience : this.#latency());
      const clientMs = clientFirst ? this.#latency() : lateMs(CLIENT_KEEPALIVE_MS);
      const serverMs = clientFirst ? lateMs(SERVER_KEEPALIVE_MS) : this.#latency();
      this.#breakBoth(open, clientMs, serverMs);
    }
    return count;
  }

  /**
   * Opens a stream from a process to whoever runs on host `to`. `serve` is called when it arrives
   * there.
   */
  stream<Up, Down>(options: {
    readonly from: SimProcess;
    readonly to: string;
    readonly label: string;
    readonly up: Codec<Up>;
    readonly down: Codec<Down>;
    readonly window: number;
    readonly serve: (process: SimProcess, stream: SimStream<Up, Down>) => void;
  }): SimStream<Up, Down> {
    const { from, to, window } = options;
    const labels = labelsOf(options.label);
    const target = this.#hosts.get(to);
    const server = target ?? from;
    const up = this.#pipe(from, server, labels.up);
    const down = this.#pipe(server, from, labels.down);
    const stream = new SimStream<Up, Down>(
      new SimLane(options.up, window, (deliver) => this.#send(up, deliver)),
      new SimLane(options.down, window, (deliver) => this.#send(down, deliver)),
    );
    up.over = () => stream.over;
    down.over = up.over;
    if (target === undefined) {
      const blocked = this.#isBlocked(from.name, to) || this.#isBlocked(to, from.name);
      const waitMs = blocked ? CONNECT_TIMEOUT_MS : this.#latency() * 2;
      this.#time.after(waitMs, from, labels.refused, () => {
        stream.breakClient("connection refused");
      });
      return stream;
    }
    const open: Open = { stream: stream as never, client: from, server: target };
    this.#open.add(open);
    this.#send(up, () => options.serve(target, stream));
    if (this.#isBlocked(from.name, to) || this.#isBlocked(to, from.name))
      this.#watchKeepalive(open);
    return stream;
  }

  /**
   * Calls a host. Rejects with NetworkFailure when it is not there or the connection breaks, or as
   * `serve` did.
   */
  unary<T>(call: UnaryCall<T>): { readonly answer: Promise<T>; readonly cancel: () => void } {
    const { from, to } = call;
    const labels = labelsOf(call.label);
    const cancellation = new Cancellation();
    let cancel = (): void => undefined;
    const answer = new Promise<T>((resolve, reject) => {
      const fail = (delayMs: number, why: string): void => {
        this.#time.after(delayMs, from, labels.failed, () => {
          reject(withoutStack(() => new NetworkFailure(why)));
        });
      };
      const arrive = (): void => {
        const target = this.#hosts.get(to);
        if (target === undefined) {
          fail(this.#latency(), "connection refused");
          return;
        }
        this.#time.after(0, target, labels.own, () => {
          this.#serve(call, target, () => cancellation.signal, resolve, reject);
        });
      };
      this.#pass(from.name, to, labels.travels, arrive);
      if (call.mayRepeat === true) this.#repeat(call);
      cancel = () => {
        this.#pass(from.name, to, labels.cancels, () => {
          const target = this.#hosts.get(to);
          if (target === undefined) return;
          this.#time.after(0, target, "cancelled", () => cancellation.cancel());
        });
      };
    });
    return { answer, cancel };
  }

  /** The request may arrive once more, and nobody waits for its answer. */
  #repeat<T>(call: UnaryCall<T>): void {
    const { from, to, label } = call;
    const { repeatedShare = 0 } = this.#impairment(from.name, to);
    if (repeatedShare === 0 || !this.#chance.happens(repeatedShare)) return;
    this.#time.after(this.#chance.unit() * REPEAT_MS_MAX, null, `${label} again`, () => {
      this.#pass(from.name, to, labelsOf(label).travels, () => {
        const target = this.#hosts.get(to);
        if (target === undefined) return;
        this.#time.after(0, target, label, () => {
          call.serve(target, () => new AbortController().signal).catch(() => undefined);
        });
      });
    });
  }

  #serve<T>(
    call: UnaryCall<T>,
    target: SimProcess,
    signal: () => AbortSignal,
    resolve: (value: T) => void,
    reject: (error: Error) => void,
  ): void {
    const { from, to } = call;
    const { travels, answered } = labelsOf(call.label);
    const back = (settle: () => void): void => {
      if (!target.alive) return;
      this.#pass(to, from.name, travels, () => {
        this.#time.after(0, from, answered, settle);
      });
    };
    call.serve(target, signal).then(
      (value) => back(() => resolve(plainCopy(value))),
      (error: Error) => back(() => reject(error)),
    );
  }

  /** Carries one datagram of a call: delayed; when blocked, lost or late. */
  #pass(from: string, to: string, label: string, arrive: () => void): void {
    if (!this.#isBlocked(from, to)) {
      const { delayMs = 0, lostShare = 0 } = this.#impairment(from, to);
      if (lostShare > 0 && this.#chance.happens(lostShare)) return;
      this.#time.after(this.#latency() + delayMs, null, label, arrive);
      return;
    }
    if (this.#chance.happens(0.5)) return;
    // Waits in some buffer until the way is free.
    this.#late.push({ from, to, arrive });
  }

  #pipe(from: SimProcess, to: SimProcess, label: string): Pipe {
    const pipe: Pipe = { from, to, label, held: [], lastAtMs: 0, over: () => false };
    this.#pipes.add(pipe);
    return pipe;
  }

  #send(pipe: Pipe, deliver: () => void): void {
    if (!pipe.from.alive && pipe.from !== pipe.to) return;
    if (this.#isBlocked(pipe.from.name, pipe.to.name)) {
      pipe.held.push(deliver);
      return;
    }
    const { delayMs = 0, lostShare = 0 } = this.#impairment(pipe.from.name, pipe.to.name);
    const lost = lostShare > 0 && this.#chance.happens(lostShare);
    const part = lost ? this.#chance.unit() : 0;
    const againMs = lost ? RETRANSMIT_MS_MIN + part * (RETRANSMIT_MS_MAX - RETRANSMIT_MS_MIN) : 0;
    const travelMs = this.#latency() + delayMs + againMs;
    const atMs = Math.max(pipe.lastAtMs, this.#time.nowMs + travelMs);
    pipe.lastAtMs = atMs;
    this.#time.after(atMs - this.#time.nowMs, pipe.to, pipe.label, deliver);
  }

  #breakBoth(open: Open, clientMs: number, serverMs: number): void {
    this.#time.after(clientMs, open.client, "broken", () => {
      open.stream.breakClient("connection broken");
    });
    this.#time.after(serverMs, open.server, "broken", () => {
      open.stream.breakServer("connection broken");
    });
  }

  /** Each end gives up by itself when the way is still blocked after its patience. */
  #watchKeepalive(open: Open): void {
    const { client, server } = open;
    const stillBlocked = (): boolean =>
      this.#isBlocked(client.name, server.name) || this.#isBlocked(server.name, client.name);
    for (const [end, patienceMs] of [
      ["client", CLIENT_KEEPALIVE_MS],
      ["server", SERVER_KEEPALIVE_MS],
    ] as const) {
      const owner = end === "client" ? client : server;
      this.#time.after(patienceMs + this.#latency(), owner, "keepalive", () => {
        if (!stillBlocked() || !this.#open.has(open)) return;
        this.#open.delete(open);
        this.#breakBoth(open, end === "client" ? 0 : 500, end === "server" ? 0 : 2_000);
      });
    }
  }

  #isBlocked(from: string, to: string): boolean {
    return this.#blocked.size > 0 && this.#blocked.has(`${from}>${to}`);
  }

  #impairment(from: string, to: string): Impairment {
    if (this.#impaired.size === 0) return UNIMPAIRED;
    return this.#impaired.get(`${from}>${to}`) ?? UNIMPAIRED;
  }

  /** Forgets what ended, so that long runs stay small. */
  tidy(): void {
    for (const open of this.#open) if (open.stream.over) this.#open.delete(open);
    for (const pipe of this.#pipes) {
      if (!pipe.from.alive || !pipe.to.alive || pipe.over()) this.#pipes.delete(pipe);
    }
  }

  #latency(): number {
    const { latencyMsMin, latencyMsMax, slowOneIn, slowMs } = this.#speed;
    const base = latencyMsMin + this.#chance.unit() * (latencyMsMax - latencyMsMin);
    const slow = slowOneIn > 0 && this.#chance.below(slowOneIn) === 0;
    return slow ? base + this.#chance.unit() * slowMs : base;
  }
}

function isBetween(open: Open, a: string, b: string): boolean {
  const { client, server } = open;
  return (client.name === a && server.name === b) || (client.name === b && server.name === a);
}
