import { ServingStatus } from "./gen/resilver.ts";

export { ServingStatus };

const names: Readonly<Record<number, string>> = {
  [ServingStatus.NOT_MEMBER]: "NOT_MEMBER",
  [ServingStatus.FENCED]: "FENCED",
  [ServingStatus.FOLLOWER]: "FOLLOWER",
  [ServingStatus.LEADER]: "LEADER",
};

/** The name people see for a status. */
export function statusName(status: ServingStatus): string {
  return names[status] ?? `UNKNOWN(${status})`;
}

/**
 * FollowerProgress.state of a follower that lost what it had acknowledged to this leader (R3, H19).
 */
export const REGRESSED = "Regressed";

/** FollowerProgress.state of a follower for which a replica with another uid answered (R4). */
export const NOT_MEMBER = "NotMember";

/**
 * `FollowerProgress.state` of a replica whose stream broke or was refused, until it is tried
 * again.
 */
export const DOWN = "Down";
