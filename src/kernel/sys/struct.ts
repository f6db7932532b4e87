/**
 * C structs as field tables: one table gives the encoder, the decoder and their types.
 *
 * Little endian, as every machine that the kernel engine runs on. Bytes that the table does not name are zero: bpf(2)
 * and netlink refuse (E2BIG, EINVAL) what they do not know unless it is zero.
 */
import { driver } from '../ffi/index.ts';

/** `ptr`: a u64 that holds the address of memory given as a typed array (or a plain address). */
export type FieldKind =
  | 'u8'
  | 'u16'
  | 'u16be'
  | 'u32'
  | 'u32be'
  | 's32'
  | 'u64'
  | 's64'
  | 'ptr'
  | `name${number}`;

export type FieldTable = Readonly<Record<string, readonly [offset: number, kind: FieldKind]>>;

type FieldInput<K extends FieldKind> = K extends 'ptr'
  ? ArrayBufferView | bigint
  : K extends 'u64' | 's64'
    ? bigint | number
    : K extends `name${number}`
      ? string
      : number;

type FieldOutput<K extends FieldKind> = K extends 'u64' | 's64' | 'ptr'
  ? bigint
  : K extends `name${number}`
    ? string
    : number;

/** A struct: sizeof in bytes and where its fields lie. Plain data, `as const`. */
export interface Layout {
  readonly size: number;
  readonly fields: FieldTable;
}

/** Values to encode; fields left out are zero. */
export type StructInput<L extends Layout> = {
  readonly [N in keyof L['fields']]?: FieldInput<L['fields'][N][1]> | undefined;
};
/** Values as decoded. */
export type StructOutput<L extends Layout> = {
  readonly [N in keyof L['fields']]: FieldOutput<L['fields'][N][1]>;
};

/** New zeroed bytes with the given fields set. What `ptr` fields point to must be kept alive by the caller. */
export function encodeStruct<const L extends Layout>(
  layout: L,
  values: StructInput<L>,
): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(layout.size);
  writeStruct(layout, bytes, values);
  return bytes;
}

/** Sets the given fields in `bytes`, the struct beginning at `base`; leaves the others. */
export function writeStruct<const L extends Layout>(
  layout: L,
  bytes: Uint8Array,
  values: StructInput<L>,
  base = 0,
): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (const [name, [offset, kind]] of Object.entries(layout.fields)) {
    const value = values[name as keyof L['fields']];
    if (value !== undefined) writeField(view, bytes, base + offset, kind, value);
  }
}

/** Reads all fields; those beyond the end of `bytes` (an older kernel's shorter struct) read as zero. */
export function decodeStruct<const L extends Layout>(
  layout: L,
  bytes: Uint8Array,
  base = 0,
): StructOutput<L> {
  const rest = bytes.subarray(base);
  const whole = rest.length >= layout.size ? rest : padded(rest, layout.size);
  const view = new DataView(whole.buffer, whole.byteOffset, whole.byteLength);
  const out: Record<string, number | bigint | string> = {};
  for (const [name, [offset, kind]] of Object.entries(layout.fields))
    out[name] = readField(view, whole, offset, kind);
  return out as StructOutput<L>;
}

function padded(bytes: Uint8Array, size: number): Uint8Array {
  const whole = new Uint8Array(size);
  whole.set(bytes);
  return whole;
}

function nameLength(kind: FieldKind): number {
  return Number(kind.slice('name'.length));
}

function writeField(
  view: DataView,
  bytes: Uint8Array,
  offset: number,
  kind: FieldKind,
  value: number | bigint | string | ArrayBufferView,
): void {
  switch (kind) {
    case 'u8':
      view.setUint8(offset, value as number);
      break;
    case 'u16':
      view.setUint16(offset, value as number, true);
      break;
    case 'u16be':
      view.setUint16(offset, value as number);
      break;
    case 'u32':
      view.setUint32(offset, value as number, true);
      break;
    case 'u32be':
      view.setUint32(offset, value as number);
      break;
    case 's32':
      view.setInt32(offset, value as number, true);
      break;
    case 'u64':
    case 's64':
      view.setBigUint64(offset, BigInt.asUintN(64, BigInt(value as number | bigint)), true);
      break;
    case 'ptr':
      view.setBigUint64(
        offset,
        typeof value === 'bigint' ? value : pointerTo(value as ArrayBufferView),
        true,
      );
      break;
    default: {
      const room = nameLength(kind);
      const text = new TextEncoder().encode(value as string).subarray(0, room - 1);
      bytes.fill(0, offset, offset + room);
      bytes.set(text, offset);
    }
  }
}

function pointerTo(memory: ArrayBufferView): bigint {
  return memory.byteLength === 0 ? 0n : driver().addressOf(memory);
}

function readField(
  view: DataView,
  bytes: Uint8Array,
  offset: number,
  kind: FieldKind,
): number | bigint | string {
  switch (kind) {
    case 'u8':
      return view.getUint8(offset);
    case 'u16':
      return view.getUint16(offset, true);
    case 'u16be':
      return view.getUint16(offset);
    case 'u32':
      return view.getUint32(offset, true);
    case 'u32be':
      return view.getUint32(offset);
    case 's32':
      return view.getInt32(offset, true);
    case 's64':
      return view.getBigInt64(offset, true);
    case 'u64':
    case 'ptr':
      return view.getBigUint64(offset, true);
    default:
      return cString(bytes.subarray(offset, offset + nameLength(kind)));
  }
}

/** The text before the first NUL. */
export function cString(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  return new TextDecoder().decode(end < 0 ? bytes : bytes.subarray(0, end));
}

/** The text with its NUL, for arguments of type `const char *`. */
export function cStringBytes(text: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(`${text}\0`);
}
