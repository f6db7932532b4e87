/** Strings in saved rules: xtables_save_string (libxtables/xtables.c). */

const PLAIN = /^[A-Za-z0-9_-]+$/;

/** A leading space, then the string: bare when it is letters, digits, "_" and "-", else in double quotes. */
export function quoted(value: string): string {
  if (PLAIN.test(value)) return ` ${value}`;
  return ` "${value.replace(/["\\']/g, '\\$&')}"`;
}
