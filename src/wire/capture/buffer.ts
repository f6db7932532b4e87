/** Bytes that arrived and were not yet consumed, and how far into the file they begin. */
export class InputBuffer {
  #bytes: Uint8Array = new Uint8Array(0);
  #start = 0;
  #end = 0;
  /** File offset of the first byte not consumed. */
  position = 0;

  /** How many bytes wait. */
  get available(): number {
    return this.#end - this.#start;
  }

  /** Appends a copy of the chunk. */
  append(chunk: Uint8Array): void {
    if (this.#end + chunk.length > this.#bytes.length) {
      const waiting = this.available;
      const needed = waiting + chunk.length;
      // Moves to the front while the room is enough; doubles otherwise, so that tiny chunks stay linear.
      const target =
        needed <= this.#bytes.length / 2 ? this.#bytes : new Uint8Array(Math.max(needed * 2, 4096));
      target.set(this.#bytes.subarray(this.#start, this.#end));
      this.#bytes = target;
      this.#start = 0;
      this.#end = waiting;
    }
    this.#bytes.set(chunk, this.#end);
    this.#end += chunk.length;
  }

  /** A view over the first `length` waiting bytes, good until the next append. */
  peek(length: number): Uint8Array {
    return this.#bytes.subarray(this.#start, this.#start + length);
  }

  /** Lets go of the first `length` waiting bytes. */
  consume(length: number): void {
    this.#start += length;
    this.position += length;
  }
}
