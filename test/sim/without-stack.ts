/**
 * Makes an error that does not know where it was made. Connections are refused or break by the
 * thousand, always at the same place, and to note it takes longer than anything else about them.
 */
export function withoutStack<E extends Error>(make: () => E): E {
  const { stackTraceLimit } = Error;
  Error.stackTraceLimit = 0;
  try {
    return make();
  } finally {
    Error.stackTraceLimit = stackTraceLimit;
  }
}
