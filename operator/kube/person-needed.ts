import { ResourceInvalid } from "../api/v1alpha1/validation.ts";

/** All that a person may be needed for, one word each; a page of the runbooks says what to do. */
export const PERSON_REASONS = [
  "ObjectTaken",
  "SpecInvalid",
  "StatefulSetImmutable",
  "StorageCannotGrow",
] as const;

/** See {@link PERSON_REASONS}. */
export type PersonReason = (typeof PERSON_REASONS)[number];

/** Nothing goes on by itself: a person has to change something. Shown as the store's condition. */
export class PersonNeeded extends Error {
  override readonly name = "PersonNeeded";
  readonly reason: PersonReason;
  /** The message says what is wrong and what to do. */
  constructor(reason: PersonReason, message: string, options?: ErrorOptions) {
    super(message, options);
    this.reason = reason;
  }
}

/** What of an error a person has to mend, rather than time; null: nothing. */
export function refusalOf(
  error: unknown,
): { readonly reason: string; readonly message: string } | null {
  if (error instanceof ResourceInvalid) return { reason: "SpecInvalid", message: error.message };
  if (error instanceof PersonNeeded) return { reason: error.reason, message: error.message };
  return null;
}
