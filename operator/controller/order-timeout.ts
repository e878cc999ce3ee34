/** A person's order took too long: a RangeError, so that it is said and not logged as a fault. */
export class OrderTimeout extends RangeError {
  override readonly name = "OrderTimeout";
  constructor(deadlineMs: number, waited: boolean) {
    super(
      waited
        ? `the order was not begun within ${deadlineMs} ms, since the record cannot be read or ` +
            "another step takes long; nothing was done, try again"
        : `the order was not done within ${deadlineMs} ms; it may have been: look at the status`,
    );
  }
}
