/**
 * What few rules ask of a packet's connection: its tuples, protocol and timeout, read from struct nf_conn at the rule
 * (include/net/netfilter/nf_conntrack.h, nf_conntrack_tuple.h). Rules ask whether there is a connection first; without one
 * the condition is false, negated or not.
 */
import type { AddressField, ScalarField } from '../../ir/index.ts';
import { type Label, R0, R1, R2, R10, type Register } from '../../isa/index.ts';
import type { Emission } from '../emit/emission.ts';

/** struct nf_conntrack_tuple_hash: a list node, then the tuple of one direction. */
const TUPLE_HASH = 56;
const TUPLE = 16;
/** Offsets in struct nf_conntrack_tuple. */
const Tuple = { source: 0, sourcePort: 16, destination: 20, destinationPort: 36, protocol: 38 } as const;

interface Place {
  readonly at: number;
  readonly size: 'u8' | 'u16';
}

const place = (reply: boolean, part: keyof typeof Tuple): number =>
  (reply ? TUPLE_HASH : 0) + TUPLE + Tuple[part];

const PLACES: Partial<Record<ScalarField, Place>> = {
  'ct.protocol': { at: place(false, 'protocol'), size: 'u8' },
  'ct.originalSourcePort': { at: place(false, 'sourcePort'), size: 'u16' },
  'ct.originalDestinationPort': { at: place(false, 'destinationPort'), size: 'u16' },
  'ct.replySourcePort': { at: place(true, 'sourcePort'), size: 'u16' },
  'ct.replyDestinationPort': { at: place(true, 'destinationPort'), size: 'u16' },
};

const ADDRESSES: Partial<Record<AddressField, number>> = {
  'ct.originalSource': place(false, 'source'),
  'ct.originalDestination': place(false, 'destination'),
  'ct.replySource': place(true, 'source'),
  'ct.replyDestination': place(true, 'destination'),
};

/** The fields that are read from the connection at the rule. */
export function isConnectionField(field: ScalarField | AddressField): boolean {
  return field === 'ct.expires' || Object.hasOwn(PLACES, field) || Object.hasOwn(ADDRESSES, field);
}

/** r1 = the field; to `none` without a connection. Uses r0..r5. */
export function emitConnectionField(emission: Emission, field: ScalarField, none: Label): void {
  const { asm } = emission;
  if (field === 'ct.expires') {
    emitExpires(emission, none);
    return;
  }
  const { at, size } = PLACES[field]!;
  emission.hook.connection!(emission, none);
  asm.loadField(size, R1, R0, 'nf_conn', 'tuplehash', at);
  if (size === 'u16') asm.toBe(R1, 16);
}

/** nf_ct_expires() in seconds: timeout and clock are jiffies of 32 bits. */
function emitExpires(emission: Emission, none: Label): void {
  const { asm, frame, hook, hz } = emission;
  const now = frame.word('ctInfo');
  const running = asm.label('running');
  asm.call('bpf_jiffies64').store('u32', R10, now, R0);
  hook.connection!(emission, none);
  asm.loadField('u32', R1, R0, 'nf_conn', 'timeout').load('u32', R2, R10, now).sub32(R1, R2);
  asm.jump32('s>=', R1, 0, running).mov(R1, 0);
  asm.place(running).alu32('div', R1, hz);
}

/** r0 = the connection for {@link emitConnectionAddressWord}; to `none` without one. */
export function emitAddressConnection(emission: Emission, none: Label): void {
  emission.hook.connection!(emission, none);
}

/** `to` = a word of an address, in the packet's order. r0 is kept. */
export function emitConnectionAddressWord(
  { asm }: Emission,
  field: AddressField,
  word: number,
  to: Register,
): void {
  asm.loadField('u32', to, R0, 'nf_conn', 'tuplehash', ADDRESSES[field]! + word * 4);
}
