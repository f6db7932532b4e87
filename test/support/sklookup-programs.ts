/** The programs of the acceptance cases, assembled: they select socket 0 of a SOCKMAP called `sockets`. */
import {
  type AssembledProgram,
  Assembler,
  R0,
  R1,
  R2,
  R3,
  R4,
  R6,
  R7,
  R10,
  type StoreSize,
} from '../../src/isa/index.ts';
import type { Action } from './sklookup-cases.ts';

export const F_REPLACE = 1;
export const F_NO_REUSEPORT = 2;

/** r7 = socket `slot`, referenced; goes to `fails` without one. The context is in r6. */
export function emitSocket(asm: Assembler, slot: number, fails: ReturnType<Assembler['label']>): void {
  asm.store('u32', R10, -4, slot).mov(R2, R10).add(R2, -4).loadMap(R1, 'sockets').call('bpf_map_lookup_elem');
  asm.jump('==', R0, 0, fails).mov(R7, R0);
}

export function actionProgram(action: Action): AssembledProgram {
  const asm = new Assembler();
  const drop = asm.label('drop');
  asm.mov(R6, R1);
  // A run marks itself, so that a test sees that every program has run.
  asm.loadMapValue(R1, 'ran').mov(R2, 1).atomic('add', 'u64', R1, 0, R2);
  if (action === 'pass') return asm.return(1).place(drop).finish({ prune: true });
  if (action === 'drop') return asm.return(0).place(drop).finish({ prune: true });
  if (action === 'drop-on-lo') {
    asm.load('u32', R1, R6, 64).jump('==', R1, 1, drop).return(1);
    return asm.place(drop).return(0).finish();
  }
  emitSocket(asm, 0, drop);
  asm
    .mov(R1, R6)
    .mov(R2, R7)
    .mov(R3, action === 'redirect' ? 0 : F_NO_REUSEPORT)
    .call('bpf_sk_assign');
  asm.mov(R4, R0).store('u64', R10, -16, R4).mov(R1, R7).call('bpf_sk_release').load('u64', R0, R10, -16);
  // -EEXIST: another program has chosen already; that is no failure of ours.
  const other = asm.label('other');
  asm.jump('!=', R0, 0, other).return(1);
  asm.place(other).jump('!=', R0, -17, drop).return(1);
  return asm.place(drop).return(0).finish();
}

/** Steps of bpf_sk_assign with their flags and expected results; returns SK_PASS only when all agree. */
export interface AssignStep {
  /** Slot of the socket; `undefined` for NULL. */
  readonly slot: number | undefined;
  readonly flags: number;
  readonly result: number;
}

export function assignProgram(steps: readonly AssignStep[]): AssembledProgram {
  const asm = new Assembler();
  const drop = asm.label('drop');
  asm.mov(R6, R1).store('u32', R10, -8, 0);
  for (const { slot, flags, result } of steps) {
    if (slot === undefined) asm.mov(R1, R6).mov(R2, 0).mov(R3, flags).call('bpf_sk_assign');
    else {
      emitSocket(asm, slot, drop);
      asm.mov(R1, R6).mov(R2, R7).mov(R3, flags).call('bpf_sk_assign').store('u64', R10, -16, R0);
      asm.mov(R1, R7).call('bpf_sk_release').load('u64', R0, R10, -16);
    }
    asm.jump('!=', R0, result, drop);
  }
  return asm.return(1).place(drop).return(0).finish();
}

/** Steps of bpf_sk_assign and the server that is selected after them. Slots 0 and 1 are A and B. */
export const ASSIGN_CASES: readonly (readonly [string, readonly AssignStep[], 'A' | 'B'])[] = [
  [
    'sk_assign returns EEXIST',
    [
      { slot: 1, flags: 0, result: 0 },
      { slot: 0, flags: 0, result: -17 },
    ],
    'B',
  ],
  [
    'sk_assign honors F_REPLACE',
    [
      { slot: 0, flags: 0, result: 0 },
      { slot: 1, flags: F_REPLACE, result: 0 },
    ],
    'B',
  ],
  [
    'sk_assign accepts NULL socket',
    [
      { slot: undefined, flags: 0, result: 0 },
      { slot: 0, flags: 0, result: 0 },
      { slot: undefined, flags: 0, result: -17 },
      { slot: undefined, flags: F_REPLACE, result: 0 },
      { slot: 1, flags: 0, result: 0 },
    ],
    'B',
  ],
  [
    'unknown flags',
    [
      { slot: 0, flags: 4, result: -22 },
      { slot: 0, flags: 0, result: 0 },
    ],
    'A',
  ],
];

/** SK_PASS only when ctx->sk is null at first, then socket 0 (an IPv6 listener, whose fields can be read), and can be reset. */
export function contextSocketProgram(): AssembledProgram {
  const asm = new Assembler();
  const drop = asm.label('drop');
  const release = asm.label('release');
  const assign = (flags: number): Assembler => asm.mov(R3, flags).call('bpf_sk_assign');
  asm.mov(R6, R1).load('u64', R1, R6, 0).jump('!=', R1, 0, drop);
  emitSocket(asm, 0, drop);
  asm.mov(R1, R6).mov(R2, R7);
  assign(0).load('u64', R1, R6, 0).jump('==', R1, 0, release);
  // struct bpf_sock: family, type, protocol, state
  for (const [offset, value] of [
    [4, 10],
    [8, 1],
    [12, 6],
    [72, 10],
  ] as const)
    asm.load('u32', R2, R1, offset).jump('!=', R2, value, release);
  asm.mov(R1, R6).mov(R2, 0);
  assign(F_REPLACE).load('u64', R1, R6, 0).jump('!=', R1, 0, release);
  asm.mov(R1, R6).mov(R2, R7);
  assign(0).mov(R1, R7).call('bpf_sk_release').return(1);
  return asm.place(release).mov(R1, R7).call('bpf_sk_release').place(drop).return(0).finish();
}

/** A field and the bytes that reads of it must give. */
export interface NarrowField {
  readonly offset: number;
  /** As they lie in the context. */
  readonly bytes: Uint8Array;
  /** The kernel keeps 16 bits of it, and gives them again to a two-byte read of its upper half: that is not asked. */
  readonly short?: boolean;
}

/** Every narrow read of a field must give the bytes that it has. */
export function narrowProgram(fields: readonly NarrowField[]): AssembledProgram {
  const asm = new Assembler();
  const drop = asm.label('drop');
  asm.mov(R6, R1);
  for (const { offset, bytes, short } of fields) {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    for (let at = 0; at < bytes.length; at++) {
      asm.load('u8', R1, R6, offset + at).jump('!=', R1, view.getUint8(at), drop);
      if (at % 2 === 0 && at + 2 <= bytes.length && (short !== true || at === 0))
        asm.load('u16', R1, R6, offset + at).jump('!=', R1, view.getUint16(at, true), drop);
      if (at % 4 === 0 && at + 4 <= bytes.length)
        asm.load('u32', R1, R6, offset + at).jump32('!=', R1, view.getUint32(at, true), drop);
    }
  }
  return asm.return(1).place(drop).return(0).finish();
}

/** All fields of a look-up from and to `address`, TCP from port 40,000 to 7007. */
export function narrowFields(address: Uint8Array, ifindex: number): NarrowField[] {
  const four = address.length === 4;
  const none = (length: number): Uint8Array => new Uint8Array(length);
  const word = (value: number): Uint8Array => new Uint8Array(Uint32Array.of(value).buffer);
  return [
    { offset: 8, bytes: word(four ? 2 : 10), short: true },
    { offset: 12, bytes: word(6), short: true },
    { offset: 16, bytes: four ? address : none(4) },
    { offset: 20, bytes: four ? none(16) : address },
    { offset: 36, bytes: Uint8Array.of(40_000 >> 8, 40_000 & 0xff, 0, 0) },
    { offset: 40, bytes: four ? address : none(4) },
    { offset: 44, bytes: four ? none(16) : address },
    { offset: 60, bytes: word(7007), short: true },
    { offset: 64, bytes: word(ifindex) },
  ];
}

/** One access of the context and whether a loader takes it. */
export interface AccessCase {
  readonly name: string;
  readonly valid: boolean;
  program(): AssembledProgram;
}

const read = (size: StoreSize, offset: number) => () =>
  new Assembler().load(size, R0, R1, offset).return(1).finish();
const write = (size: StoreSize, offset: number) => () =>
  new Assembler().mov(R2, 0).store(size, R1, offset, R2).return(1).finish();

const SK_FIELDS: Readonly<Record<string, number>> = {
  family: 8,
  protocol: 12,
  remote_ip4: 16,
  remote_ip6: 20,
  remote_port: 36,
  local_ip4: 40,
  local_ip6: 44,
  local_port: 60,
  ingress_ifindex: 64,
};

function allReads(): AssembledProgram {
  const asm = new Assembler();
  for (const offset of [8, 12, 16, 20, 24, 28, 32, 40, 44, 48, 52, 56, 60, 64]) {
    for (let at = 0; at < 4; at++) asm.load('u8', R0, R1, offset + at);
    asm
      .load('u16', R0, R1, offset)
      .load('u16', R0, R1, offset + 2)
      .load('u32', R0, R1, offset);
  }
  for (let at = 36; at < 40; at++) asm.load('u8', R0, R1, at);
  asm.load('u16', R0, R1, 36).load('u16', R0, R1, 38).load('u32', R0, R1, 36).load('u64', R0, R1, 0);
  return asm.return(1).finish();
}

/** The 21 context-access cases of the merged type. */
export const ACCESS_CASES: readonly AccessCase[] = [
  { name: 'valid 1,2,4,8-byte reads', valid: true, program: allReads },
  ...Object.entries(SK_FIELDS).map(([name, offset]) => ({
    name: `invalid 8-byte read from ${name}`,
    valid: false,
    program: read('u64', offset),
  })),
  { name: 'invalid 4-byte read from sk', valid: false, program: read('u32', 0) },
  { name: 'invalid 2-byte read from sk', valid: false, program: read('u16', 0) },
  { name: 'invalid 1-byte read from sk', valid: false, program: read('u8', 0) },
  { name: 'invalid 4-byte read past end', valid: false, program: read('u32', 72) },
  { name: 'invalid 4-byte unaligned read at odd offset', valid: false, program: read('u32', 9) },
  { name: 'invalid 4-byte unaligned read at even offset', valid: false, program: read('u32', 10) },
  ...(['u64', 'u32', 'u16', 'u8'] as const).map((size) => ({
    name: `invalid ${size} write`,
    valid: false,
    program: write(size, 0),
  })),
  { name: 'invalid 4-byte write past end', valid: false, program: write('u32', 72) },
];
