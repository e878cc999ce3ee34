import type { ServerResponse } from "node:http";

/**
 * What to do instead of an answer. `afterwards`: carry it out, then lose the answer. `late`: carry
 * it out after so long.
 */
export type Fault =
  | { readonly kind: "status"; readonly status: number; readonly headers?: Record<string, string> }
  | { readonly kind: "body"; readonly text: string }
  | { readonly kind: "value"; readonly status: number; readonly value: unknown }
  | { readonly kind: "late"; readonly afterMs: number }
  | { readonly kind: "drop" | "stall" | "afterwards" };

/** What the API server will not do. */
export class Refusal extends Error {
  readonly status: number;
  readonly reason: string;
  readonly #details: object | undefined;
  constructor(status: number, reason: string, message: string, details?: object) {
    super(message);
    this.status = status;
    this.reason = reason;
    this.#details = details;
  }

  /** As createTooManyRequestsError of the real one has it. */
  static byBudget(message: string): Refusal {
    const causes = [{ reason: "DisruptionBudget", message }];
    return new Refusal(429, "TooManyRequests", message, { causes });
  }

  /** Its object of kind Status. */
  get answer(): object {
    const { status: code, reason, message } = this;
    return {
      ...{ kind: "Status", status: "Failure", code, reason, message },
      ...(this.#details === undefined ? {} : { details: this.#details }),
    };
  }
}

/** Does what the fault says. */
export function misbehave(fault: Fault, response: ServerResponse): void {
  switch (fault.kind) {
    case "status":
      for (const [key, value] of Object.entries(fault.headers ?? {})) {
        response.setHeader(key, value);
      }
      reply(response, fault.status, {
        kind: "Status",
        code: fault.status,
        reason: "Fault",
        message: "as told",
      });
      break;
    case "body":
      response.writeHead(200, { "content-type": "application/json" });
      response.end(fault.text);
      break;
    case "value":
      reply(response, fault.status, fault.value);
      break;
    case "drop":
      response.destroy();
      break;
    default:
      break;
  }
}

/** Sends JSON. */
export function reply(response: ServerResponse, status: number, value: unknown): void {
  response.writeHead(status, { "content-type": "application/json" });
  response.end(JSON.stringify(value));
}
