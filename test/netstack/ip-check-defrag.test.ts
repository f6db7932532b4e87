/**
 * The acceptance test of the defrag series in the netstack: two hosts on a wire, a program at PRE_ROUTING priority 42 that drops
 * every fragment it sees, a datagram that is sent in three. With the defrag flag the program never sees a fragment, the
 * server gets the message and its echo comes back. Source: tools/testing/selftests/bpf/prog_tests/ip_check_defrag.c.
 */
import { describe, expect, it } from 'vitest';
import { parsePrefix } from '../../src/net/index.ts';
import {
  AttachType,
  attachNetfilter,
  BPF_F_NETFILTER_IP_DEFRAG,
  findFragmentHeader,
  isIpv4Fragment,
  ManualClock,
  NetworkStack,
  NF_ACCEPT,
  NF_DROP,
  NF_INET_PRE_ROUTING,
  NFPROTO_IPV4,
  NFPROTO_IPV6,
  ProgramType,
} from '../../src/netstack/index.ts';
import { addToSum, finishSum, internetChecksum, pseudoHeaderSum } from '../../src/wire/index.ts';

const MESSAGE = new TextEncoder().encode('THIS IS THE ORIGINAL MESSAGE, PLEASE REASSEMBLE ME');
const CLIENT_PORT = 48878;
const SERVER_PORT = 48879;
const PRIORITY = 42;

const FAMILIES = {
  ipv4: {
    pf: NFPROTO_IPV4,
    client: Uint8Array.of(172, 16, 1, 100),
    server: Uint8Array.of(172, 16, 1, 200),
    addresses: ['172.16.1.100/24', '172.16.1.200/24'],
  },
  ipv6: {
    pf: NFPROTO_IPV6,
    client: Uint8Array.of(0xfc, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0),
    server: Uint8Array.of(0xfc, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0),
    addresses: ['fc00::100/64', 'fc00::200/64'],
  },
} as const;
type TestFamily = keyof typeof FAMILIES;

/** UDP from one end to the other, whole: header and payload without the IP header. */
function udp(
  from: Uint8Array,
  sport: number,
  to: Uint8Array,
  dport: number,
  payload: Uint8Array,
): Uint8Array {
  const packet = new Uint8Array(8 + payload.length);
  const view = new DataView(packet.buffer);
  view.setUint16(0, sport);
  view.setUint16(2, dport);
  view.setUint16(4, packet.length);
  packet.set(payload, 8);
  const ends = new Uint8Array([...from, ...to]);
  const pseudo = pseudoHeaderSum(ends, 0, from.length, from.length, 17, packet.length);
  view.setUint16(6, finishSum(addToSum(pseudo, packet, 0, packet.length)));
  return packet;
}

function ipv4(from: Uint8Array, to: Uint8Array, payload: Uint8Array, field = 0): Uint8Array {
  const packet = new Uint8Array(20 + payload.length);
  const view = new DataView(packet.buffer);
  view.setUint16(0, 0x4500);
  view.setUint16(2, packet.length);
  view.setUint16(4, 1);
  view.setUint16(6, field);
  view.setUint16(8, 0x4011);
  packet.set([...from, ...to], 12);
  view.setUint16(10, internetChecksum(packet, 0, 20));
  packet.set(payload, 20);
  return packet;
}

function ipv6(from: Uint8Array, to: Uint8Array, payload: Uint8Array, nextHeader = 17): Uint8Array {
  const packet = new Uint8Array(40 + payload.length);
  const view = new DataView(packet.buffer);
  view.setUint32(0, 0x60000000);
  view.setUint16(4, payload.length);
  packet[6] = nextHeader;
  packet[7] = 64;
  packet.set([...from, ...to], 8);
  packet.set(payload, 40);
  return packet;
}

/** Three fragments with 24, 24 and 10 bytes of the datagram, as the selftest cuts it. */
function fragments(family: TestFamily, from: Uint8Array, to: Uint8Array, datagram: Uint8Array): Uint8Array[] {
  return [0, 24, 48].map((start) => {
    const piece = datagram.subarray(start, start + 24);
    const more = start < 48;
    if (family === 'ipv4') return ipv4(from, to, piece, (more ? 0x2000 : 0) | (start >> 3));
    const header = new Uint8Array(8);
    const view = new DataView(header.buffer);
    header[0] = 17;
    view.setUint16(2, start | (more ? 1 : 0));
    view.setUint32(4, 0xbeef);
    return ipv6(from, to, new Uint8Array([...header, ...piece]), 44);
  });
}

/** Both hosts with a wire between them; what each was delivered, and how many fragments the program dropped. */
function twoHosts(family: TestFamily, flags: number) {
  const { pf, client, server, addresses } = FAMILIES[family];
  const delivered = { client: [] as Uint8Array[], server: [] as Uint8Array[] };
  const stacks: { client?: NetworkStack; server?: NetworkStack } = {};
  const host = (me: 'client' | 'server', peer: 'client' | 'server', address: string): NetworkStack =>
    new NetworkStack({
      clock: new ManualClock(),
      random32: () => 1,
      devices: [{ name: 'veth' }],
      addresses: [{ device: 'veth', prefix: parsePrefix(address)! }],
      routes: [],
      transmit: (_device, packet) =>
        stacks[me]!.enqueue(() => stacks[peer]!.receive({ family, bytes: packet }, 'veth')),
      deliver(skb) {
        const payload = skb.data.subarray(skb.transportOffset + 8);
        delivered[me].push(payload);
        if (me === 'client') return 'accepted';
        const echo = udp(server, SERVER_PORT, client, CLIENT_PORT, payload);
        const bytes = family === 'ipv4' ? ipv4(server, client, echo) : ipv6(server, client, echo);
        stacks.server!.enqueue(() => stacks.server!.send({ family, bytes }));
        return 'accepted';
      },
    });
  stacks.client = host('client', 'server', addresses[0]);
  stacks.server = host('server', 'client', addresses[1]);
  let shootdowns = 0;
  const program = {
    id: 1,
    name: 'defrag',
    type: ProgramType.NETFILTER,
    run: (_state: unknown, skb: { readonly data: Uint8Array }) => {
      const cut = family === 'ipv4' ? isIpv4Fragment(skb.data) : findFragmentHeader(skb.data) !== undefined;
      if (cut) shootdowns++;
      return cut ? NF_DROP : NF_ACCEPT;
    },
  };
  const link = attachNetfilter(stacks.server.net, program, {
    pf,
    hooknum: NF_INET_PRE_ROUTING,
    priority: PRIORITY,
    flags,
    attachType: AttachType.NETFILTER,
  });
  const datagram = udp(client, CLIENT_PORT, server, SERVER_PORT, MESSAGE);
  for (const bytes of fragments(family, client, server, datagram)) stacks.client.send({ family, bytes });
  return { delivered, shootdowns, server: stacks.server, link };
}

describe.each(['ipv4', 'ipv6'] as const)('ip_check_defrag, %s', (family) => {
  it('with the flag: no fragment reaches the program, the message arrives and its echo comes back', () => {
    const { delivered, shootdowns, server, link } = twoHosts(family, BPF_F_NETFILTER_IP_DEFRAG);
    expect(shootdowns).toBe(0);
    expect(delivered.server).toEqual([MESSAGE]);
    expect(delivered.client).toEqual([MESSAGE]);
    expect(server.net.defrag.users(family)).toBe(1);
    link.detach();
    expect(server.net.defrag.users(family)).toBe(0);
  });

  it('without it the program sees all three fragments, and nothing arrives', () => {
    const { delivered, shootdowns } = twoHosts(family, 0);
    expect(shootdowns).toBe(3);
    expect(delivered).toEqual({ client: [], server: [] });
  });
});
