/** Index of a string section: finds the offset of a name without decoding the others. */

/** Open addressing over FNV-1a of the strings' bytes; built in one pass. */
export class NameIndex {
  readonly #strings: Uint8Array;
  readonly #slots: Int32Array;
  readonly #mask: number;

  /** @param strings the section: NUL-terminated strings, the first one empty */
  constructor(strings: Uint8Array) {
    this.#strings = strings;
    let count = 0;
    for (let at = 0; at < strings.length; at++) if (strings[at] === 0) count++;
    let size = 16;
    while (size < count * 2) size *= 2;
    this.#mask = size - 1;
    this.#slots = new Int32Array(size).fill(-1);
    let start = 0;
    let hash = FNV_BASIS;
    for (let at = 0; at < strings.length; at++) {
      const byte = strings[at]!;
      if (byte !== 0) {
        hash = Math.imul(hash ^ byte, FNV_PRIME);
        continue;
      }
      let slot = hash & this.#mask;
      while (this.#slots[slot] !== -1) slot = (slot + 1) & this.#mask;
      this.#slots[slot] = start;
      start = at + 1;
      hash = FNV_BASIS;
    }
  }

  /** Offsets at which exactly this string stands (one, where the writer merged equal strings). */
  find(name: string): number[] {
    const wanted = encodeAscii(name);
    if (wanted === undefined) return [];
    let hash = FNV_BASIS;
    for (const byte of wanted) hash = Math.imul(hash ^ byte, FNV_PRIME);
    const found: number[] = [];
    for (let slot = hash & this.#mask; this.#slots[slot] !== -1; slot = (slot + 1) & this.#mask) {
      const start = this.#slots[slot]!;
      if (
        this.#strings[start + wanted.length] === 0 &&
        wanted.every((byte, i) => this.#strings[start + i] === byte)
      ) {
        found.push(start);
      }
    }
    return found;
  }
}

const FNV_BASIS = 0x811c9dc5 | 0;
const FNV_PRIME = 0x01000193;

/** Identifiers of C are ASCII; anything else is in no BTF. */
function encodeAscii(text: string): Uint8Array | undefined {
  const bytes = new Uint8Array(text.length);
  for (let index = 0; index < text.length; index++) {
    const code = text.charCodeAt(index);
    if (code === 0 || code > 0x7f) return undefined;
    bytes[index] = code;
  }
  return bytes;
}
