/** Randomness, seeded in the simulator. */
export interface Random {
  /** Uniform in [0, 1). */
  unit(): number;
  /** A new identifier: 26 lower-case characters of a random 128-bit number, base 32. */
  uid(): string;
}
