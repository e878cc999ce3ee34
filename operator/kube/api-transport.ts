/**
 * HTTP to the API server. Where it is, how to trust it and who we are comes from the Kubernetes
 * client (kubeconfig, service account, exec plugins, proxies); the bytes go over Node's own client.
 *
 * The client's typed calls turn times into dates, drop fields that they do not know, and have no
 * deadline; its watch hides the answer's headers, swallows what its callbacks throw, and does not
 * notice a stalled stream. One transport without these serves all kinds of object.
 */
import { Agent as HttpAgent, request as httpRequest, type IncomingMessage } from "node:http";
import { Agent as HttpsAgent, request as httpsRequest, type RequestOptions } from "node:https";
import type { KubeConfig } from "@kubernetes/client-node";
import type { Clock } from "../../sidecar/lib/ports/clock.ts";
import { ApiUnreachable, errorFromAnswer, WatchSilent } from "./api-error.ts";
import { CallSlots } from "./call-slots.ts";
import { DeadlinePassed, untilAborted, withDeadline } from "./deadline.ts";
import { KUBE_LIMITS } from "./limits.ts";

/** One request. `query` entries that are undefined are left out. */
export interface ApiRequest {
  readonly method: "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
  readonly path: string;
  readonly query?: Readonly<Record<string, string | number | boolean | undefined>>;
  readonly body?: unknown;
  /** Of the body; absent: JSON. */
  readonly contentType?: string;
  readonly signal: AbortSignal;
  /** From when it is sent; absent: the usual one. */
  readonly deadlineMs?: number;
  /** True: at once, and not after the calls that wait for their turn. */
  readonly urgent?: boolean;
}

/** Told of each answered or failed request; for the metric `rest_client_requests_total`. */
export type RequestObserver = (method: string, code: string) => void;

/** What a transport needs. */
export interface ApiTransportOptions {
  readonly config: KubeConfig;
  readonly clock: Clock;
  readonly userAgent: string;
  readonly observe?: RequestObserver;
  /** Absent: the usual one. */
  readonly connectionIdleMs?: number;
}

/** What the client's options are used for. */
type Credentials = Omit<RequestOptions, "headers"> & {
  headers: Record<string, string | number | readonly string[] | undefined>;
};

/** See the file's header. */
export class ApiTransport {
  readonly #options: ApiTransportOptions;
  readonly #server: URL;
  readonly #slots = new CallSlots(KUBE_LIMITS.callsAtOnceMax);
  /** Kept over calls for the sake of its connections, until the credentials change. */
  #agent: HttpAgent | null = null;
  #agentKey = "";

  constructor(options: ApiTransportOptions) {
    const cluster = options.config.getCurrentCluster();
    if (cluster === null) throw new Error("the kubeconfig names no cluster");
    this.#options = options;
    this.#server = new URL(cluster.server);
  }

  /**
   * The answer's JSON. Throws ApiError for a refusal, ApiUnreachable when there was no whole
   * answer, and the signal's reason when that aborts. Waits for its turn first.
   */
  async call(request: ApiRequest): Promise<unknown> {
    if (request.urgent === true) return await this.#call(request);
    return await this.#slots.run(request.signal, () => this.#call(request));
  }

  async #call(request: ApiRequest): Promise<unknown> {
    const { clock } = this.#options;
    const deadlineMs = request.deadlineMs ?? KUBE_LIMITS.callDeadlineMs;
    const what = `${request.method} ${request.path}`;
    return await this.#counted(request, () =>
      withDeadline(clock, deadlineMs, request.signal, async (signal) => {
        const answer = await this.#open(request, signal);
        const text = await readAll(answer, signal);
        const status = answer.statusCode ?? 0;
        if (status >= 400) {
          throw errorFromAnswer(status, text, answer.headers["retry-after"], what);
        }
        return { status, value: parseJson(text, what) };
      }),
    );
  }

  /**
   * Follows a watch: each line's JSON. Ends when the server ends it. Throws as {@link call} does,
   * and WatchSilent when nothing comes for `idleMs`.
   */
  async *watch(request: ApiRequest, idleMs: number): AsyncGenerator<unknown, void, undefined> {
    const { clock } = this.#options;
    const what = `${request.method} ${request.path}`;
    const stream = new AbortController();
    const end = (): void => stream.abort(request.signal.reason);
    request.signal.addEventListener("abort", end, { once: true });
    const idle = (): void => {
      stream.abort(new WatchSilent(`${what}: nothing came for ${idleMs} ms`));
    };
    let timer = clock.timer(idleMs, idle);
    try {
      const answer = await this.#openWatch(request, stream.signal, what);
      for await (const line of lines(answer, stream.signal, () => {
        timer.cancel();
        timer = clock.timer(idleMs, idle);
      })) {
        yield parseJson(line, what);
      }
    } catch (error) {
      throw unreachable(error, request.signal, what);
    } finally {
      timer.cancel();
      request.signal.removeEventListener("abort", end);
      stream.abort(new Error("the watch is no longer read"));
    }
  }

  /** Ends idle connections. Calls that are under way are ended by their signals. */
  close(): void {
    this.#agent?.destroy();
    this.#agent = null;
    this.#agentKey = "";
  }

  async #openWatch(
    request: ApiRequest,
    stream: AbortSignal,
    what: string,
  ): Promise<IncomingMessage> {
    const deadlineMs = request.deadlineMs ?? KUBE_LIMITS.watchOpenDeadlineMs;
    const opened = await this.#counted(request, () =>
      withDeadline(this.#options.clock, deadlineMs, stream, async (signal) => {
        const answer = await this.#open(request, signal);
        const status = answer.statusCode ?? 0;
        if (status < 400) return { status, value: answer };
        const text = await readAll(answer, signal);
        throw errorFromAnswer(status, text, answer.headers["retry-after"], what);
      }),
    );
    return opened as IncomingMessage;
  }

  async #counted(
    request: ApiRequest,
    work: () => Promise<{ readonly status: number; readonly value: unknown }>,
  ): Promise<unknown> {
    const { observe } = this.#options;
    try {
      const { status, value } = await work();
      observe?.(request.method, String(status));
      return value;
    } catch (error) {
      const failure = unreachable(error, request.signal, `${request.method} ${request.path}`);
      const answered = "status" in failure && typeof failure.status === "number";
      observe?.(request.method, answered ? String(failure.status) : "<error>");
      throw failure;
    }
  }

  /** Sends the request; resolves at the answer's headers. */
  async #open(request: ApiRequest, signal: AbortSignal): Promise<IncomingMessage> {
    const credentials = await untilAborted(this.#credentials(), signal);
    const url = this.#url(request);
    const body = request.body === undefined ? undefined : JSON.stringify(request.body);
    const secure = url.protocol === "https:";
    const send = secure ? httpsRequest : httpRequest;
    return await new Promise((resolve, reject) => {
      const sent = send(url, {
        method: request.method,
        agent: this.#agentFor(credentials, secure),
        ...(credentials.auth === undefined ? {} : { auth: credentials.auth }),
        headers: {
          ...credentials.headers,
          accept: "application/json",
          "user-agent": this.#options.userAgent,
          ...(body === undefined
            ? {}
            : {
                "content-type": request.contentType ?? "application/json",
                "content-length": Buffer.byteLength(body),
              }),
        },
      });
      const abort = (): void => {
        sent.destroy(signal.reason as Error);
      };
      signal.addEventListener("abort", abort, { once: true });
      sent.once("error", reject);
      sent.once("close", () => signal.removeEventListener("abort", abort));
      sent.once("response", resolve);
      sent.end(body);
      if (signal.aborted) abort();
    });
  }

  #url({ path, query }: ApiRequest): URL {
    const url = new URL(this.#server);
    url.pathname = url.pathname.replace(/\/$/u, "") + path;
    for (const [key, value] of Object.entries(query ?? {})) {
      if (value !== undefined) url.searchParams.set(key, String(value));
    }
    return url;
  }

  /** Asked for each call: tokens are replaced while a process runs. */
  async #credentials(): Promise<Credentials> {
    const options = { headers: {} };
    await this.#options.config.applyToHTTPSOptions(options);
    return options;
  }

  #agentFor(credentials: Credentials, secure: boolean): HttpAgent {
    // Behind a proxy the client's own agent knows the way.
    const proxied = this.#options.config.getCurrentCluster()?.proxyUrl !== undefined;
    if (proxied && credentials.agent instanceof HttpAgent) return credentials.agent;
    const { ca, cert, key, passphrase, servername, rejectUnauthorized } = credentials;
    const trust = Object.fromEntries(
      Object.entries({ ca, cert, key, passphrase, servername, rejectUnauthorized }).filter(
        ([, value]) => value !== undefined,
      ),
    );
    const agentKey = JSON.stringify(trust);
    if (this.#agent !== null && agentKey === this.#agentKey) return this.#agent;
    // The former one's connections end with what they are used for.
    const timeout = this.#options.connectionIdleMs ?? KUBE_LIMITS.connectionIdleMs;
    // Of an agent's connections it ends those that are not in use: not a watch's.
    const options = { keepAlive: true, timeout };
    this.#agent = secure ? new HttpsAgent({ ...options, ...trust }) : new HttpAgent(options);
    this.#agentKey = agentKey;
    return this.#agent;
  }
}

function parseJson(text: string, what: string): unknown {
  if (text === "") return null;
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new ApiUnreachable(`${what}: the answer is cut off or no JSON`, false, error);
  }
}

/** Errors of the connection as ApiUnreachable, those of the caller's signal as its reason. */
function unreachable(error: unknown, signal: AbortSignal, what: string): Error {
  if (signal.aborted) return signal.reason instanceof Error ? signal.reason : new Error(what);
  if (error instanceof DeadlinePassed) {
    return new ApiUnreachable(`${what}: ${error.message}`, true, error);
  }
  const own =
    error instanceof Error && (error.name === "ApiError" || error.name === "ApiUnreachable");
  if (own) return error;
  const why = error instanceof Error ? error.message : String(error);
  return new ApiUnreachable(`${what}: ${why}`, false, error);
}

async function readAll(answer: IncomingMessage, signal: AbortSignal): Promise<string> {
  const parts: Buffer[] = [];
  let bytes = 0;
  for await (const part of bytesOf(answer, signal)) {
    bytes += part.length;
    if (bytes > KUBE_LIMITS.answerBytesMax) {
      throw new Error(`the answer is larger than ${KUBE_LIMITS.answerBytesMax} bytes`);
    }
    parts.push(part);
  }
  return Buffer.concat(parts).toString("utf8");
}

async function* lines(
  answer: IncomingMessage,
  signal: AbortSignal,
  heard: () => void,
): AsyncGenerator<string, void, undefined> {
  let rest: Buffer = Buffer.alloc(0);
  for await (const part of bytesOf(answer, signal)) {
    heard();
    rest = rest.length === 0 ? part : Buffer.concat([rest, part]);
    for (let end = rest.indexOf(0x0a); end !== -1; end = rest.indexOf(0x0a)) {
      const line = rest.subarray(0, end).toString("utf8").trim();
      rest = rest.subarray(end + 1);
      if (line !== "") yield line;
    }
    if (rest.length > KUBE_LIMITS.watchLineBytesMax) {
      throw new Error(`one event is larger than ${KUBE_LIMITS.watchLineBytesMax} bytes`);
    }
  }
}

/** The answer's bytes; the connection ends with the signal, and when nobody reads on. */
async function* bytesOf(
  answer: IncomingMessage,
  signal: AbortSignal,
): AsyncGenerator<Buffer, void, undefined> {
  const abort = (): void => {
    answer.destroy(signal.reason as Error);
  };
  if (signal.aborted) abort();
  signal.addEventListener("abort", abort, { once: true });
  try {
    for await (const part of answer) yield part as Buffer;
    if (!answer.complete) throw new Error("the connection broke in mid answer");
  } finally {
    signal.removeEventListener("abort", abort);
  }
}
