/** Bytes of a page of memory, and what direct writes are aligned to on every common device. */
export const MEMORY_PAGE_BYTES = 4096;
const WASM_PAGE_BYTES = 64 * 1024;

/**
 * Memory that begins at a page's start, zeroed, as direct writes to a disk need it (open(2),
 * O_DIRECT). The language promises no alignment of its buffers; memory of WebAssembly begins at a
 * page, since it is mapped. Where none is to be had, a buffer of any alignment, which is written
 * through the page cache.
 */
export function pageAlignedBuffer(bytes: number): Uint8Array {
  const pages = Math.ceil(bytes / WASM_PAGE_BYTES);
  try {
    const memory = new WebAssembly.Memory({ initial: pages, maximum: pages });
    return new Uint8Array(memory.buffer, 0, bytes);
  } catch {
    return new Uint8Array(bytes);
  }
}
