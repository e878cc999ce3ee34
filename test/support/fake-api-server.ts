/**
 * An API server over real HTTP, with as much of the real one's behaviour as the adapter relies on:
 * versions, compare-and-swap, preconditions, subresources, pages, watches with bookmarks and
 * expiry. And with faults: it refuses, drops, stalls, forgets, and tells things out of order.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { KubeConfig } from "@kubernetes/client-node";
import { type Fault, misbehave, Refusal, reply } from "./fake-answers.ts";
import { evictionRefusal } from "./fake-budget.ts";
import { merge } from "./fake-merge.ts";

/** Plain JSON with a name. */
export interface Stored {
  apiVersion?: string;
  kind?: string;
  metadata: {
    name: string;
    namespace: string;
    uid: string;
    resourceVersion: string;
    generation: number;
    labels?: Record<string, string>;
    finalizers?: string[];
    deletionTimestamp?: string;
    [key: string]: unknown;
  };
  [key: string]: unknown;
}

/** A request as faults and tests see it. */
export interface Seen {
  readonly method: string;
  /** Without the query. */
  readonly path: string;
  readonly query: URLSearchParams;
  readonly contentType: string;
  /** The token that it came with. */
  readonly token: string;
  readonly body: unknown;
}

interface Place {
  readonly collection: string;
  readonly namespace: string | null;
  readonly name: string | null;
  readonly subresource: string | null;
}

interface HistoryEvent {
  readonly version: number;
  readonly type: string;
  readonly collection: string;
  readonly object: Stored;
}

interface OpenWatch {
  readonly place: Place;
  readonly query: URLSearchParams;
  readonly response: ServerResponse;
}

/** Kinds whose statuses only the operator writes. */
const OURS = "/apis/resilver.io/";

export class FakeApiServer {
  readonly requests: Seen[] = [];
  /** Asked for each request; undefined: none. */
  fault: (request: Seen) => Fault | undefined = () => undefined;
  /** Asked for each eviction that no stored disruption budget forbids; false: one does. */
  allowEviction: (pod: string) => boolean = () => true;
  /** Told of each object that is deleted for good, and how what it owns is to be treated. */
  deleted: (object: Stored, propagation: string) => void = () => undefined;
  /** Events go to nobody while true: a connection that has silently died. */
  muted = false;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  readonly #objects = new Map<string, Stored>();
  readonly #history: HistoryEvent[] = [];
  readonly #watches = new Set<OpenWatch>();
  readonly #pages = new Map<string, readonly Stored[]>();
  readonly #listeners = new Set<() => void>();
  #version = 100;
  #compacted = 0;
  #number = 0;

  private constructor() {
    this.#server = createServer((request, response) => {
      this.#answer(request, response).catch((error: unknown) => {
        response.destroy(error instanceof Error ? error : new Error(String(error)));
      });
    });
    this.#server.on("connection", (socket) => {
      this.#sockets.add(socket);
      socket.once("close", () => {
        this.#sockets.delete(socket);
        this.nudge();
      });
    });
  }

  static async start(): Promise<FakeApiServer> {
    const fake = new FakeApiServer();
    await new Promise<void>((resolve) => fake.#server.listen(0, "127.0.0.1", resolve));
    return fake;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** Connections that are open. */
  get connections(): number {
    return this.#sockets.size;
  }

  /** A kubeconfig for this server. */
  config(token = "secret"): KubeConfig {
    const config = new KubeConfig();
    // The client refuses http: without this.
    const cluster = { name: "fake", server: this.url, skipTLSVerify: true };
    config.loadFromClusterAndUser(cluster, { name: "tester", token });
    return config;
  }

  get watches(): number {
    return this.#watches.size;
  }

  /** Resolves when `probe` answers; asked after each request and change of a watch. */
  async until<T>(what: string, probe: () => T | null | undefined | false, deadlineMs = 10_000) {
    return await new Promise<T>((resolve, reject) => {
      const check = (): void => {
        const value = probe();
        if (value === null || value === undefined || value === false) return;
        clearTimeout(timer);
        this.#listeners.delete(check);
        resolve(value);
      };
      const timer = setTimeout(() => {
        this.#listeners.delete(check);
        reject(new Error(`not within ${deadlineMs} ms: ${what}`));
      }, deadlineMs);
      this.#listeners.add(check);
      check();
    });
  }

  /** Calls `changed` after each request and change. Returns the unsubscriber. */
  onChange(changed: () => void): () => void {
    this.#listeners.add(changed);
    return () => this.#listeners.delete(changed);
  }

  /** Has `until` look again: something that it watches has changed elsewhere. */
  nudge(): void {
    for (const listener of [...this.#listeners]) listener();
  }

  /** Stores an object as a client would, watches included. Path as in a URL. */
  put(path: string, object: Record<string, unknown>): Stored {
    const place = placeOf(path);
    return this.#store(place, object as unknown as Stored, "put");
  }

  get(path: string): Stored | undefined {
    return this.#objects.get(keyOf(placeOf(path)));
  }

  /** All objects whose path begins so. */
  list(prefix: string): readonly Stored[] {
    const place = placeOf(prefix);
    return this.#matching(place, null);
  }

  remove(path: string): void {
    const place = placeOf(path);
    const object = this.#objects.get(keyOf(place));
    if (object !== undefined) this.#remove(place, object);
  }

  /** Versions up to now can no longer be watched from. */
  compact(): void {
    this.#compacted = this.#version;
  }

  /** Ends all watches, in order or by breaking their connections. */
  endWatches(how: "end" | "break"): void {
    for (const { response } of [...this.#watches]) {
      if (how === "end") response.end();
      else response.destroy();
    }
  }

  /** Sends something to all watches of a collection, whatever is stored. */
  tell(path: string, event: unknown): void {
    const { collection } = placeOf(path);
    for (const watch of this.#watches) {
      if (watch.place.collection !== collection) continue;
      const text = typeof event === "string" ? event : JSON.stringify(event);
      watch.response.write(`${text}\n`);
    }
  }

  bookmark(path: string): void {
    const metadata = { resourceVersion: String(this.#version), name: "" };
    this.tell(path, { type: "BOOKMARK", object: { metadata } });
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise<void>((resolve) => {
      this.#server.close(() => resolve());
    });
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? "/", this.url);
    const parts: Buffer[] = [];
    for await (const part of request) parts.push(part as Buffer);
    const text = Buffer.concat(parts).toString("utf8");
    const seen: Seen = {
      method: request.method ?? "",
      path: url.pathname,
      query: url.searchParams,
      contentType: request.headers["content-type"] ?? "",
      token: request.headers.authorization?.replace("Bearer ", "") ?? "",
      body: text === "" ? undefined : JSON.parse(text),
    };
    this.requests.push(seen);
    const fault = this.fault(seen);
    if (fault?.kind === "late") {
      // A busy server: this is what takes long, not a wait for something.
      await new Promise((resolve) => setTimeout(resolve, fault.afterMs));
      this.#carryOut(seen, response, undefined);
    } else if (fault === undefined || fault.kind === "afterwards") {
      this.#carryOut(seen, response, fault);
    } else {
      misbehave(fault, response);
    }
    this.nudge();
  }

  #carryOut(seen: Seen, response: ServerResponse, fault: Fault | undefined): void {
    try {
      const place = placeOf(seen.path);
      if (seen.method === "GET" && seen.query.get("watch") === "true") {
        this.#watch(place, seen.query, response);
        return;
      }
      const value = this.#handle(place, seen);
      if (fault !== undefined) response.destroy();
      else reply(response, seen.method === "POST" ? 201 : 200, value);
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      reply(response, error.status, error.answer);
    }
  }

  #handle(place: Place, { method, query, body, contentType }: Seen): unknown {
    const { name } = place;
    if (method === "GET") return name === null ? this.#page(place, query) : this.#find(place);
    if (method === "POST" && place.subresource === "eviction") return this.#evict(place, body);
    const object = body as Stored;
    switch (method) {
      case "POST":
        return this.#create({ ...place, name: object.metadata.name }, object);
      case "PUT":
        return this.#replace(place, object);
      case "PATCH":
        return this.#patch(place, object, contentType);
      case "DELETE":
        return this.#delete(place, body);
      default:
        throw new Refusal(405, "MethodNotAllowed", method);
    }
  }

  #find(place: Place): Stored {
    const object = this.#objects.get(keyOf(place));
    if (object !== undefined) return object;
    throw new Refusal(404, "NotFound", `${place.collection} "${place.name}" not found`);
  }

  #create(place: Place, object: Stored): Stored {
    if (this.#objects.has(keyOf(place))) {
      throw new Refusal(409, "AlreadyExists", `"${place.name}" already exists`);
    }
    return this.#store(place, object, "put");
  }

  #replace(place: Place, object: Stored): Stored {
    const known = this.#find(place);
    refuseOther(object, known);
    return this.#store(place, object, place.subresource === "status" ? "status" : "spec");
  }

  #patch(place: Place, patch: Stored, contentType: string): Stored {
    const known = this.#objects.get(keyOf(place));
    if (known === undefined) {
      if (!contentType.startsWith("application/apply-patch") || place.subresource !== null) {
        throw new Refusal(404, "NotFound", `"${place.name}" not found`);
      }
      return this.#store(place, patch, "put");
    }
    refuseOther(patch, known);
    const merged = merge(known, patch) as Stored;
    // A field that was applied before and is not now is removed; of ours all is applied at once.
    const whole =
      contentType.startsWith("application/apply-patch") && place.collection.startsWith(OURS);
    if (whole && place.subresource === "status") merged["status"] = patch["status"];
    return this.#store(place, merged, place.subresource === "status" ? "status" : "spec");
  }

  #delete(place: Place, body: unknown): Stored {
    const known = this.#find(place);
    const { preconditions, propagationPolicy = "Background" } = (body ?? {}) as {
      preconditions?: Record<string, string>;
      propagationPolicy?: string;
    };
    for (const field of ["uid", "resourceVersion"] as const) {
      const wanted = preconditions?.[field];
      if (wanted !== undefined && wanted !== known.metadata[field]) {
        throw new Refusal(409, "Conflict", `${field} is another`);
      }
    }
    if ((known.metadata.finalizers ?? []).length > 0) {
      const metadata = { ...known.metadata, deletionTimestamp: "2026-01-01T00:00:00Z" };
      return this.#store(place, { ...known, metadata }, "spec");
    }
    this.#remove(place, known);
    this.deleted(known, propagationPolicy);
    return known;
  }

  #evict(place: Place, body: unknown): unknown {
    const pod = { ...place, subresource: null };
    const known = this.#find(pod);
    const { deleteOptions } = body as { deleteOptions?: { preconditions?: { uid?: string } } };
    const uid = deleteOptions?.preconditions?.uid;
    if (uid !== undefined && uid !== known.metadata.uid) {
      throw new Refusal(409, "Conflict", "another pod by now");
    }
    const refusal = evictionRefusal(known, {
      budgets: this.#inNamespace("/apis/policy/v1/poddisruptionbudgets", place),
      pods: this.#inNamespace("/api/v1/pods", place),
      statefulSets: this.#inNamespace("/apis/apps/v1/statefulsets", place),
    });
    if (refusal !== null) {
      throw refusal.status === 429
        ? Refusal.byBudget(refusal.message)
        : new Refusal(refusal.status, "InternalError", refusal.message);
    }
    if (!this.allowEviction(place.name ?? "")) {
      throw Refusal.byBudget("the disruption budget forbids it");
    }
    this.#remove(pod, known);
    return { kind: "Status", status: "Success" };
  }

  #inNamespace(collection: string, { namespace }: Place): readonly Stored[] {
    return this.#matching({ collection, namespace, name: null, subresource: null }, null);
  }

  #page(place: Place, query: URLSearchParams): unknown {
    const limit = Number(query.get("limit") ?? 0);
    const token = query.get("continue");
    if (token !== null && !this.#pages.has(token)) {
      throw new Refusal(410, "Expired", "the continue token is too old");
    }
    const all = this.#pages.get(token ?? "") ?? this.#matching(place, query);
    const items = limit > 0 ? all.slice(0, limit) : all;
    const rest = all.slice(items.length);
    const next = rest.length > 0 ? `page-${(this.#number += 1)}` : "";
    if (next !== "") this.#pages.set(next, rest);
    const metadata = { resourceVersion: String(this.#version), continue: next };
    return { kind: "List", metadata, items };
  }

  /** Continue tokens of earlier lists expire. */
  forgetPages(): void {
    this.#pages.clear();
  }

  #matching(place: Place, query: URLSearchParams | null): readonly Stored[] {
    return [...this.#objects]
      .filter(([key]) => key.startsWith(`${place.collection} `))
      .toSorted(([a], [b]) => (a < b ? -1 : 1))
      .map(([, object]) => object)
      .filter((object) => inScope(object, place, query));
  }

  #store(place: Place, object: Stored, part: "put" | "spec" | "status"): Stored {
    const known = this.#objects.get(keyOf(place));
    this.#version += 1;
    const { metadata } = object;
    const base = part === "status" && known !== undefined ? known : object;
    const status = part === "status" ? object["status"] : (known?.["status"] ?? object["status"]);
    const changed = JSON.stringify(base["spec"]) !== JSON.stringify(known?.["spec"]);
    const stored: Stored = structuredClone({
      ...base,
      ...(part === "put" ? {} : { status }),
      metadata: {
        ...(part === "status" && known !== undefined ? known.metadata : metadata),
        name: place.name ?? "",
        namespace: place.namespace ?? "",
        uid: known?.metadata.uid ?? `uid-${(this.#number += 1)}`,
        resourceVersion: String(this.#version),
        generation: (known?.metadata.generation ?? 0) + (changed ? 1 : 0),
        managedFields: [{ manager: "fake" }],
      },
    });
    this.#objects.set(keyOf(place), stored);
    this.#publish(known === undefined ? "ADDED" : "MODIFIED", place.collection, stored);
    return stored;
  }

  #remove(place: Place, object: Stored): void {
    this.#objects.delete(keyOf(place));
    this.#version += 1;
    const metadata = { ...object.metadata, resourceVersion: String(this.#version) };
    this.#publish("DELETED", place.collection, { ...object, metadata });
  }

  #publish(type: string, collection: string, object: Stored): void {
    const event = { version: this.#version, type, collection, object };
    this.#history.push(event);
    if (this.muted) return;
    for (const watch of this.#watches) sendTo(watch, event);
    this.nudge();
  }

  #watch(place: Place, query: URLSearchParams, response: ServerResponse): void {
    const from = Number(query.get("resourceVersion") ?? 0);
    const watch: OpenWatch = { place, query, response };
    response.writeHead(200, { "content-type": "application/json" });
    response.flushHeaders();
    if (from < this.#compacted) {
      const object = { kind: "Status", code: 410, reason: "Expired", message: "too old" };
      response.end(`${JSON.stringify({ type: "ERROR", object })}\n`);
      return;
    }
    this.#watches.add(watch);
    response.once("close", () => {
      this.#watches.delete(watch);
      this.nudge();
    });
    for (const event of this.#history) if (event.version > from) sendTo(watch, event);
  }
}

/** Whoever names a version or a uid means exactly that. */
function refuseOther({ metadata }: Partial<Stored>, known: Stored): void {
  for (const field of ["resourceVersion", "uid"] as const) {
    const wanted = metadata?.[field];
    if (wanted !== undefined && wanted !== known.metadata[field]) {
      throw new Refusal(409, "Conflict", `the object has been modified: ${field} is another`);
    }
  }
}

function sendTo(watch: OpenWatch, event: HistoryEvent): void {
  if (watch.place.collection !== event.collection) return;
  if (!inScope(event.object, watch.place, watch.query)) return;
  const { type, object } = event;
  watch.response.write(`${JSON.stringify({ type, object })}\n`);
}

function inScope(object: Stored, place: Place, query: URLSearchParams | null): boolean {
  if (place.namespace !== null && object.metadata.namespace !== place.namespace) return false;
  const selector = query?.get("labelSelector") ?? "";
  return selector
    .split(",")
    .filter(Boolean)
    .every((term) => {
      const [key = "", value] = term.split("=");
      const has = object.metadata.labels?.[key];
      return value === undefined ? has !== undefined : has === value;
    });
}

function placeOf(path: string): Place {
  const match =
    /^(\/api\/v1|\/apis\/[^/]+\/[^/]+)(?:\/namespaces\/([^/]+))?\/([^/]+)(?:\/([^/]+))?(?:\/([^/]+))?$/u.exec(
      path,
    );
  if (match === null) throw new Refusal(404, "NotFound", `no such path: ${path}`);
  const [, root = "", namespace, plural = "", name, subresource] = match;
  return {
    collection: `${root}/${plural}`,
    namespace: namespace ?? null,
    name: name ?? null,
    subresource: subresource ?? null,
  };
}

function keyOf({ collection, namespace, name }: Place): string {
  return `${collection} ${namespace ?? ""}/${name ?? ""}`;
}
