/** Calls to the API server, for objects of any kind, as plain JSON. */
import { ApiUnreachable, isStatus } from "./api-error.ts";
import type { ApiTransport } from "./api-transport.ts";
import { KUBE_LIMITS } from "./limits.ts";
import { type KubeObject, type ResourceKind, resourcePath } from "./resources.ts";

/** Which objects of a kind. */
export interface Scope {
  /** Null: all namespaces. */
  readonly namespace: string | null;
  readonly labelSelector?: string;
}

/** What is applied: the fields we own of one object. With a uid it must still be that one. */
export interface Applied {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: {
    readonly name: string;
    readonly namespace: string;
    readonly uid?: string | undefined;
  };
  readonly [field: string]: unknown;
}

/** A bound for one call. */
export interface Call {
  readonly signal: AbortSignal;
  readonly deadlineMs?: number;
  /** True: not after the calls that wait for their turn. */
  readonly urgent?: boolean;
}

/** What an object must still be for it to be deleted. */
export interface DeleteOptions {
  readonly uid?: string;
  readonly resourceVersion?: string;
  /** What becomes of what it owns; absent: deleted later. */
  readonly propagation?: "Background" | "Foreground" | "Orphan";
}

/** A list and the state it was taken of. */
export interface Listing {
  readonly items: readonly KubeObject[];
  readonly resourceVersion: string;
}

/** One event of a watch. */
export interface WatchEvent {
  readonly type: string;
  readonly object: unknown;
}

/** Throws what ApiTransport throws. */
export class ApiClient {
  readonly #transport: ApiTransport;
  /** Whose fields are whose: the operator's own are told apart by this name. */
  readonly #fieldManager: string;

  constructor(transport: ApiTransport, fieldManager: string) {
    this.#transport = transport;
    this.#fieldManager = fieldManager;
  }

  /** The object as it is stored now, uncached; null when there is none. */
  async get(
    kind: ResourceKind,
    namespace: string | null,
    name: string,
    call: Call,
  ): Promise<KubeObject | null> {
    try {
      const path = resourcePath(kind, namespace, name);
      return objectOf(await this.#transport.call({ method: "GET", path, ...call }), path);
    } catch (error) {
      if (isStatus(error, 404)) return null;
      throw error;
    }
  }

  /** All objects in scope, uncached, page by page. */
  async list(kind: ResourceKind, scope: Scope, call: Call): Promise<Listing> {
    const path = resourcePath(kind, scope.namespace);
    const items: KubeObject[] = [];
    let next: string | undefined;
    for (;;) {
      const query = {
        labelSelector: scope.labelSelector,
        limit: KUBE_LIMITS.listPageObjects,
        continue: next,
      };
      const page = pageOf(
        await this.#transport.call({ method: "GET", path, query, ...call }),
        path,
      );
      items.push(...page.items);
      if (page.next === "") return { items, resourceVersion: page.resourceVersion };
      next = page.next;
    }
  }

  /** What happens from a resource version on, bookmarks included. */
  async *watch(
    kind: ResourceKind,
    scope: Scope,
    from: { readonly resourceVersion: string; readonly timeoutSeconds: number },
    signal: AbortSignal,
    idleMs: number,
  ): AsyncGenerator<WatchEvent, void, undefined> {
    const path = resourcePath(kind, scope.namespace);
    const { labelSelector } = scope;
    const query = { watch: true, allowWatchBookmarks: true, labelSelector, ...from };
    for await (const event of this.#transport.watch(
      { method: "GET", path, query, signal },
      idleMs,
    )) {
      if (typeof event !== "object" || event === null || !("type" in event)) {
        throw new ApiUnreachable(`watch ${path}: an event without a type`, false);
      }
      yield { type: String(event.type), object: Reflect.get(event, "object") };
    }
  }

  /** Throws ApiError with reason AlreadyExists. */
  async create(kind: ResourceKind, object: KubeObject, call: Call): Promise<KubeObject> {
    const path = resourcePath(kind, object.metadata.namespace);
    const query = { fieldManager: this.#fieldManager };
    const body = { apiVersion: kind.apiVersion, kind: kind.kind, ...object };
    return objectOf(
      await this.#transport.call({ method: "POST", path, query, body, ...call }),
      path,
    );
  }

  /**
   * Replaces the whole object. With a resourceVersion it is a compare-and-swap: throws ApiError
   * with reason Conflict.
   */
  async replace(kind: ResourceKind, object: KubeObject, call: Call): Promise<KubeObject> {
    const { namespace, name } = object.metadata;
    const path = resourcePath(kind, namespace, name);
    const query = { fieldManager: this.#fieldManager };
    const body = { apiVersion: kind.apiVersion, kind: kind.kind, ...object };
    return objectOf(
      await this.#transport.call({ method: "PUT", path, query, body, ...call }),
      path,
    );
  }

  /**
   * Server-side apply of the fields we own, taken over from whoever had them. A field that was in
   * the last apply and is not in this one is removed.
   */
  async apply(
    kind: ResourceKind,
    manifest: Applied,
    call: Call,
    subresource?: "status",
  ): Promise<KubeObject> {
    const { namespace, name } = manifest.metadata;
    const path = resourcePath(kind, namespace, name, subresource);
    // The client's typed calls send a patch as JSON Patch unless told otherwise; a body is ours.
    const contentType = "application/apply-patch+yaml";
    const query = { fieldManager: this.#fieldManager, force: true };
    const request = { method: "PATCH", path, query, contentType, body: manifest, ...call } as const;
    return objectOf(await this.#transport.call(request), path);
  }

  /** Merges `patch` into the object, or into its status. */
  async merge(
    kind: ResourceKind,
    at: { readonly namespace: string; readonly name: string; readonly subresource?: "status" },
    patch: object,
    call: Call,
  ): Promise<KubeObject> {
    const path = resourcePath(kind, at.namespace, at.name, at.subresource);
    const contentType = "application/merge-patch+json";
    const query = { fieldManager: this.#fieldManager };
    const request = { method: "PATCH", path, query, contentType, body: patch, ...call } as const;
    return objectOf(await this.#transport.call(request), path);
  }

  /**
   * Deletes the object; true when it was there. Throws ApiError with reason Conflict when it is
   * another one by now.
   */
  async delete(
    kind: ResourceKind,
    namespace: string,
    name: string,
    options: DeleteOptions,
    call: Call,
  ): Promise<boolean> {
    const { uid, resourceVersion, propagation = "Background" } = options;
    const body = {
      apiVersion: "v1",
      kind: "DeleteOptions",
      propagationPolicy: propagation,
      preconditions: { uid, resourceVersion },
    };
    try {
      const path = resourcePath(kind, namespace, name);
      await this.#transport.call({ method: "DELETE", path, body, ...call });
      return true;
    } catch (error) {
      if (isStatus(error, 404)) return false;
      throw error;
    }
  }

  /**
   * Asks for a pod to be deleted as a drain would: `refused` while a disruption budget forbids it,
   * and by nothing else, `gone` when there is no such pod any more.
   */
  async evict(
    pod: { readonly namespace: string; readonly name: string; readonly uid: string },
    call: Call,
  ): Promise<"evicted" | "refused" | "gone"> {
    const { namespace, name, uid } = pod;
    const body = {
      apiVersion: "policy/v1",
      kind: "Eviction",
      metadata: { name, namespace },
      deleteOptions: { preconditions: { uid } },
    };
    const path = `/api/v1/namespaces/${encodeURIComponent(namespace)}/pods/${encodeURIComponent(name)}/eviction`;
    try {
      await this.#transport.call({ method: "POST", path, body, ...call });
      return "evicted";
    } catch (error) {
      if (isStatus(error, 404) || isStatus(error, 409)) return "gone";
      // A server that is full answers 429 as well, and has asked no budget.
      if (isStatus(error, 429) && error.causes.includes("DisruptionBudget")) return "refused";
      throw error;
    }
  }
}

function pageOf(value: unknown, path: string) {
  const at = (object: unknown, key: string): unknown =>
    typeof object === "object" && object !== null ? Reflect.get(object, key) : undefined;
  const items = at(value, "items");
  const resourceVersion = at(at(value, "metadata"), "resourceVersion");
  const next = at(at(value, "metadata"), "continue");
  if (!Array.isArray(items) || typeof resourceVersion !== "string") {
    throw new ApiUnreachable(`${path}: the answer is no list`, false);
  }
  return {
    items: items.map((item) => objectOf(item, path)),
    resourceVersion,
    next: typeof next === "string" ? next : "",
  };
}

/** Checks the frame that everything else relies on. Throws ApiUnreachable. */
export function objectOf(value: unknown, what: string): KubeObject {
  if (typeof value === "object" && value !== null && "metadata" in value) {
    const { metadata } = value;
    const name: unknown =
      typeof metadata === "object" && metadata !== null ? Reflect.get(metadata, "name") : undefined;
    if (typeof name === "string") return value as KubeObject;
  }
  throw new ApiUnreachable(`${what}: the answer is no object with a name`, false);
}
