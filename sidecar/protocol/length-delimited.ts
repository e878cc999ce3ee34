/** Bytes that a number takes as a protobuf varint. `value` is a whole number, 0 to 2^53-1. */
export function varintBytes(value: number): number {
  let bytes = 1;
  for (let rest = value; rest >= 128; rest = Math.floor(rest / 128)) bytes += 1;
  return bytes;
}

/**
 * Writes the tag (one byte) and the length of a length-delimited protobuf field at `position`;
 * returns where the field's bytes go.
 */
export function putHeader(into: Uint8Array, position: number, tag: number, length: number): number {
  into[position] = tag;
  let at = position + 1;
  let rest = length;
  while (rest >= 128) {
    into[at++] = (rest % 128) + 128;
    rest = Math.floor(rest / 128);
  }
  into[at] = rest;
  return at + 1;
}

/**
 * Where the content of a length-delimited field begins that starts at `position` and takes all the
 * rest of `bytes`; -1 when no such field with this tag (one byte) is there.
 */
export function wholeField(bytes: Uint8Array, position: number, tag: number): number {
  if (bytes[position] !== tag) return -1;
  let length = 0;
  let unit = 1;
  for (let at = position + 1; at < bytes.length && length < bytes.length; at++) {
    const byte = bytes[at] ?? 0;
    length += (byte & 127) * unit;
    if (byte < 128) return at + 1 + length === bytes.length ? at + 1 : -1;
    unit *= 128;
  }
  return -1;
}
