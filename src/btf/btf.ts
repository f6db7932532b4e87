/**
 * Reader of BPF Type Format, the kernel's description of its own types (`Documentation/bpf/btf.rst`).
 *
 * Bytes in, answers out: what `/sys/kernel/btf/vmlinux` holds (5 to 10 MB) is walked once for the types' places;
 * names are indexed on the first look-up and nothing else is decoded until it is asked for.
 */
import { BtfError } from './error.ts';
import * as kinds from './kind.ts';
import { NameIndex } from './names.ts';

const MAGIC = 0xeb9f;
const HEADER_BYTES = 24;
/** Chains of typedefs, qualifiers and arrays end long before this. */
const MAX_DEPTH = 64;

/** A type's head; what follows it depends on the kind. */
export interface BtfType {
  readonly id: number;
  readonly kind: number;
  readonly name: string;
  /** Elements: members, enumerators, parameters or variables. */
  readonly count: number;
  /** The kind's flag: bitfield offsets for structures, signedness for enumerations, union for forward declarations. */
  readonly flag: boolean;
  /** Byte size or type id, as the kind has it. */
  readonly sizeOrType: number;
}

/** A structure's member, as declared. */
export interface BtfMember {
  /** Empty for anonymous structures and unions. */
  readonly name: string;
  readonly type: number;
  readonly bitOffset: number;
  /** Bits of a bitfield; 0 for ordinary members. */
  readonly bits: number;
}

/** Where a member lies, counted from the outermost structure. */
export interface MemberPlace {
  readonly type: number;
  readonly bitOffset: number;
  /** First byte; for bitfields, the byte that holds the first bit. */
  readonly byteOffset: number;
  readonly bits: number;
  /** Bytes of the member's type. */
  readonly size: number;
}

/**
 * Reads BTF.
 *
 * @param bytes a whole BTF blob, little endian
 * @param base the kernel's BTF, when `bytes` is a module's (its ids and strings continue the base's)
 * @throws BtfError `BTF_MAGIC`, `BTF_TRUNCATED`, `BTF_KIND`
 */
export function readBtf(bytes: Uint8Array, base?: Btf): Btf {
  return new Btf(bytes, base);
}

export class Btf {
  /** Smallest id of this blob; 1 without a base. */
  readonly firstId: number;
  /** One more than the largest id. */
  readonly endId: number;
  readonly #base: Btf | undefined;
  readonly #types: DataView;
  readonly #strings: Uint8Array;
  readonly #firstString: number;
  /** Offset of each own type in the type section. */
  readonly #places: Uint32Array;
  #names: NameIndex | undefined;

  constructor(bytes: Uint8Array, base?: Btf) {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    if (bytes.length < HEADER_BYTES || view.getUint16(0, true) !== MAGIC || bytes[2] !== 1) {
      throw new BtfError(
        'BTF_MAGIC',
        'this is not little-endian BTF of version 1',
        'the kernel offers its own at /sys/kernel/btf/vmlinux when built with CONFIG_DEBUG_INFO_BTF',
      );
    }
    const header = view.getUint32(4, true);
    const section = (offsetAt: number, what: string): Uint8Array => {
      const start = header + view.getUint32(offsetAt, true);
      const end = start + view.getUint32(offsetAt + 4, true);
      if (end > bytes.length)
        throw new BtfError('BTF_TRUNCATED', `the ${what} section runs past the end of the data`);
      return bytes.subarray(start, end);
    };
    const types = section(8, 'type');
    this.#strings = section(16, 'string');
    if (this.#strings.length > 0 && this.#strings.at(-1) !== 0) {
      throw new BtfError('BTF_TRUNCATED', 'the last string does not end');
    }
    this.#types = new DataView(types.buffer, types.byteOffset, types.byteLength);
    this.#base = base;
    this.firstId = base?.endId ?? 1;
    this.#firstString = base === undefined ? 0 : base.#firstString + base.#strings.length;
    this.#places = placesOfTypes(this.#types);
    this.endId = this.firstId + this.#places.length;
  }

  /** The type with this id. Id 0 is `void`. @throws BtfError `BTF_TYPE` */
  type(id: number): BtfType {
    if (id === 0) return { id, kind: 0, name: 'void', count: 0, flag: false, sizeOrType: 0 };
    if (id < this.firstId && this.#base !== undefined) return this.#base.type(id);
    const at = this.#place(id);
    const info = this.#types.getUint32(at + 4, true);
    return {
      id,
      kind: (info >>> 24) & 0x1f,
      name: this.#string(this.#types.getUint32(at, true)),
      count: info & 0xffff,
      flag: info >>> 31 === 1,
      sizeOrType: this.#types.getUint32(at + 8, true),
    };
  }

  /** Id of the type of this kind and name; `undefined` when there is none. Own types come before the base's. */
  find(kind: number, name: string): number | undefined {
    for (const nameOffset of this.#offsetsOf(name)) {
      for (const [index, at] of this.#places.entries()) {
        if (this.#types.getUint32(at, true) !== nameOffset) continue;
        if (((this.#types.getUint32(at + 4, true) >>> 24) & 0x1f) === kind) return this.firstId + index;
      }
    }
    return this.#base?.find(kind, name);
  }

  /** Id of a kernel function. */
  functionId(name: string): number | undefined {
    return this.find(kinds.BTF_KIND_FUNC, name);
  }

  /** Id of a structure or union. */
  structId(name: string): number | undefined {
    return this.find(kinds.BTF_KIND_STRUCT, name) ?? this.find(kinds.BTF_KIND_UNION, name);
  }

  /** Id of a global variable. */
  variableId(name: string): number | undefined {
    return this.find(kinds.BTF_KIND_VAR, name);
  }

  /** Bytes of a structure or union; `undefined` when there is none of this name. */
  structSize(name: string): number | undefined {
    const id = this.structId(name);
    return id === undefined ? undefined : this.type(id).sizeOrType;
  }

  /** Members of a structure or union in order. @throws BtfError `BTF_TYPE` when the id is neither */
  members(id: number): BtfMember[] {
    if (id < this.firstId && this.#base !== undefined) return this.#base.members(id);
    const type = this.type(id);
    if (type.kind !== kinds.BTF_KIND_STRUCT && type.kind !== kinds.BTF_KIND_UNION) {
      throw new BtfError('BTF_TYPE', `type ${id} (${type.name}) is not a structure`);
    }
    const first = this.#place(id) + kinds.TYPE_HEAD_BYTES;
    return Array.from({ length: type.count }, (_, index) => {
      const at = first + index * 12;
      const offset = this.#types.getUint32(at + 8, true);
      return {
        name: this.#string(this.#types.getUint32(at, true)),
        type: this.#types.getUint32(at + 4, true),
        bitOffset: type.flag ? offset & 0xffffff : offset,
        bits: type.flag ? offset >>> 24 : 0,
      };
    });
  }

  /**
   * Place of a member. `path` steps through embedded structures by dots ("nd_net.net"); anonymous structures and
   * unions are looked through, as in C. `undefined` when the structure or the member is not there.
   */
  member(struct: string, path: string): MemberPlace | undefined {
    const id = this.structId(struct);
    if (id === undefined) return undefined;
    let place = { type: id, bitOffset: 0, bits: 0 };
    for (const name of path.split('.')) {
      const type = this.type(this.resolve(place.type));
      if (type.kind !== kinds.BTF_KIND_STRUCT && type.kind !== kinds.BTF_KIND_UNION) return undefined;
      const found = this.#memberOf(type.id, name, new Set());
      if (found === undefined) return undefined;
      place = { type: found.type, bitOffset: place.bitOffset + found.bitOffset, bits: found.bits };
    }
    return { ...place, byteOffset: place.bitOffset >>> 3, size: this.sizeOf(place.type) };
  }

  /** Searches a structure and the anonymous ones in it, each once: damaged types may nest in circles. */
  #memberOf(id: number, name: string, seen: Set<number>): Omit<BtfMember, 'name'> | undefined {
    seen.add(id);
    for (const member of this.members(id)) {
      if (member.name === name) return member;
      if (member.name !== '') continue;
      const inner = this.type(this.resolve(member.type));
      if (inner.kind !== kinds.BTF_KIND_STRUCT && inner.kind !== kinds.BTF_KIND_UNION) continue;
      if (seen.has(inner.id)) continue;
      const found = this.#memberOf(inner.id, name, seen);
      if (found !== undefined) return { ...found, bitOffset: member.bitOffset + found.bitOffset };
    }
    return undefined;
  }

  /** Follows typedefs, qualifiers and type tags to the type itself. @throws BtfError `BTF_TYPE` on a circle */
  resolve(id: number): number {
    let at = id;
    for (let depth = 0; depth < MAX_DEPTH; depth++) {
      const type = this.type(at);
      switch (type.kind) {
        case kinds.BTF_KIND_TYPEDEF:
        case kinds.BTF_KIND_VOLATILE:
        case kinds.BTF_KIND_CONST:
        case kinds.BTF_KIND_RESTRICT:
        case kinds.BTF_KIND_TYPE_TAG:
          at = type.sizeOrType;
          break;
        default:
          return at;
      }
    }
    throw new BtfError('BTF_TYPE', `the chain of typedefs from type ${id} does not end`);
  }

  /** Bytes of a type; 0 for what has no size (void, functions, forward declarations). Pointers are 8 bytes. */
  sizeOf(id: number, depth = 0): number {
    if (depth > MAX_DEPTH) throw new BtfError('BTF_TYPE', `type ${id} contains itself`);
    const type = this.type(this.resolve(id));
    switch (type.kind) {
      case kinds.BTF_KIND_PTR:
        return 8;
      case kinds.BTF_KIND_ARRAY: {
        const [element, length] = this.#array(type.id);
        return this.sizeOf(element, depth + 1) * length;
      }
      case kinds.BTF_KIND_INT:
      case kinds.BTF_KIND_STRUCT:
      case kinds.BTF_KIND_UNION:
      case kinds.BTF_KIND_ENUM:
      case kinds.BTF_KIND_ENUM64:
      case kinds.BTF_KIND_FLOAT:
      case kinds.BTF_KIND_DATASEC:
        return type.sizeOrType;
      case kinds.BTF_KIND_VAR:
        return this.sizeOf(type.sizeOrType, depth + 1);
      default:
        return 0;
    }
  }

  #array(id: number): [element: number, length: number] {
    if (id < this.firstId && this.#base !== undefined) return this.#base.#array(id);
    const at = this.#place(id) + kinds.TYPE_HEAD_BYTES;
    return [this.#types.getUint32(at, true), this.#types.getUint32(at + 8, true)];
  }

  /** Enumerators of an enumeration by name; `undefined` when there is none of this name. */
  enumeration(name: string): ReadonlyMap<string, bigint> | undefined {
    const id = this.find(kinds.BTF_KIND_ENUM, name) ?? this.find(kinds.BTF_KIND_ENUM64, name);
    return id === undefined ? undefined : this.#enumerators(id);
  }

  /** Value of an enumerator, whatever enumeration it belongs to; `undefined` when there is none. */
  enumerator(name: string): bigint | undefined {
    for (const nameOffset of this.#offsetsOf(name)) {
      for (const at of this.#places) {
        const info = this.#types.getUint32(at + 4, true);
        const kind = (info >>> 24) & 0x1f;
        if (kind !== kinds.BTF_KIND_ENUM && kind !== kinds.BTF_KIND_ENUM64) continue;
        const stride = kind === kinds.BTF_KIND_ENUM ? 8 : 12;
        for (let index = 0; index < (info & 0xffff); index++) {
          const element = at + kinds.TYPE_HEAD_BYTES + index * stride;
          if (this.#types.getUint32(element, true) === nameOffset)
            return this.#enumValue(element, kind, info >>> 31 === 1);
        }
      }
    }
    return this.#base?.enumerator(name);
  }

  #enumerators(id: number): ReadonlyMap<string, bigint> {
    if (id < this.firstId && this.#base !== undefined) return this.#base.#enumerators(id);
    const type = this.type(id);
    const stride = type.kind === kinds.BTF_KIND_ENUM ? 8 : 12;
    const values = new Map<string, bigint>();
    for (let index = 0; index < type.count; index++) {
      const element = this.#place(id) + kinds.TYPE_HEAD_BYTES + index * stride;
      values.set(
        this.#string(this.#types.getUint32(element, true)),
        this.#enumValue(element, type.kind, type.flag),
      );
    }
    return values;
  }

  #enumValue(at: number, kind: number, signed: boolean): bigint {
    const low = this.#types.getUint32(at + 4, true);
    if (kind === kinds.BTF_KIND_ENUM) return BigInt(signed ? low | 0 : low);
    const value = (BigInt(this.#types.getUint32(at + 8, true)) << 32n) | BigInt(low);
    return signed ? BigInt.asIntN(64, value) : value;
  }

  #place(id: number): number {
    const at = this.#places[id - this.firstId];
    if (at === undefined) throw new BtfError('BTF_TYPE', `there is no type ${id}`);
    return at;
  }

  #string(offset: number): string {
    if (offset < this.#firstString && this.#base !== undefined) return this.#base.#string(offset);
    const start = offset - this.#firstString;
    const end = this.#strings.indexOf(0, start);
    if (end === -1 || start < 0)
      throw new BtfError('BTF_TRUNCATED', `there is no string at offset ${offset}`);
    let text = '';
    for (let at = start; at < end; at++) text += String.fromCharCode(this.#strings[at]!);
    return text;
  }

  /** Offsets of a name, counted as types of this blob count them. */
  #offsetsOf(name: string): number[] {
    this.#names ??= new NameIndex(this.#strings);
    const own = this.#names.find(name).map((offset) => offset + this.#firstString);
    return this.#base === undefined ? own : [...own, ...this.#base.#offsetsOf(name)];
  }
}

function placesOfTypes(types: DataView): Uint32Array {
  let places = new Uint32Array(1024);
  let count = 0;
  for (let at = 0; at < types.byteLength; ) {
    if (at + kinds.TYPE_HEAD_BYTES > types.byteLength)
      throw new BtfError('BTF_TRUNCATED', 'the last type is cut off');
    const info = types.getUint32(at + 4, true);
    const kind = (info >>> 24) & 0x1f;
    const tail = kinds.tailBytes(kind, info & 0xffff);
    if (tail === undefined) {
      throw new BtfError(
        'BTF_KIND',
        `type ${count + 1} is of unknown kind ${kind}`,
        'the kernel is newer than this reader',
      );
    }
    if (count === places.length) {
      const larger = new Uint32Array(places.length * 2);
      larger.set(places);
      places = larger;
    }
    places[count++] = at;
    at += kinds.TYPE_HEAD_BYTES + tail;
    if (at > types.byteLength) throw new BtfError('BTF_TRUNCATED', 'the last type is cut off');
  }
  return places.slice(0, count);
}
