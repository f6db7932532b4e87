/** UTF-8 in option values. The pure folders have no TextDecoder, so URI coding does it. */

/** Text of UTF-8 bytes; bytes that are not UTF-8 are read as Latin-1. */
export function decodeText(bytes: Uint8Array): string {
  const escaped = Array.from(bytes, (byte) => `%${byte.toString(16).padStart(2, '0')}`).join('');
  try {
    return decodeURIComponent(escaped);
  } catch {
    return Array.from(bytes, (byte) => String.fromCharCode(byte)).join('');
  }
}

/** UTF-8 bytes of text; lone surrogates become U+FFFD. */
export function encodeText(text: string): Uint8Array {
  const wellFormed = Array.from(text, (character) =>
    /^[\ud800-\udfff]$/.test(character) ? '\ufffd' : character,
  ).join('');
  const bytes: number[] = [];
  const escaped = encodeURIComponent(wellFormed);
  for (let at = 0; at < escaped.length; at++) {
    if (escaped[at] !== '%') bytes.push(escaped.charCodeAt(at));
    else {
      bytes.push(Number.parseInt(escaped.slice(at + 1, at + 3), 16));
      at += 2;
    }
  }
  return Uint8Array.from(bytes);
}
