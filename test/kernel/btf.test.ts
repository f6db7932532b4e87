/** The BTF reader against bpftool, on the running kernel's own types. */
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { beforeAll, describe, expect, test } from 'vitest';
import { type Btf, readBtf } from '../../src/btf/index.ts';
import { Assembler, R0, R1 } from '../../src/isa/index.ts';
import { btfLayout, Machine, NetfilterContext } from '../../src/vm/index.ts';

const VMLINUX = '/sys/kernel/btf/vmlinux';

interface Dumped {
  id: number;
  kind: string;
  name: string;
  members?: { name: string; bits_offset: number; bitfield_size?: number }[];
  values?: { name: string; val: number }[];
}

function dump(): Dumped[] | undefined {
  try {
    const text = execFileSync('bpftool', ['-j', 'btf', 'dump', 'file', VMLINUX], {
      maxBuffer: 1 << 29,
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    return (JSON.parse(text) as { types: Dumped[] }).types;
  } catch {
    return undefined;
  }
}

const types = existsSync(VMLINUX) ? dump() : undefined;

describe.skipIf(types === undefined)("the running kernel's BTF, as bpftool reads it", () => {
  let btf: Btf;
  beforeAll(() => {
    btf = readBtf(readFileSync(VMLINUX));
  });

  test('every type has the same name', () => {
    expect(btf.endId).toBe(types!.length + 1);
    for (const { id, name } of types!) expect(btf.type(id).name).toBe(name === '(anon)' ? '' : name);
  });

  test('members of a sample of structures lie at the same bits', () => {
    let compared = 0;
    for (const type of types!) {
      if (type.kind !== 'STRUCT' || type.id % 7 !== 0) continue;
      const members = btf.members(type.id);
      expect(members.map((member) => member.bitOffset)).toEqual(
        type.members!.map((member) => member.bits_offset),
      );
      expect(members.map((member) => member.bits)).toEqual(
        type.members!.map((member) => member.bitfield_size ?? 0),
      );
      compared++;
    }
    expect(compared).toBeGreaterThan(100);
  });

  test('functions, structures and enumerators are found by name', () => {
    for (const name of ['bpf_dynptr_from_skb', 'bpf_dynptr_slice', 'bpf_rdonly_cast', 'bpf_xdp_ct_lookup']) {
      const expected = types!.find((type) => type.kind === 'FUNC' && type.name === name)?.id;
      expect(btf.functionId(name)).toBe(expected);
    }
    const enumeration = types!.find((type) => type.kind === 'ENUM' && type.name === 'bpf_map_type')!;
    for (const { name, val } of enumeration.values!) expect(btf.enumerator(name)).toBe(BigInt(val));
    expect(btf.member('nf_hook_state', 'net')?.byteOffset).toBe(32);
    expect(btf.member('net_device', 'nd_net.net')).toBeDefined();
  });

  test("the virtual machine can take this kernel's layout", () => {
    const machine = new Machine({ layout: btfLayout(btf) });
    const asm = new Assembler();
    asm.load('u64', R1, R1, 8).loadField('u32', R0, R1, 'sk_buff', 'mark').exit();
    const program = machine.load(asm.finish(), { type: 'BPF_PROG_TYPE_NETFILTER' });
    const context = new NetfilterContext(machine, machine.createPacket().set(new Uint8Array(20)));
    context.skb.set('mark', 4711);
    expect(program.run(context)).toBe(4711);
    expect(program.instructions[1]!.off).toBe(btf.member('sk_buff', 'mark')!.byteOffset);
  });
});
