import { randomBytes } from "node:crypto";
import type { Random } from "../lib/ports/random.ts";

const ALPHABET = "abcdefghijklmnopqrstuvwxyz234567";
const UID_BITS = 128n;
const UID_CHARACTERS = 26;

/** Randomness of the operating system. */
export class NodeRandom implements Random {
  unit(): number {
    return Math.random();
  }

  uid(): string {
    let value = BigInt(`0x${randomBytes(Number(UID_BITS / 8n)).toString("hex")}`);
    let text = "";
    for (let i = 0; i < UID_CHARACTERS; i++) {
      text = ALPHABET.charAt(Number(value & 31n)) + text;
      value >>= 5n;
    }
    return text;
  }
}
