import assert from "node:assert/strict";
import type { Replica } from "../../../sidecar/core/replica.ts";
import type { Logger } from "../../../sidecar/lib/ports/logger.ts";
import { ServingStatus } from "../../../sidecar/protocol/status.ts";
import { ChangeLog } from "../../../sidecar/runtime/change-log.ts";

/** The part of a replica that is looked at. */
function replica(term: number, status: ServingStatus, voting: boolean): Replica {
  const state = { promised: { term }, status };
  return { state, leader: null, follower: { votes: voting } } as unknown as Replica;
}

describe("change log", () => {
  it("tells once of each change of term, status, vote or fault", () => {
    const lines: object[] = [];
    const logger = { info: (_: string, fields: object) => lines.push(fields) };
    const log = new ChangeLog(logger as unknown as Logger, { namespace: "default", shard: 3 });
    const { NOT_MEMBER, FOLLOWER } = ServingStatus;
    log.log(replica(0, NOT_MEMBER, false), "");
    log.log(replica(0, NOT_MEMBER, false), "");
    log.log(replica(0, FOLLOWER, false), "");
    log.log(replica(0, FOLLOWER, true), "");
    log.log(replica(0, FOLLOWER, true), "");
    log.log(replica(1, FOLLOWER, true), "the disk stalls");
    const same = { namespace: "default", shard: 3 };
    assert.deepEqual(lines, [
      { ...same, term: 0, status: "NOT_MEMBER", votes: false },
      { ...same, term: 0, status: "FOLLOWER", votes: false },
      { ...same, term: 0, status: "FOLLOWER", votes: true },
      { ...same, term: 1, status: "FOLLOWER", votes: true, fault: "the disk stalls" },
    ]);
  });
});
