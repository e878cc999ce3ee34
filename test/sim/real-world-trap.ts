import childProcess from "node:child_process";
import crypto from "node:crypto";
import dgram from "node:dgram";
import dns from "node:dns";
import fs from "node:fs";
import http from "node:http";
import http2 from "node:http2";
import https from "node:https";
import { syncBuiltinESMExports } from "node:module";
import net from "node:net";
import timers from "node:timers";
import timersPromises from "node:timers/promises";
import tls from "node:tls";
import type { Referee } from "./referee.ts";

/** A function or object of the real world that simulated code must not touch. */
interface Trapped {
  readonly holder: object;
  readonly name: string;
  /** How it is called in what is said of it. */
  readonly called: string;
}

const GLOBALS: readonly Trapped[] = [
  trapped(globalThis, "Date"),
  trapped(globalThis, "setTimeout"),
  trapped(globalThis, "setInterval"),
  trapped(globalThis, "setImmediate"),
  trapped(globalThis, "queueMicrotask"),
  trapped(globalThis, "fetch"),
  trapped(globalThis.performance, "now", "performance.now"),
  trapped(process, "hrtime", "process.hrtime"),
  trapped(Math, "random", "Math.random"),
  trapped(AbortSignal, "timeout", "AbortSignal.timeout"),
  trapped(globalThis.crypto, "getRandomValues", "crypto.getRandomValues"),
  trapped(globalThis.crypto, "randomUUID", "crypto.randomUUID"),
];

/** Everything that goes out of the process, or draws from its randomness. */
const MODULES: readonly Trapped[] = [
  ...functionsOf("node:fs", fs),
  ...functionsOf("node:fs/promises", fs.promises),
  ...functionsOf("node:net", net),
  ...functionsOf("node:tls", tls),
  ...functionsOf("node:dns", dns),
  ...functionsOf("node:dns/promises", dns.promises),
  ...functionsOf("node:dgram", dgram),
  ...functionsOf("node:http", http),
  ...functionsOf("node:https", https),
  ...functionsOf("node:http2", http2),
  ...functionsOf("node:child_process", childProcess),
  // Node itself takes that one when an error is caught by nobody, and the error would be lost.
  ...functionsOf("node:timers", timers).filter(({ name }) => name !== "setImmediate"),
  ...functionsOf("node:timers/promises", timersPromises),
  ...functionsOf("node:crypto", crypto).filter(({ name }) => /random|getRandom/u.test(name)),
];

function trapped(holder: object, name: string, called = name): Trapped {
  return { holder, name, called };
}

/** Not its classes: to ask whether something is one of theirs harms nobody. */
function functionsOf(module: string, holder: object): readonly Trapped[] {
  return Object.keys(holder)
    .filter((name) => /^[a-z]/u.test(name) && isPlainFunction(holder, name))
    .map((name) => trapped(holder, name, `${module}: ${name}`));
}

function isPlainFunction(holder: object, name: string): boolean {
  const own = Object.getOwnPropertyDescriptor(holder, name);
  return own?.configurable === true && typeof own.value === "function";
}

/** Real time, randomness, files or sockets were used where only the simulated kind may be. */
class RealWorldTouched extends Error {
  override readonly name = "RealWorldTouched";
}

/**
 * Until the returned function is called, real clocks, timers, randomness, files, sockets and
 * processes throw. What was touched is kept in `touched` too, for code that swallows errors.
 */
export function trapRealWorld(touched: string[]): () => void {
  const undo = [...GLOBALS, ...MODULES].map(({ holder, name, called }) => {
    const before = Object.getOwnPropertyDescriptor(holder, name);
    const trap = (): never => {
      touched.push(called);
      throw new RealWorldTouched(`${called} was used inside the simulation`);
    };
    // A function, so that `new Date()` traps as well as `Date.now()`.
    const value = new Proxy(function trapped() {}, { apply: trap, construct: trap, get: trap });
    Object.defineProperty(holder, name, { value, configurable: true, writable: true });
    return () => {
      if (before === undefined) Reflect.deleteProperty(holder, name);
      else Object.defineProperty(holder, name, before);
    };
  });
  // What a module has imported by name changes with that only.
  syncBuiltinESMExports();
  return () => {
    for (const one of undo) one();
    syncBuiltinESMExports();
  };
}

/** Something was touched, maybe by code that swallowed the error: the run proves nothing. */
export function judgeTouched(referee: Pick<Referee, "violate">, touched: readonly string[]): void {
  if (touched.length === 0) return;
  const names = [...new Set(touched)].join(", ");
  referee.violate("determinism", `${names} used in the simulation`);
}
