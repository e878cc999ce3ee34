import { Append, LogEntry, SnapshotChunk } from "./gen/resilver.ts";
import { putHeader, varintBytes } from "./length-delimited.ts";

/*
 * Encoders for the two messages that carry bulk: the bytes are copied once, where the generated
 * writer grows its buffer and copies three times. What they write decodes as any other encoding
 * does; fields may come in any order in protobuf, and the bytes field comes last here.
 */

/** Field 3, length-delimited: `content` of SnapshotChunk and `value` of LogEntry. */
const BYTES_TAG = 26;
/** Field 2, length-delimited: `entry` of Append. */
const ENTRY_TAG = 18;
const NOTHING = new Uint8Array(0);

/** The bytes of a SnapshotChunk message. */
export function encodeSnapshotChunk(chunk: SnapshotChunk): Buffer {
  const { content } = chunk;
  const head = SnapshotChunk.encode({ ...chunk, content: NOTHING }).finish();
  const message = Buffer.allocUnsafeSlow(
    head.length + 1 + varintBytes(content.length) + content.length,
  );
  message.set(head);
  message.set(content, putHeader(message, head.length, BYTES_TAG, content.length));
  return message;
}

/** The bytes of an Append message. */
export function encodeAppend(append: Append): Buffer {
  const { entry } = append;
  const head = Append.encode({ ...append, entry: undefined }).finish();
  if (entry === undefined) return Buffer.from(head.buffer, head.byteOffset, head.length);
  const { value } = entry;
  const entryHead = LogEntry.encode({ ...entry, value: NOTHING }).finish();
  const entryBytes = entryHead.length + 1 + varintBytes(value.length) + value.length;
  const message = Buffer.allocUnsafeSlow(head.length + 1 + varintBytes(entryBytes) + entryBytes);
  message.set(head);
  const entryAt = putHeader(message, head.length, ENTRY_TAG, entryBytes);
  message.set(entryHead, entryAt);
  message.set(value, putHeader(message, entryAt + entryHead.length, BYTES_TAG, value.length));
  return message;
}
