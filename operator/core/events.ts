/**
 * What the coordinator tells the world: each platform turns it into metrics, Events and log lines.
 */
import type { Gate } from "./gates.ts";
import type { LeaderLoss } from "./observed.ts";
import type { RecoveryReason, ShardKey } from "./record.ts";
import type { StopReason } from "./stops.ts";

/** Phases of a recovery whose durations are measured, in order. */
export type RecoveryPhase = "Detected" | "Enrolled" | "Transferring" | "CatchingUp" | "Promoting";

/** Something people or metrics are told of; nothing is decided by it. */
export type CoordinatorEvent =
  | ({
      readonly kind: "recoveryStarted";
      readonly node: string;
      readonly reason: RecoveryReason;
      readonly oldUid: string;
      readonly newUid: string;
    } & ShardKey)
  /** The gate that holds a recovery back; told once each time it changes. */
  | ({
      readonly kind: "recoveryDeferred";
      readonly node: string;
      readonly reason: RecoveryReason;
      readonly gate: Gate;
      readonly message: string;
    } & ShardKey)
  /** A phase that has ended. */
  | ({
      readonly kind: "recoveryPhase";
      readonly node: string;
      readonly phase: RecoveryPhase;
      readonly durationMs: number;
    } & ShardKey)
  | ({
      readonly kind: "recoveryCompleted";
      readonly node: string;
      readonly uid: string;
      readonly reason: RecoveryReason;
      /**
       * From the first sight of the new uid to the saved vote; null when that was before this
       * process.
       */
      readonly durationMs: number | null;
    } & ShardKey)
  /** The replica was wiped again, or a person changed the ensemble, before it voted. */
  | ({
      readonly kind: "recoveryFailed";
      readonly node: string;
      readonly reason: RecoveryReason;
      readonly message: string;
    } & ShardKey)
  | ({
      readonly kind: "electionStarted";
      readonly term: number;
      readonly why: LeaderLoss;
    } & ShardKey)
  | ({
      readonly kind: "electionCompleted";
      readonly term: number;
      readonly leader: string;
      readonly durationMs: number;
    } & ShardKey)
  | ({
      readonly kind: "electionFailed";
      readonly term: number;
      readonly message: string;
      readonly durationMs: number;
    } & ShardKey)
  | ({ readonly kind: "stopped"; readonly reason: StopReason; readonly message: string } & ShardKey)
  | ({ readonly kind: "resumed"; readonly reason: StopReason } & ShardKey)
  | ({ readonly kind: "recordConflict" } & ShardKey)
  /** A step that will be tried again. */
  | ({ readonly kind: "stepFailed"; readonly step: string; readonly message: string } & ShardKey)
  | ({ readonly kind: "ensembleChanged"; readonly ensemble: readonly string[] } & ShardKey)
  | { readonly kind: "nodeUp"; readonly node: string }
  | { readonly kind: "nodeDown"; readonly node: string; readonly message: string };

/** Receives events; must not throw and must not block. */
export interface CoordinatorEvents {
  emit(event: CoordinatorEvent): void;
}
