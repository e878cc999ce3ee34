/** Nothing goes on by itself: a person has to change something. Shown as the store's condition. */
export class PersonNeeded extends Error {
  override readonly name = "PersonNeeded";
  /** One word. */
  readonly reason: string;
  /** The message says what is wrong and what to do. */
  constructor(reason: string, message: string, options?: ErrorOptions) {
    super(message, options);
    this.reason = reason;
  }
}
