/** What a conditional write expects: a version id, or null: that there is no such key. */
export type Expected = number | null | undefined;

/** What a client asked for. Values are unique: each is put at most once in a history. */
export type Call =
  | {
      readonly kind: "put";
      readonly key: string;
      readonly value: string;
      readonly expected: Expected;
    }
  | { readonly kind: "delete"; readonly key: string; readonly expected: Expected }
  | { readonly kind: "get"; readonly key: string }
  /** Keys from `start` up to, not including, `end`; as one moment's view of all of them. */
  | { readonly kind: "scan"; readonly start: string; readonly end: string };

/** One pair as a client saw it. */
export interface SeenPair {
  readonly key: string;
  readonly value: string;
  readonly versionId: number;
}

/** What it was told. `unknown`: nothing; it may take effect at any later time, or never. */
export type Outcome =
  | { readonly kind: "written"; readonly versionId: number }
  | { readonly kind: "deleted" }
  /** The expected version was not there. */
  | { readonly kind: "refused" }
  /** No such key. */
  | { readonly kind: "absent" }
  | { readonly kind: "found"; readonly value: string; readonly versionId: number }
  | { readonly kind: "pairs"; readonly pairs: readonly SeenPair[] }
  | { readonly kind: "unknown" };

/** One request of one client, with the times when it was sent and when it ended. */
export interface Operation {
  readonly client: string;
  readonly call: Call;
  readonly outcome: Outcome;
  readonly calledAt: number;
  /** Infinity when the outcome is unknown. */
  readonly returnedAt: number;
}

/** An operation in one line, for people. */
export function operationText({ client, call, outcome, calledAt, returnedAt }: Operation): string {
  const expected =
    "expected" in call && call.expected !== undefined ? ` if ${call.expected ?? "absent"}` : "";
  const asked =
    call.kind === "scan"
      ? `scan [${call.start}, ${call.end})`
      : call.kind === "put"
        ? `put ${call.key}=${call.value}${expected}`
        : `${call.kind} ${call.key}${expected}`;
  const until = Number.isFinite(returnedAt) ? returnedAt.toFixed(3) : "...";
  return `${calledAt.toFixed(3)}-${until} ${client}: ${asked}: ${outcomeText(outcome)}`;
}

function outcomeText(outcome: Outcome): string {
  switch (outcome.kind) {
    case "written":
      return `written, version ${outcome.versionId}`;
    case "found":
      return `${outcome.value}, version ${outcome.versionId}`;
    case "pairs":
      return outcome.pairs.map(({ key, value }) => `${key}=${value}`).join(" ") || "nothing";
    default:
      return outcome.kind;
  }
}
