/**
 * What becomes of fragments at hooks where the kernel has not put them together. `track` remembers, for as long as the kernel
 * would wait for the rest of a datagram, which first fragments were accepted; the others of such a datagram follow it.
 */
import { R0, R1, R2, R3, R4, R10 } from '../isa/index.ts';
import { SystemCounter } from './arena/layout.ts';
import { emitCopy } from './emit/copy.ts';
import { emitTick } from './emit/counter.ts';
import type { Emission } from './emit/emission.ts';
import type { Fact } from './emit/fact.ts';
import { CHAIN_HIDDEN } from './prologue/ipv6.ts';

/**
 * - `rules` judges each as iptables without defragmentation does (what netfilter links with the defrag flag never see)
 * - `drop` drops them all
 * - `first-only` judges first fragments and accepts the rest
 * - `track` judges first fragments and does the same with the rest; those that come before the first are dropped
 */
export type FragmentStrategy = 'rules' | 'drop' | 'first-only' | 'track';

/** An LRU hash: datagrams whose first fragment was accepted, and when (ktime, u64). */
export const FRAGMENTS_MAP = 'fragments';
export const FRAGMENTS_SIZE = 16_384;
/** Namespace cookie, addresses, identification, and for IPv4 the protocol (RFC 791, RFC 8200 4.5). */
const Key = { cookie: 0, source: 8, destination: 24, id: 40, protocol: 44 } as const;
export const FRAGMENTS_KEY_SIZE = 48;
/** The kernel's ipfrag_time. */
const REMEMBERED_NS = 30_000_000_000;
/** Key, then value: in the place of what the routing decision needs. */
const PLACE = 64;
const IPV4_ID = 4;
const FRAGMENT_ID = 4;

export function fragmentNeeds(strategy: FragmentStrategy, family: 'ipv4' | 'ipv6'): readonly Fact[] {
  switch (strategy) {
    case 'rules':
      return [];
    case 'drop':
      return ['isFragment'];
    case 'first-only':
      return ['fragmentOffset'];
    case 'track': {
      const common = ['isFragment', 'fragmentOffset', 'source', 'destination', 'protocol'] as const;
      return family === 'ipv4' ? common : [...common, 'fragmentHeader'];
    }
  }
}

/** Before the first rule. Uses r0..r5. */
export function emitFragmentStrategy(emission: Emission, strategy: FragmentStrategy): void {
  const { asm, facts, labels } = emission;
  if (strategy === 'rules') return;
  asm.note('fragments');
  if (strategy === 'first-only') {
    asm.load('u32', R1, R10, facts.offset('fragmentOffset')).jump('!=', R1, 0, labels.accept);
    return;
  }
  const whole = asm.label('whole_packet');
  asm.load('u32', R1, R10, facts.offset('isFragment')).jump('==', R1, 0, whole);
  if (strategy === 'track') emitFollow(emission);
  if (strategy === 'drop') {
    emitTick(emission, SystemCounter.fragments);
    asm.goto(labels.drop);
  }
  asm.place(whole);
}

/** A later fragment has the first one's verdict; a first one makes an end of what was known under its identification. */
function emitFollow(emission: Emission): void {
  const { asm, facts, family, frame, hook, labels } = emission;
  const first = asm.label('first_fragment_of_all');
  const later = asm.label('later_fragment');
  const unknown = asm.label('fragment_unknown');
  const value = emitKey(emission) + FRAGMENTS_KEY_SIZE;
  if (family === 'ipv6') {
    asm.load('u32', R1, R10, facts.offset('protocolMissing')).jump('==', R1, CHAIN_HIDDEN, later);
  }
  asm.load('u32', R1, R10, facts.offset('fragmentOffset')).jump('==', R1, 0, first);
  asm.place(later);
  asm.loadMap(R1, FRAGMENTS_MAP).mov(R2, R10).add(R2, frame.block('fib', PLACE));
  asm.call('bpf_map_lookup_elem').jump('==', R0, 0, unknown);
  asm.load('u64', R1, R0, 0).store('u64', R10, value, R1).call('bpf_ktime_get_ns');
  asm.load('u64', R1, R10, value).sub(R0, R1).loadConstant(R1, REMEMBERED_NS).jump('>', R0, R1, unknown);
  asm.return(hook.accept);
  asm.place(unknown);
  emitTick(emission, SystemCounter.fragments);
  asm.goto(labels.drop).place(first);
  asm.loadMap(R1, FRAGMENTS_MAP).mov(R2, R10).add(R2, frame.block('fib', PLACE));
  asm.call('bpf_map_delete_elem');
}

/** Behind the label `accept`: notes an accepted first fragment. Uses r0..r5. */
export function emitRemember(emission: Emission): void {
  const { asm, facts } = emission;
  const whole = asm.label('accepted_whole');
  asm.load('u32', R1, R10, facts.offset('isFragment')).jump('==', R1, 0, whole);
  const key = emitKey(emission);
  const value = key + FRAGMENTS_KEY_SIZE;
  asm.call('bpf_ktime_get_ns').store('u64', R10, value, R0);
  asm.loadMap(R1, FRAGMENTS_MAP).mov(R2, R10).add(R2, key).mov(R3, R10).add(R3, value).mov(R4, 0);
  asm.call('bpf_map_update_elem');
  asm.place(whole);
}

/** Writes the datagram's key; gives its place. */
function emitKey(emission: Emission): number {
  const { asm, facts, family, frame, hook, labels } = emission;
  const key = frame.block('fib', PLACE);
  for (let at = 0; at < FRAGMENTS_KEY_SIZE; at += 8) asm.store('u64', R10, key + at, 0);
  hook.cookie(asm, R1);
  asm.store('u64', R10, key + Key.cookie, R1);
  for (const fact of ['source', 'destination'] as const) {
    for (let word = 0; word < (family === 'ipv4' ? 1 : 4); word++) {
      asm.load('u32', R1, R10, facts.offset(fact, word)).store('u32', R10, key + Key[fact] + word * 4, R1);
    }
  }
  if (family === 'ipv4') {
    emitCopy(emission, key + Key.id, { constant: IPV4_ID }, 2, labels.malformed);
    asm.load('u32', R1, R10, facts.offset('protocol')).store('u32', R10, key + Key.protocol, R1);
  } else {
    const word = facts.offset('fragmentHeader');
    emitCopy(emission, key + Key.id, { constant: FRAGMENT_ID, word }, 4, labels.malformed);
  }
  return key;
}
