/**
 * Brings a store's objects about as far as that goes. What does not is told, and keeps nothing else
 * from going on: a store whose manifests are refused has to be coordinated all the same.
 */
import type { StatusTrouble } from "../controller/store-status.ts";
import type { ApiClient } from "./api-client.ts";
import { ApiError, ApiUnreachable, isStatus } from "./api-error.ts";
import { applyOwned } from "./applied-objects.ts";
import { PersonNeeded } from "./person-needed.ts";
import { growClaims, remakeStatefulSet } from "./storage-growth.ts";
import type { StoreCaches } from "./store-caches.ts";
import type { StoreSight } from "./store-view.ts";

/** What came of one look. */
export interface ObjectsReport {
  /** What could not be done; null: everything was. */
  readonly trouble: StatusTrouble | null;
  /** The StatefulSet was deleted without its pods; the next look makes it again. */
  readonly remade: boolean;
}

/** Applies what differs, and has volumes grow. */
export async function bringAbout(
  parts: {
    readonly client: ApiClient;
    readonly caches: Pick<StoreCaches, "get" | "ofStore">;
    readonly sight: StoreSight;
    readonly image: string;
    readonly replicas: number;
  },
  signal: AbortSignal,
): Promise<ObjectsReport> {
  const { client, caches, sight, image, replicas } = parts;
  const { store, storeId } = sight;
  const input = { store, storeId, image, replicas };
  let remade = false;
  const applied = await troubleIn(async () => {
    const immutable = await applyOwned(client, input, caches.get.bind(caches), signal);
    if (immutable.length === 0) return null;
    await remakeStatefulSet(client, caches, sight, immutable, signal);
    remade = true;
    return null;
  });
  const grown = await troubleIn(() => growClaims(client, caches, sight, signal));
  return { trouble: applied ?? grown, remade };
}

/** Answers that the same object will get again; others may pass by themselves. */
const REJECTED: ReadonlySet<number> = new Set([400, 403, 404, 422]);

/** What keeps `step` from its end, as it says or throws. */
async function troubleIn(step: () => Promise<PersonNeeded | null>): Promise<StatusTrouble | null> {
  try {
    return told(await step());
  } catch (error) {
    const trouble = error instanceof PersonNeeded ? told(error) : apiTrouble(error);
    if (trouble === null) throw error;
    return trouble;
  }
}

/**
 * What the API server, or a webhook that it asks, does not do; null: it is something else, or
 * somebody else was quicker, which the next look makes good.
 */
export function apiTrouble(error: unknown): StatusTrouble | null {
  if (isStatus(error, 409)) return null;
  if (error instanceof ApiError) {
    const reason = REJECTED.has(error.status) ? "ApplyRejected" : "ApplyFailed";
    return { reason, message: error.message };
  }
  if (error instanceof ApiUnreachable) return { reason: "ApplyFailed", message: error.message };
  return null;
}

function told(error: PersonNeeded | null): StatusTrouble | null {
  return error === null ? null : { reason: error.reason, message: error.message };
}
