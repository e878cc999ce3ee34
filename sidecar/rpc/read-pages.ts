/** Answers of Read, List and RangeScan in pages: made when they are needed, sent one by one. */
import type { ServerWritableStream } from "@grpc/grpc-js";
import type { Clock } from "../lib/ports/clock.ts";
import { LIMITS } from "../limits.ts";
import type {
  GetRequest,
  GetResponse,
  ListResponse,
  RangeScanResponse,
  ReadResponse,
} from "../protocol/gen/oxia-client.ts";
import type { ReplicaHandle } from "../runtime/ports.ts";
import { messageBytesOf } from "../state/read-request.ts";
import { tooLongRead } from "../state/read-view.ts";
import type { ReadHold } from "./read-memory.ts";

/** A message with what it takes in memory until it has left. */
export interface SizedPage<Page> {
  readonly message: Page;
  readonly bytes: number;
}

/** Where pages go, and what counts them. */
export interface PageWriting<Page> {
  readonly call: ServerWritableStream<unknown, Page>;
  readonly hold: ReadHold;
  readonly clock: Clock;
}

/** Answers `gets`, by the bounds of a message. */
export function* readPages(
  replica: ReplicaHandle,
  gets: readonly GetRequest[],
): Generator<SizedPage<ReadResponse>> {
  let page: GetResponse[] = [];
  let bytes = 0;
  for (const get of gets) {
    const response = replica.get(get);
    const size = messageBytesOf(response);
    const fits = bytes + size <= LIMITS.readBytesPerMessageMax;
    if (page.length > 0 && (!fits || page.length >= LIMITS.listKeysPerMessageMax)) {
      yield { message: { gets: page }, bytes };
      page = [];
      bytes = 0;
    }
    page.push(response);
    bytes += size;
  }
  if (page.length > 0) yield { message: { gets: page }, bytes };
}

/** Each page of a list as a message. */
export function* listPages(pages: Iterable<readonly string[]>): Generator<SizedPage<ListResponse>> {
  for (const keys of pages) {
    const bytes = keys.reduce((sum, key) => sum + Buffer.byteLength(key), 0);
    yield { message: { keys: [...keys] }, bytes };
  }
}

/** Each page of a scan as a message. */
export function* scanPages(
  pages: Iterable<readonly GetResponse[]>,
): Generator<SizedPage<RangeScanResponse>> {
  for (const records of pages) {
    const bytes = records.reduce((sum, record) => sum + messageBytesOf(record), 0);
    yield { message: { records: [...records] }, bytes };
  }
}

/**
 * {@link writePages} of a view, which keeps old data alive and may not wait for its reader for
 * ever: ends with a refusal when the view may have been closed meanwhile.
 */
export async function writeView<Page>(
  writing: PageWriting<Page>,
  pages: Iterable<SizedPage<Page>>,
): Promise<void> {
  let end = (): void => undefined;
  const late = new Promise<void>((resolve) => {
    end = resolve;
  });
  let isLate = false;
  const timer = writing.clock.timer(LIMITS.readViewMsMax, () => {
    isLate = true;
    end();
  });
  try {
    await writePages(writing, pages, async (sent) => {
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
 * have alone. Throws RESOURCE_UNAVAILABLE when all readers together hold too much.
 */
export async function writePages<Page>(
  { call, hold, clock }: PageWriting<Page>,
  pages: Iterable<SizedPage<Page>>,
  wait: (sent: Promise<void>) => Promise<void> = (sent) => sent,
): Promise<void> {
  let sent: Promise<void> | null = null;
  for (const { message, bytes } of pages) {
    // Returning early ends the iteration, which releases the replica's read view.
    if (call.cancelled) return;
    const before: Promise<void> | null = sent;
    hold.page(bytes);
    sent = written(call, message, () => hold.left(bytes));
    if (before === null) continue;
    await wait(before);
    await clock.yield();
  }
}

/** Resolves when the page was handed to the connection, or nobody reads the call any more. */
function written<Page>(
  call: ServerWritableStream<unknown, Page>,
  page: Page,
  left: () => void,
): Promise<void> {
  return new Promise((resolve) => {
    const settle = (): void => {
      call.removeListener("cancelled", settle);
      left();
      resolve();
    };
    call.on("cancelled", settle);
    call.write(page, settle);
  });
}
