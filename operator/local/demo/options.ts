/** Which replica the demonstration wipes. */
export type DemoVictim = "follower" | "leader";
/** All of DemoVictim, for checks and help. */
export const DEMO_VICTIMS: readonly DemoVictim[] = ["follower", "leader"];
/** What of it is wiped. */
export const DEMO_WHAT = ["all", "wal", "state"] as const;

/** Options of `resilver local demo`. */
export interface DemoOptions {
  /** Bytes to load. */
  readonly size: number;
  readonly victim: DemoVictim;
  readonly what: (typeof DEMO_WHAT)[number];
  /** No writes after the wipe. */
  readonly quiet: boolean;
  /** Further wipes after the first. */
  readonly again: number;
  readonly seed: number;
  readonly replicas: number;
  readonly port?: number;
  readonly dir?: string;
  readonly input?: string;
  readonly json?: string;
  readonly once: boolean;
}
