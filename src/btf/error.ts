/**
 * What is wrong with type information.
 *
 * - `BTF_MAGIC`      not BTF, or of another byte order or version
 * - `BTF_TRUNCATED`  a section or a type runs past the end
 * - `BTF_KIND`       a kind of type that is newer than this reader
 * - `BTF_TYPE`       a type id that does not exist, or types that refer to each other in a circle
 */
export type BtfErrorCode = 'BTF_MAGIC' | 'BTF_TRUNCATED' | 'BTF_KIND' | 'BTF_TYPE';

/** Thrown by the BTF reader; `code` is stable. */
export class BtfError extends Error {
  readonly code: BtfErrorCode;
  readonly hint: string | undefined;
  constructor(code: BtfErrorCode, message: string, hint?: string) {
    super(message);
    this.name = 'BtfError';
    this.code = code;
    this.hint = hint;
  }
}
