import type { CheckContext, Checker } from "./checker.ts";

/**
 * I5: what was acknowledged is durable. A replica that comes back, after losing whatever it had not
 * synced, still holds everything it had acknowledged; and a write is answered only when it is
 * committed (whose quorum is I11's business).
 */
export function honestAck(context: CheckContext): Checker {
  return {
    invariant: "I5",
    boot({ node, status }) {
      const missing = context.claims.missing(status);
      if (missing !== null) context.violate("I5", `${node} ${missing}`);
    },
    answered({ kind, node, key, value }) {
      if (kind !== "write" || value === null) return;
      if (context.model.putOf(value) !== null) return;
      context.violate("I5", `${node} acknowledged ${key}=${value}, which no committed entry holds`);
    },
  };
}
