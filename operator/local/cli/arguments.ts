import { InvalidArgumentError } from "commander";
import { NAMESPACE, NAMESPACES_MAX } from "../settings.ts";
import { parseSize } from "../sizes.ts";

/** A commander parser for a whole number in a range. */
export function integer(min: number, max: number): (text: string) => number {
  return (text) => {
    const value = /^\d+$/.test(text) ? Number(text) : Number.NaN;
    if (value >= min && value <= max) return value;
    throw new InvalidArgumentError(`Allowed: a whole number from ${min} to ${max}.`);
  };
}

/** A commander parser for a size such as `128MiB`. */
export function size(min: number, max: number): (text: string) => number {
  return (text) => {
    const bytes = parseSize(text);
    if (bytes !== null && bytes >= min && bytes <= max) return bytes;
    throw new InvalidArgumentError("Allowed: a size such as 128MiB or 1GiB, from 1MiB to 64GiB.");
  };
}

/** A commander parser for a comma-separated list of namespaces. */
export function namespaces(text: string): readonly string[] {
  const list = text.split(",").map((part) => part.trim());
  const named = list.every((name) => NAMESPACE.test(name)) && new Set(list).size === list.length;
  if (named && list.length <= NAMESPACES_MAX) return list;
  throw new InvalidArgumentError(
    `Allowed: up to ${NAMESPACES_MAX} different names of letters, digits, ".", "_" and "-", ` +
      "separated by commas.",
  );
}

/** A commander parser for a comma-separated list of host:port. */
export function addresses(text: string): readonly string[] {
  const list = text.split(",").map((part) => part.trim());
  if (list.every((part) => /^[^\s:]+:\d{1,5}$/.test(part))) return list;
  throw new InvalidArgumentError("Allowed: host:port, several separated by commas.");
}
