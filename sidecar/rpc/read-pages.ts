/** Answers of Read, List and RangeScan in pages: made when they are needed, sent one by one. */
import type { ServerWritableStream } from "@grpc/grpc-js";
import type { Clock } from "../lib/ports/clock.ts";
import { LIMITS } from "../limits.ts";
import type { GetRequest, GetResponse, ReadResponse } from "../protocol/gen/oxia-client.ts";
import type { ReplicaHandle } from "../runtime/ports.ts";
import { messageBytesOf } from "../state/read-request.ts";
import { tooLongRead } from "../state/read-view.ts";

type Call<Page> = ServerWritableStream<unknown, Page>;

/** Answers `gets`, by the bounds of a message. */
export function* readPages(
  replica: ReplicaHandle,
  gets: readonly GetRequest[],
): Generator<ReadResponse> {
  let page: GetResponse[] = [];
  let bytes = 0;
  for (const get of gets) {
    const response = replica.get(get);
    const size = messageBytesOf(response);
    const fits = bytes + size <= LIMITS.readBytesPerMessageMax;
    if (page.length > 0 && (!fits || page.length >= LIMITS.listKeysPerMessageMax)) {
      yield { gets: page };
      page = [];
      bytes = 0;
    }
    page.push(response);
    bytes += size;
  }
  if (page.length > 0) yield { gets: page };
}

/** Each page of `pages` as a message. */
export function* mapPages<In, Out>(pages: Iterable<In>, map: (page: In) => Out): Generator<Out> {
  for (const page of pages) yield map(page);
}

/**
 * {@link writePages} of a view, which keeps old data alive and may not wait for its reader for
 * ever: ends with a refusal when the view may have been closed meanwhile.
 */
export async function writeView<Page>(
  call: Call<Page>,
  pages: Iterable<Page>,
  clock: Clock,
): Promise<void> {
  let end = (): void => undefined;
  const late = new Promise<void>((resolve) => {
    end = resolve;
  });
  let isLate = false;
  const timer = clock.timer(LIMITS.readViewMsMax, () => {
    isLate = true;
    end();
  });
  try {
    await writePages(call, pages, clock, async (sent) => {
      await Promise.race([sent, late]);
      if (isLate) throw tooLongRead();
    });
  } finally {
    timer.cancel();
  }
}

/**
 * Writes each page when the one before has left, so that a slow reader holds two pages and no more;
 * making one keeps others waiting, so they have a turn after each but the first, which most calls
 * have alone.
 */
export async function writePages<Page>(
  call: Call<Page>,
  pages: Iterable<Page>,
  clock: Clock,
  wait: (sent: Promise<void>) => Promise<void> = (sent) => sent,
): Promise<void> {
  let sent: Promise<void> | null = null;
  for (const page of pages) {
    // Returning early ends the iteration, which releases the replica's read view.
    if (call.cancelled) return;
    const before: Promise<void> | null = sent;
    sent = written(call, page);
    if (before === null) continue;
    await wait(before);
    await clock.yield();
  }
}

/** Resolves when the page was handed to the connection, or nobody reads the call any more. */
function written<Page>(call: ServerWritableStream<unknown, Page>, page: Page): Promise<void> {
  return new Promise((resolve) => {
    const settle = (): void => {
      call.removeListener("cancelled", settle);
      resolve();
    };
    call.on("cancelled", settle);
    call.write(page, settle);
  });
}
