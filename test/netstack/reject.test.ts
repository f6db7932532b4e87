/** What `-j REJECT` leaves unanswered (nf_reject_ipv4.c, nf_reject_ipv6.c), in the netstack. */
import { describe, expect, test } from 'vitest';
import { StackTables } from '../../src/host/index.ts';
import type { Family } from '../../src/net/index.ts';
import { NetworkStack } from '../../src/netstack/index.ts';
import { parseRuleset } from '../../src/rules/index.ts';
import { anyShape } from '../support/generate/packets.ts';
import { TCP } from '../support/generate/protocol-pieces.ts';
import { buildPacket, type Transport } from '../support/generate/shape.ts';
import { ADDRESSES, prefix } from '../support/generate/world.ts';
import { sample } from '../support/mistake-cases.ts';

function answers(
  family: Family,
  kind: string,
  destination: string,
  transport: Transport,
  forwarding = true,
): Uint8Array[] {
  const sent: Uint8Array[] = [];
  const stack = new NetworkStack({
    clock: { nowMs: () => 0 },
    random32: () => 0,
    devices: [{ name: 'eth0' }, { name: 'eth1' }],
    addresses: ADDRESSES[family].map(({ device, address }) => ({ device, prefix: prefix(address) })),
    routes: [],
    settings: { forwarding: { ipv4: forwarding, ipv6: forwarding } },
    transmit: (_device, bytes) => sent.push(bytes),
  });
  const protocol = kind === 'tcp-reset' ? '-p tcp ' : '';
  const text = `*filter\n:INPUT ACCEPT [0:0]\n-A INPUT ${protocol}-j REJECT --reject-with ${kind}\nCOMMIT\n`;
  new StackTables(stack, parseRuleset(text, { file: 'reject', family }).ruleset);
  const [base] = sample(anyShape(family), 1);
  const source = prefix(family === 'ipv4' ? '10.7.0.2' : 'fd07::2').address.bytes;
  const shape = {
    ...base!,
    source,
    destination: prefix(destination).address.bytes,
    ttl: 64,
    payloadBytes: 0,
  };
  const bytes = buildPacket({ ...shape, transport, ipOptions: new Uint8Array(0), extensions: [] });
  stack.receive({ family, bytes }, 'eth0');
  return sent;
}

describe('REJECT', () => {
  test('no reset for what was sent to many, whatever the link layer says', () => {
    const segment: Transport = { ...TCP, kind: 'tcp', flags: 2 } as Transport;
    expect(answers('ipv4', 'tcp-reset', '10.7.0.1', segment)).toHaveLength(1);
    expect(answers('ipv4', 'tcp-reset', '10.7.0.255', segment)).toHaveLength(0);
    expect(answers('ipv4', 'tcp-reset', '255.255.255.255', segment)).toHaveLength(0);
    expect(answers('ipv6', 'tcp-reset', 'fd07::1', segment)).toHaveLength(1);
    expect(answers('ipv6', 'tcp-reset', 'ff02::1', segment)).toHaveLength(0);
  });

  test('IPv6 packets with nothing behind their headers have no answer', () => {
    const empty: Transport = { kind: 'raw', protocol: 47 };
    expect(answers('ipv6', 'icmp6-port-unreachable', 'fd07::1', empty)).toHaveLength(0);
    expect(answers('ipv4', 'icmp-port-unreachable', '10.7.0.1', empty)).toHaveLength(1);
  });

  test("a router answers from a network's own address, which other hosts do not take", () => {
    const segment: Transport = { ...TCP, kind: 'tcp', flags: 2 } as Transport;
    for (const kind of ['icmp6-port-unreachable', 'tcp-reset']) {
      const [answer] = answers('ipv6', kind, 'fd07::', segment);
      expect(answer?.subarray(8, 24)).toEqual(prefix('fd07::').address.bytes);
      expect(answers('ipv6', kind, 'fd07::', segment, false)).toHaveLength(0);
    }
  });
});
