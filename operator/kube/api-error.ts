/** What can go wrong with a call to the API server. */

/** What an object of kind Status says. */
interface Answer {
  readonly code: number;
  readonly reason: string;
  readonly message: string;
  readonly causes: readonly string[];
}

/** The API server answered that it will not, or cannot. */
export class ApiError extends Error {
  override readonly name = "ApiError";
  /** HTTP status. */
  readonly status: number;
  /** One word, such as NotFound, AlreadyExists, Conflict, Expired; "" when it gave none. */
  readonly reason: string;
  /** How long it asks to be left alone; null when it does not. */
  readonly retryAfterMs: number | null;
  /** Words for why: `DisruptionBudget` tells a budget's no from that of a full server. */
  readonly causes: readonly string[];
  constructor(answer: Answer, what: string, retryAfterMs: number | null) {
    super(`${what}: ${answer.code} ${answer.message}`);
    this.status = answer.code;
    this.reason = answer.reason;
    this.retryAfterMs = retryAfterMs;
    this.causes = answer.causes;
  }
}

/**
 * There was no answer: refused, broken or too late. Whether the call was carried out is not known.
 */
export class ApiUnreachable extends Error {
  override readonly name = "ApiUnreachable";
  readonly timedOut: boolean;
  constructor(message: string, timedOut: boolean, cause?: unknown) {
    super(message, { cause });
    this.timedOut = timedOut;
  }
}

/** An open watch on which nothing came for long: it may be broken, or there was nothing to tell. */
export class WatchSilent extends ApiUnreachable {
  constructor(message: string) {
    super(message, true);
  }
}

/** True for an ApiError with this status. */
export function isStatus(error: unknown, status: number): error is ApiError {
  return error instanceof ApiError && error.status === status;
}

/** The resource version is too old to go on from: list anew. */
export function isExpired(error: unknown): boolean {
  return error instanceof ApiError && (error.status === 410 || error.reason === "Expired");
}

/** The error in an answer with a status of 400 or more, whatever its body is. */
export function errorFromAnswer(
  status: number,
  body: string,
  retryAfter: string | undefined,
  what: string,
): ApiError {
  const { message, ...fields } = statusFields(body);
  const text = message === "" ? body.slice(0, 300).trim() : message;
  const seconds = Number(retryAfter);
  const retryAfterMs =
    retryAfter !== undefined && Number.isFinite(seconds) && seconds >= 0 ? seconds * 1_000 : null;
  return new ApiError({ ...fields, code: status, message: text }, what, retryAfterMs);
}

/** The error in an object of kind Status. */
export function errorFromStatus(object: unknown, what: string): ApiError {
  return new ApiError(fieldsOf(object), what, null);
}

function statusFields(body: string): Answer {
  try {
    return fieldsOf(JSON.parse(body));
  } catch {
    // A proxy or a broken server: not JSON.
    return { code: 0, reason: "", message: "", causes: [] };
  }
}

function fieldsOf(object: unknown): Answer {
  const at = (key: string, of: unknown = object): unknown =>
    typeof of === "object" && of !== null ? Reflect.get(of, key) : undefined;
  const [code, reason, message] = [at("code"), at("reason"), at("message")];
  const causes: unknown = at("causes", at("details") ?? null);
  return {
    causes: (Array.isArray(causes) ? causes : []).map((cause) => String(at("reason", cause))),
    code: typeof code === "number" ? code : 0,
    reason: typeof reason === "string" ? reason : "",
    message: typeof message === "string" ? message : "",
  };
}
