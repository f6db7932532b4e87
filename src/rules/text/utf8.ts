/** Text as the bytes that the kernel gets: UTF-8 (RFC 3629). */

/** Bytes of a character; a lone surrogate takes three, as U+FFFD does. */
function widthOf(character: string): number {
  const point = character.codePointAt(0)!;
  return point < 0x80 ? 1 : point < 0x800 ? 2 : point < 0x10000 ? 3 : 4;
}

/** How many bytes `text` takes, which is what the kernel's limits count. */
export function byteLength(text: string): number {
  let bytes = 0;
  for (const character of text) bytes += widthOf(character);
  return bytes;
}

/** The bytes of `text`; a lone surrogate becomes U+FFFD. */
export function utf8Bytes(text: string): Uint8Array {
  const bytes: number[] = [];
  for (const character of text) {
    let point = character.codePointAt(0)!;
    if (point >= 0xd800 && point < 0xe000) point = 0xfffd;
    if (point < 0x80) bytes.push(point);
    else if (point < 0x800) bytes.push(0xc0 | (point >> 6), 0x80 | (point & 0x3f));
    else if (point < 0x10000)
      bytes.push(0xe0 | (point >> 12), 0x80 | ((point >> 6) & 0x3f), 0x80 | (point & 0x3f));
    else
      bytes.push(
        0xf0 | (point >> 18),
        0x80 | ((point >> 12) & 0x3f),
        0x80 | ((point >> 6) & 0x3f),
        0x80 | (point & 0x3f),
      );
  }
  return Uint8Array.from(bytes);
}

/** The text of {@link utf8Bytes}. @throws URIError for bytes that are no UTF-8 */
export function utf8Text(bytes: Uint8Array): string {
  return decodeURIComponent(Array.from(bytes, (byte) => `%${byte.toString(16).padStart(2, '0')}`).join(''));
}

/** The longest start of `text` that is at most `limit` bytes: iptables cuts names to their field without a word. */
export function cutToBytes(text: string, limit: number): string {
  let length = 0;
  let end = 0;
  for (const character of text) {
    length += widthOf(character);
    if (length > limit) return text.slice(0, end);
    end += character.length;
  }
  return text;
}
