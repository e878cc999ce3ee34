/** A function or object of the real world that simulated code must not touch. */
interface Trapped {
  readonly holder: object;
  readonly name: string;
}

const TRAPPED: readonly Trapped[] = [
  { holder: globalThis, name: "Date" },
  { holder: globalThis, name: "setTimeout" },
  { holder: globalThis, name: "setInterval" },
  { holder: globalThis, name: "setImmediate" },
  { holder: globalThis, name: "queueMicrotask" },
  { holder: globalThis, name: "fetch" },
  { holder: globalThis.performance, name: "now" },
  { holder: Math, name: "random" },
  { holder: AbortSignal, name: "timeout" },
  { holder: globalThis.crypto, name: "getRandomValues" },
  { holder: globalThis.crypto, name: "randomUUID" },
];

/** Real time or randomness was used where only the simulated kind may be. */
class RealWorldTouched extends Error {
  override readonly name = "RealWorldTouched";
}

/**
 * Until the returned function is called, real clocks, timers and randomness throw. What was touched
 * is kept in `touched` too, for code that swallows errors.
 */
export function trapRealWorld(touched: string[]): () => void {
  const undo = TRAPPED.map(({ holder, name }) => {
    const before = Object.getOwnPropertyDescriptor(holder, name);
    const trap = (): never => {
      touched.push(name);
      throw new RealWorldTouched(`${name} was used inside the simulation`);
    };
    // A function, so that `new Date()` traps as well as `Date.now()`.
    const value = new Proxy(function trapped() {}, { apply: trap, construct: trap, get: trap });
    Object.defineProperty(holder, name, { value, configurable: true, writable: true });
    return () => {
      if (before === undefined) Reflect.deleteProperty(holder, name);
      else Object.defineProperty(holder, name, before);
    };
  });
  return () => {
    for (const one of undo) one();
  };
}
