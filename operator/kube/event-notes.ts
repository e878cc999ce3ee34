/** What the coordinator tells, as Events on the store and its pods. Pure. */
import type { CoordinatorEvent } from "../core/events.ts";
import { gatePage } from "../core/gates.ts";
import { stopPage } from "../core/stops.ts";

/** An Event without what it is about. `pod` absent: about the store alone. */
export interface EventNote {
  readonly type: "Normal" | "Warning";
  readonly reason: string;
  readonly action: string;
  readonly note: string;
  readonly pod?: string;
}

/** Null for what people need not hear of. */
export function eventNote(event: CoordinatorEvent): EventNote | null {
  switch (event.kind) {
    case "recoveryStarted":
      return note(event.node, "Normal", "RecoveryStarted", "Rebuild", [
        `${shardText(event)}: being rebuilt (${event.reason}):`,
        `replica ${event.oldUid || "none"} is replaced by ${event.newUid}`,
      ]);
    case "recoveryDeferred":
      return note(event.node, "Warning", "RecoveryDeferred", "Wait", [
        `${shardText(event)}: waits for ${event.gate}: ${event.message};`,
        `see ${gatePage(event.gate)}`,
      ]);
    case "recoveryCompleted":
      return note(event.node, "Normal", "RecoveryCompleted", "Promote", [
        `${shardText(event)}: votes again`,
      ]);
    case "recoveryFailed":
      return note(event.node, "Warning", "RecoveryFailed", "GiveUp", [
        `${shardText(event)}: ${event.message}`,
      ]);
    case "electionCompleted":
      return note(undefined, "Normal", "LeaderElected", "Elect", [
        `${shardText(event)}: ${event.leader} leads term ${event.term}`,
      ]);
    case "electionFailed":
      return note(undefined, "Warning", "ElectionFailed", "Elect", [
        `${shardText(event)}: no leader: ${event.message}`,
      ]);
    case "stopped":
      return note(undefined, "Warning", event.reason, "Stop", [
        `${shardText(event)}: ${event.message}; see ${stopPage(event.reason)}`,
      ]);
    case "resumed":
      return note(undefined, "Normal", "Resumed", "Resume", [
        `${shardText(event)}: goes on, ${event.reason} is over`,
      ]);
    default:
      return null;
  }
}

function note(
  pod: string | undefined,
  type: EventNote["type"],
  reason: string,
  action: string,
  parts: readonly string[],
): EventNote {
  return { type, reason, action, note: parts.join(" "), ...(pod === undefined ? {} : { pod }) };
}

function shardText({ namespace, shard }: { namespace: string; shard: number }): string {
  return `${namespace}/${shard}`;
}
