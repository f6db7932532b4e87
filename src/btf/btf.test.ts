import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { runs } from '../../test/support/instructions.ts';
import { type Btf, readBtf } from './btf.ts';
import { BtfError } from './error.ts';
import * as kinds from './kind.ts';

/** Writes BTF: enough of it to test the reader. */
class Writer {
  readonly #types: number[] = [];
  #strings = '\0';
  readonly #firstString: number;
  #next: number;
  constructor(firstId = 1, firstString = 0) {
    this.#next = firstId;
    this.#firstString = firstString;
    if (firstString > 0) this.#strings = '';
  }
  name(text: string): number {
    if (text === '') return 0;
    const offset = this.#firstString + this.#strings.length;
    this.#strings += `${text}\0`;
    return offset;
  }
  type(kind: number, name: string, sizeOrType: number, tail: number[] = [], count = 0, flag = false): number {
    this.#types.push(this.name(name), ((flag ? 1 : 0) << 31) | (kind << 24) | count, sizeOrType, ...tail);
    return this.#next++;
  }
  struct(
    kind: number,
    name: string,
    size: number,
    members: [name: string, type: number, offset: number][],
    flag = false,
  ): number {
    const tail = members.flatMap(([member, type, offset]) => [this.name(member), type, offset]);
    return this.type(kind, name, size, tail, members.length, flag);
  }
  get stringBytes(): number {
    return this.#strings.length;
  }
  bytes(): Uint8Array {
    const types = new Uint8Array(Int32Array.from(this.#types).buffer);
    const out = new Uint8Array(24 + types.length + this.#strings.length);
    const view = new DataView(out.buffer);
    view.setUint16(0, 0xeb9f, true);
    out[2] = 1;
    for (const [index, value] of [24, 0, types.length, types.length, this.#strings.length].entries()) {
      view.setUint32(4 + index * 4, value, true);
    }
    out.set(types, 24);
    out.set(
      Uint8Array.from(this.#strings, (c) => c.charCodeAt(0)),
      24 + types.length,
    );
    return out;
  }
}

function sample(): { bytes: Uint8Array; strings: number; types: number } {
  const writer = new Writer();
  const u32 = writer.type(kinds.BTF_KIND_INT, 'unsigned int', 4, [32]);
  const u8 = writer.type(kinds.BTF_KIND_INT, 'unsigned char', 1, [8]);
  const pointer = writer.type(kinds.BTF_KIND_PTR, '', 0);
  const alias = writer.type(kinds.BTF_KIND_TYPEDEF, 'u32_alias', u32);
  const constant = writer.type(kinds.BTF_KIND_CONST, '', alias);
  const name = writer.type(kinds.BTF_KIND_ARRAY, '', 0, [u8, u32, 16]);
  const inner = writer.struct(kinds.BTF_KIND_STRUCT, 'possible', 8, [['net', pointer, 0]]);
  const union = writer.struct(kinds.BTF_KIND_UNION, '', 8, [
    ['hash', u32, 0],
    ['head', pointer, 0],
  ]);
  const anonymous = writer.struct(kinds.BTF_KIND_STRUCT, '', 16, [
    ['before', u32, 0],
    ['', union, 64],
  ]);
  writer.struct(
    kinds.BTF_KIND_STRUCT,
    'device',
    64,
    [
      ['index', constant, 0],
      ['flag_a', u8, (3 << 24) | 32],
      ['flag_b', u8, (5 << 24) | 35],
      ['', anonymous, 64],
      ['nd_net', inner, 192],
      ['name', name, 256],
    ],
    true,
  );
  writer.type(
    kinds.BTF_KIND_ENUM,
    'verdict',
    4,
    [writer.name('NF_DROP'), 0, writer.name('NF_LOW'), -5],
    2,
    true,
  );
  writer.type(kinds.BTF_KIND_ENUM64, 'wide', 8, [writer.name('WIDE'), 1, 2], 1);
  const proto = writer.type(kinds.BTF_KIND_FUNC_PROTO, '', 0);
  writer.type(kinds.BTF_KIND_FUNC, 'device', proto);
  const variable = writer.type(kinds.BTF_KIND_VAR, 'jiffies', u32, [1]);
  return { bytes: writer.bytes(), strings: writer.stringBytes, types: variable };
}

describe('BTF', () => {
  const btf = readBtf(sample().bytes);

  test('members, through anonymous structures and unions, by path, with bitfields', () => {
    const at = (path: string): number | undefined => btf.member('device', path)?.byteOffset;
    expect([
      at('index'),
      at('before'),
      at('hash'),
      at('head'),
      at('nd_net'),
      at('nd_net.net'),
      at('name'),
    ]).toEqual([0, 8, 16, 16, 24, 24, 32]);
    expect(btf.member('device', 'flag_b')).toMatchObject({ bitOffset: 35, byteOffset: 4, bits: 5 });
    expect(btf.member('device', 'index')).toMatchObject({ size: 4, bits: 0 });
    expect(btf.member('device', 'name')?.size).toBe(16);
    expect(btf.member('device', 'head')?.size).toBe(8);
    expect([at('absent'), at('index.x'), at('nd_net.x')]).toEqual([undefined, undefined, undefined]);
    expect(btf.member('absent', 'x')).toBeUndefined();
    expect(btf.structSize('device')).toBe(64);
  });

  test('one name, several kinds', () => {
    const struct = btf.structId('device')!;
    const func = btf.functionId('device')!;
    expect(btf.type(struct).kind).toBe(kinds.BTF_KIND_STRUCT);
    expect(btf.type(func).kind).toBe(kinds.BTF_KIND_FUNC);
    expect(btf.functionId('absent')).toBeUndefined();
    expect(btf.functionId('')).toBeUndefined();
    expect(btf.functionId('näme')).toBeUndefined();
    expect(btf.type(btf.variableId('jiffies')!).name).toBe('jiffies');
  });

  test('enumerations of 32 and 64 bits', () => {
    expect(btf.enumeration('verdict')).toEqual(
      new Map([
        ['NF_DROP', 0n],
        ['NF_LOW', -5n],
      ]),
    );
    expect(btf.enumerator('NF_LOW')).toBe(-5n);
    expect(btf.enumerator('WIDE')).toBe(0x2_0000_0001n);
    expect(btf.enumerator('device')).toBeUndefined();
    expect(btf.enumeration('device')).toBeUndefined();
  });

  test("a module's BTF continues the kernel's", () => {
    const { bytes, strings, types } = sample();
    const base = readBtf(bytes);
    const writer = new Writer(types + 1, strings);
    const id = writer.struct(kinds.BTF_KIND_STRUCT, 'nf_conn', 4, [['mark', 1, 0]]);
    const module = readBtf(writer.bytes(), base);
    expect(module.structId('nf_conn')).toBe(id);
    expect(module.member('nf_conn', 'mark')).toMatchObject({ byteOffset: 0, size: 4 });
    expect(module.member('device', 'hash')?.byteOffset).toBe(16);
    expect(base.structId('nf_conn')).toBeUndefined();
  });

  test('damaged bytes give a typed error or an answer, never anything else', () => {
    const { bytes } = sample();
    const ask = (data: Uint8Array): void => {
      const damaged: Btf = readBtf(data);
      damaged.member('device', 'nd_net.net');
      damaged.enumerator('NF_LOW');
      for (let id = 0; id < damaged.endId; id++) damaged.sizeOf(id);
    };
    const survive = (data: Uint8Array): void => {
      try {
        ask(data);
      } catch (error) {
        expect(error).toBeInstanceOf(BtfError);
      }
    };
    for (let length = 0; length < bytes.length; length++) survive(bytes.subarray(0, length));
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.nat(bytes.length - 1), fc.nat(255)), { minLength: 1, maxLength: 4 }),
        (damage) => {
          const copy = bytes.slice();
          for (const [at, value] of damage) copy[at] = value;
          survive(copy);
        },
      ),
      { numRuns: runs(2000) },
    );
  });
});
