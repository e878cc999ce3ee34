import { readFileSync } from "node:fs";

/**
 * Anonymous resident memory of this process in bytes: what the sidecar itself holds, without mapped
 * file pages, which the kernel takes back at will. Null where the kernel does not tell (not Linux).
 */
export function anonymousMemoryBytes(): number | null {
  try {
    const kibibytes = /^RssAnon:\s+(\d+) kB$/mu.exec(readFileSync("/proc/self/status", "latin1"));
    return kibibytes?.[1] === undefined ? null : Number(kibibytes[1]) * 1024;
  } catch {
    return null;
  }
}
