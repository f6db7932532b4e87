/**
 * Sets of bindings, and programs that look up packets for random ones of them: drawn inside the kernel by an XDP program that
 * calls bpf_sk_lookup_tcp, so that tables come from where they lie in memory.
 */
import { Assembler, R0, R1, R2, R3, R4, R5, R6, R7, R10 } from '../../src/isa/index.ts';
import { BpfMap, linkProgram, Program } from '../../src/kernel/index.ts';
import type { Binding } from '../../src/sklookup/index.ts';

/** Where the addresses of a set lie. Address `n` is `base`, with `(n * stride) mod 2^bits` in its last bits. */
export interface Pattern {
  readonly name: string;
  readonly family: 'ipv4' | 'ipv6';
  /** Upper 32 bits of an IPv4 address, or upper 64 of an IPv6 one. */
  readonly base: bigint;
  readonly bits: number;
  /** Odd. 1: neighbours; a large one scatters them. */
  readonly stride: bigint;
}

export const PATTERNS: readonly Pattern[] = [
  { name: 'IPv4, a /12 of our own', family: 'ipv4', base: 0x0a00_0000n, bits: 20, stride: 1n },
  {
    name: 'IPv4, scattered over 2^28',
    family: 'ipv4',
    base: 0x1000_0000n,
    bits: 28,
    stride: 0x9e3_779bn,
  },
  { name: 'IPv6, neighbours', family: 'ipv6', base: 0x2001_0db8_0000_0000n, bits: 64, stride: 1n },
  {
    name: 'IPv6, scattered over 2^64',
    family: 'ipv6',
    base: 0x2001_0db8_0000_0001n,
    bits: 64,
    stride: 0x9e37_79b9_7f4a_7c15n,
  },
];

/** Address `n` of a pattern. */
export function addressAt({ family, base, bits, stride }: Pattern, n: number): Uint8Array<ArrayBuffer> {
  const low = BigInt.asUintN(bits, BigInt(n) * stride);
  const bytes = new Uint8Array(family === 'ipv4' ? 4 : 16);
  const view = new DataView(bytes.buffer);
  if (family === 'ipv4') view.setUint32(0, Number(base | low));
  else {
    view.setBigUint64(0, base);
    view.setBigUint64(8, low);
  }
  return bytes;
}

function binding(pattern: Pattern, bytes: Uint8Array, length: number): Binding {
  const { family } = pattern;
  return {
    label: 'web',
    protocol: 'tcp',
    prefix: { address: { family, bytes }, length },
    ports: { min: 443, max: 443 },
  };
}

/** So many bindings of whole addresses. */
export function bindingsOf(pattern: Pattern, size: number): Binding[] {
  const length = pattern.family === 'ipv4' ? 32 : 128;
  return Array.from({ length: size }, (_, n) => binding(pattern, addressAt(pattern, n), length));
}

/** Ten bindings that take all addresses of a pattern. `used`: the bits in which its addresses differ, from the last on. */
export function tenOver(pattern: Pattern, used: number): Binding[] {
  const whole = (pattern.family === 'ipv4' ? 32 : 128) - used;
  const neighbours: Pattern = { ...pattern, stride: 1n };
  return Array.from({ length: 10 }, (_, n) => {
    const [piece, length] = n < 6 ? [n * 2, whole + 3] : [n + 6, whole + 4];
    const at = BigInt(piece) << BigInt(used - 4);
    return binding(
      pattern,
      addressAt({ ...neighbours, stride: at === 0n ? 1n : at }, piece === 0 ? 0 : 1),
      length,
    );
  });
}

/** An XDP program that looks up a connection to a random one of so many addresses of a pattern. */
export function randomLookups(pattern: Pattern, size: number): Program {
  const asm = new Assembler();
  const missing = asm.label('missing');
  const narrow = pattern.family === 'ipv4';
  // struct bpf_sock_tuple: source and destination address, source and destination port.
  const bytes = narrow ? 12 : 36;
  const at = narrow ? -12 : -40;
  const port = ((443 << 8) & 0xff00) | (443 >> 8);
  asm.mov(R6, R1).call('bpf_get_prandom_u32').alu32('mod', R0, size);
  asm.loadWide(R1, BigInt.asUintN(64, pattern.stride)).mul(R0, R1);
  if (narrow) {
    asm
      .and(R0, 2 ** pattern.bits - 1)
      .or(R0, Number(pattern.base))
      .toBe(R0, 32);
    asm.store('u32', R10, at, 0x010200c0).store('u32', R10, at + 4, R0);
  } else {
    asm.loadWide(R1, pattern.base).toBe(R1, 64).toBe(R0, 64);
    asm.store('u64', R10, at, R1).store('u64', R10, at + 8, -1);
    asm.store('u64', R10, at + 16, R1).store('u64', R10, at + 24, R0);
  }
  asm.store('u16', R10, at + bytes - 4, 0x0a00).store('u16', R10, at + bytes - 2, port);
  asm.mov(R1, R6).mov(R2, R10).add(R2, at).mov(R3, bytes).mov(R4, -1).mov(R5, 0);
  asm.call('bpf_sk_lookup_tcp').jump('==', R0, 0, missing).mov(R1, R0).call('bpf_sk_release');
  asm.place(missing).return(1);
  return loadXdp('slc_random', asm, {});
}

export const CHAIN = 16;

/** A program that makes {@link CHAIN} dependent loads of random words of an array of so many bytes. */
export function randomLoads(bytes: number): { readonly program: Program; close(): void } {
  const asm = new Assembler();
  const out = asm.label('out');
  const words = bytes / 8;
  const map = BpfMap.create({
    type: 'BPF_MAP_TYPE_ARRAY',
    name: 'slc_words',
    keySize: 4,
    valueSize: 8,
    maxEntries: words,
  });
  asm.call('bpf_get_prandom_u32').mov(R7, R0);
  for (let step = 0; step < CHAIN; step++) {
    asm
      .alu32('mul', R7, 0x9e3779b1)
      .mov32(R1, R7)
      .rsh(R1, 33 - Math.log2(words) - 1);
    asm.store('u32', R10, -4, R1).loadMap(R1, 'words').mov(R2, R10).add(R2, -4).call('bpf_map_lookup_elem');
    // All words are zero, but the next place waits for this one.
    asm.jump('==', R0, 0, out).load('u64', R0, R0, 0).add(R7, R0).add(R7, 1);
  }
  asm.place(out).return(1);
  const program = loadXdp('slc_loads', asm, { words: map });
  return {
    program,
    close: () => {
      program.close();
      map.close();
    },
  };
}

function loadXdp(name: string, asm: Assembler, maps: Record<string, BpfMap>): Program {
  return Program.load({
    type: 'BPF_PROG_TYPE_XDP',
    name,
    instructions: linkProgram(asm.finish(), { maps }),
  });
}
