/**
 * The error detail of every refusal: a google.rpc.Status that holds one google.rpc.ErrorInfo, as
 * carried in the binary trailer {@link DETAILS_KEY} (WIRE.md, "Errors"). Both messages are tiny and
 * fixed by Google, so they are written out here instead of generated.
 */
import { BinaryReader, BinaryWriter } from "@bufbuild/protobuf/wire";
import { ProtocolError, REASONS, type Reason } from "./errors.ts";

/** Name of the trailer that carries the encoded google.rpc.Status. */
export const DETAILS_KEY = "grpc-status-details-bin";
/** Oxia's clients look for their own domain; ours must be the same. */
export const ERROR_DOMAIN = "oxia.io";

const TYPE_URL = "type.googleapis.com/google.rpc.ErrorInfo";

/** The contents of one ErrorInfo. `reason` may be one that this build does not know. */
export interface ErrorInfo {
  readonly reason: string;
  readonly domain: string;
  readonly metadata: Readonly<Record<string, string>>;
}

/**
 * A google.rpc.Status holding the ErrorInfo of `error`. `code` is the gRPC status sent beside it.
 */
export function encodeErrorDetail(code: number, error: ProtocolError): Uint8Array {
  const info = new BinaryWriter();
  info.uint32(10).string(error.reason);
  info.uint32(18).string(ERROR_DOMAIN);
  for (const [key, value] of Object.entries(error.metadata)) {
    info.uint32(26).fork();
    info.uint32(10).string(key).uint32(18).string(value);
    info.join();
  }
  const any = new BinaryWriter();
  any.uint32(10).string(TYPE_URL).uint32(18).bytes(info.finish());
  const status = new BinaryWriter();
  status.uint32(8).int32(code).uint32(18).string(error.message).uint32(26).bytes(any.finish());
  return status.finish();
}

/**
 * The first ErrorInfo of an encoded google.rpc.Status; null when there is none or the bytes are
 * damaged.
 */
export function decodeErrorDetail(bytes: Uint8Array): ErrorInfo | null {
  try {
    return decodeStatus(bytes);
  } catch {
    // A peer's damaged trailer must not hide the status code it came with.
    return null;
  }
}

/**
 * The refusal that a call ended with; null when it was something else (the connection, a deadline).
 * The detail wins; the bare numeric code of older peers is understood too.
 */
export function refusalOf(
  code: number,
  message: string,
  detail: Uint8Array | undefined,
): ProtocolError | null {
  const info = detail === undefined ? null : decodeErrorDetail(detail);
  if (info !== null && isReason(info.reason)) {
    return new ProtocolError(info.reason, message, info.metadata);
  }
  const reason = reasonOfCode(code);
  return reason === null ? null : new ProtocolError(reason, message, info?.metadata ?? {});
}

function isReason(name: string): name is Reason {
  return Object.hasOwn(REASONS, name);
}

function reasonOfCode(code: number): Reason | null {
  // 105 is Oxia's second name for the same thing: the stream was closed in favour of another.
  const wanted = code === 105 ? 104 : code;
  for (const [name, entry] of Object.entries(REASONS)) {
    if (entry.code === wanted && isReason(name)) return name;
  }
  return null;
}

function decodeStatus(bytes: Uint8Array): ErrorInfo | null {
  const reader = new BinaryReader(bytes);
  while (reader.pos < reader.len) {
    const tag = reader.uint32();
    if (tag !== 26) {
      reader.skip(tag & 7);
      continue;
    }
    const info = decodeAny(reader.bytes());
    if (info !== null) return info;
  }
  return null;
}

function decodeAny(bytes: Uint8Array): ErrorInfo | null {
  const reader = new BinaryReader(bytes);
  let type = "";
  let value: Uint8Array | null = null;
  while (reader.pos < reader.len) {
    const tag = reader.uint32();
    if (tag === 10) type = reader.string();
    else if (tag === 18) value = reader.bytes();
    else reader.skip(tag & 7);
  }
  return type === TYPE_URL && value !== null ? decodeInfo(value) : null;
}

function decodeInfo(bytes: Uint8Array): ErrorInfo {
  const reader = new BinaryReader(bytes);
  let reason = "";
  let domain = "";
  const metadata: (readonly [string, string])[] = [];
  while (reader.pos < reader.len) {
    const tag = reader.uint32();
    if (tag === 10) reason = reader.string();
    else if (tag === 18) domain = reader.string();
    else if (tag === 26) metadata.push(decodeMapEntry(reader.bytes()));
    else reader.skip(tag & 7);
  }
  // fromEntries, not assignment: a key named __proto__ is only a key.
  return { reason, domain, metadata: Object.fromEntries(metadata) };
}

function decodeMapEntry(bytes: Uint8Array): readonly [string, string] {
  const reader = new BinaryReader(bytes);
  let key = "";
  let value = "";
  while (reader.pos < reader.len) {
    const tag = reader.uint32();
    if (tag === 10) key = reader.string();
    else if (tag === 18) value = reader.string();
    else reader.skip(tag & 7);
  }
  return [key, value];
}
