/** Strings in saved rules: xtables_save_string (libxtables/xtables.c). */

const PLAIN = /^[A-Za-z0-9_-]+$/;

/** A leading space, then the string: bare when it is letters, digits, "_" and "-", else in double quotes. */
export function quoted(value: string): string {
  if (PLAIN.test(value)) return ` ${value}`;
  return ` "${value.replace(/["\\']/g, '\\$&')}"`;
}

/** Number of bytes of a string in UTF-8, which is what the kernel's limits count. */
export function byteLength(text: string): number {
  let bytes = 0;
  for (let index = 0; index < text.length; index++) {
    const unit = text.charCodeAt(index);
    if (unit < 0x80) bytes += 1;
    else if (unit < 0x800) bytes += 2;
    else if (unit >= 0xd800 && unit < 0xdc00 && index + 1 < text.length) {
      bytes += 4;
      index++;
    } else bytes += 3;
  }
  return bytes;
}
