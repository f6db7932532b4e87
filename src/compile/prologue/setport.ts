/**
 * Protocol and port as IP sets have them (net/netfilter/ipset/ip_set_getport.c): protocol << 16 | port, ICMP's type and code
 * in place of the port, 0 for protocols without ports. A packet whose header cannot be read has none.
 */
import { R1, R2, R3, R10 } from '../../isa/index.ts';
import type { Emission } from '../emit/emission.ts';
import type { Fact } from '../emit/fact.ts';

/** What stands for none: no protocol is as large. */
export const NO_SET_PORT = 0xffff_ffff;

const NEXTHDR_NONE = 59;
const ICMP: readonly number[] = [1, 58];
/** Bytes that must be there of each header. */
const HEADER_BYTES: readonly (readonly [protocol: number, bytes: number])[] = [
  [6, 20],
  [17, 8],
  [132, 12],
  [136, 8],
  [1, 8],
  [58, 8],
];

/** After ports, `transportLength`, `fragmentOffset` and `protocol` are known. Uses r1, r2, r3. */
export function emitSetPorts(emission: Emission): void {
  const { asm, facts, family } = emission;
  const sides = (['sourceSetPort', 'destinationSetPort'] as const).filter((fact) => facts.has(fact));
  if (sides.length === 0) return;
  const done = asm.label('set_ports_done');
  const portless = asm.label('set_portless');
  const whole = asm.label('set_ports');
  for (const fact of sides) asm.store('u32', R10, facts.offset(fact), NO_SET_PORT | 0);
  asm.load('u32', R1, R10, facts.offset('protocol')).load('u32', R2, R10, facts.offset('fragmentOffset'));
  if (family === 'ipv6') {
    asm.load('u32', R3, R10, facts.offset('protocolMissing')).jump('!=', R3, 0, done);
    asm.jump('!=', R2, 0, done).jump('==', R1, NEXTHDR_NONE, done);
  } else asm.jump('==', R1, 0, done);
  asm.load('u32', R3, R10, facts.offset('transportLength'));
  for (const [protocol, bytes] of HEADER_BYTES) {
    const other = asm.label('other_protocol');
    asm.jump('!=', R1, protocol, other);
    // ICMPv6 in IPv4 has no type for later fragments, and is one of the protocols without ports there.
    asm.jump('!=', R2, 0, protocol === 58 ? portless : done);
    asm.jump('<', R3, bytes, done).goto(whole).place(other);
  }
  asm.place(portless).lsh(R1, 16);
  for (const fact of sides) asm.store('u32', R10, facts.offset(fact), R1);
  asm.goto(done);
  asm.place(whole).mov(R3, R1).lsh(R1, 16);
  const ports: Readonly<Record<(typeof sides)[number], Fact>> = {
    sourceSetPort: 'sourcePort',
    destinationSetPort: 'destinationPort',
  };
  for (const fact of sides) {
    const icmp = asm.label('set_icmp');
    const store = asm.label('set_port_store');
    // ICMP has its type and code where others have the source port.
    for (const protocol of ICMP) asm.jump('==', R3, protocol, icmp);
    asm.load('u32', R2, R10, facts.offset(ports[fact])).goto(store);
    asm.place(icmp).load('u32', R2, R10, facts.offset('sourcePort'));
    asm.place(store).or(R2, R1).store('u32', R10, facts.offset(fact), R2);
  }
  asm.place(done);
}
