import fs from "node:fs";

/** A file that a trace is written to while nothing else may touch a file. */
export interface TraceFile {
  readonly write: (line: string) => void;
  /** Resolves when everything is written. */
  readonly end: () => Promise<void>;
}

/** Taken before the trap takes them away. */
const real = { ...fs };

/** Writes a trace, line by line, to the file `path`. */
export function traceFile(path: string): TraceFile {
  const stream = fs.createWriteStream(path, { fs: real });
  return {
    write: (line) => {
      stream.write(`${line}\n`);
    },
    end: () =>
      new Promise((resolve) => {
        stream.end(resolve);
      }),
  };
}
