/**
 * Has the kernel put what a connection receives where it belongs. By itself Node reads into a new
 * buffer of 64 KiB each time: to make, to copy from and to collect those took a receiver of bulk
 * two fifths of its processor time.
 */
import { Socket } from "node:net";

/** Who takes what is read. */
export interface ReadingPlace {
  /** Where the next bytes belong; never empty. */
  readonly room: () => Uint8Array;
  /** So many bytes are in the room that was given last. */
  readonly filled: (count: number) => void;
  /** Bytes that were read elsewhere, before those. Not called before the present turn ends. */
  readonly before: (data: Buffer) => void;
}

const FIRST_READ_BYTES = 4 * 1024;

/**
 * A socket on the connection of `socket`, which came from a server and must not be used any more;
 * each is destroyed with the other. Null, and `socket` is as it was, where Node keeps its handle
 * elsewhere: only a socket's maker can say where it reads into, and servers have no option for it.
 * A socket that is more than one of TCP, like TLS's, is left to read by itself.
 */
export function readingInto(socket: Socket, place: ReadingPlace): Socket | null {
  const handle: unknown = Reflect.get(socket, "_handle");
  if (socket.constructor !== Socket) return null;
  if (typeof handle !== "object" || handle === null || !("useUserBuffer" in handle)) return null;
  const already: Buffer | null = socket.read();
  Reflect.set(socket, "_handle", null);
  // The first read is wanted before it is known what came already.
  const first = Buffer.alloc(FIRST_READ_BYTES);
  let begun = false;
  const options = {
    handle,
    onread: {
      buffer: () => (begun ? place.room() : first),
      callback: (count: number, into: Uint8Array) => {
        begun = true;
        if (into === first) place.before(first.subarray(0, count));
        else place.filled(count);
        return true;
      },
    },
  };
  const direct = new Socket(options as object);
  socket.once("close", () => direct.destroy());
  direct.once("close", () => socket.destroy());
  if (already !== null) process.nextTick(place.before, already);
  return direct;
}
