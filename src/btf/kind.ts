/** Kinds of BTF types (`include/uapi/linux/btf.h`) and how many bytes follow a type's 12-byte head. */

export const BTF_KIND_INT = 1;
export const BTF_KIND_PTR = 2;
export const BTF_KIND_ARRAY = 3;
export const BTF_KIND_STRUCT = 4;
export const BTF_KIND_UNION = 5;
export const BTF_KIND_ENUM = 6;
export const BTF_KIND_FWD = 7;
export const BTF_KIND_TYPEDEF = 8;
export const BTF_KIND_VOLATILE = 9;
export const BTF_KIND_CONST = 10;
export const BTF_KIND_RESTRICT = 11;
export const BTF_KIND_FUNC = 12;
export const BTF_KIND_FUNC_PROTO = 13;
export const BTF_KIND_VAR = 14;
export const BTF_KIND_DATASEC = 15;
export const BTF_KIND_FLOAT = 16;
export const BTF_KIND_DECL_TAG = 17;
export const BTF_KIND_TYPE_TAG = 18;
export const BTF_KIND_ENUM64 = 19;

/** Bytes of the type's head: name_off, info, size or type. */
export const TYPE_HEAD_BYTES = 12;

/** Bytes after the head, by kind: `[fixed, per element]`. */
const TAIL: readonly (readonly [fixed: number, element: number] | undefined)[] = [
  undefined,
  [4, 0],
  [0, 0],
  [12, 0],
  [0, 12],
  [0, 12],
  [0, 8],
  [0, 0],
  [0, 0],
  [0, 0],
  [0, 0],
  [0, 0],
  [0, 0],
  [0, 8],
  [4, 0],
  [0, 12],
  [0, 0],
  [4, 0],
  [0, 0],
  [0, 12],
];

/** Bytes after the head of a type of this kind with so many elements; `undefined` for an unknown kind. */
export function tailBytes(kind: number, elements: number): number | undefined {
  const tail = TAIL[kind];
  return tail === undefined ? undefined : tail[0] + tail[1] * elements;
}
