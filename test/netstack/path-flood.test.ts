/** Floods through the whole path: tables end at their limits, memory at its thresholds, and what is left works on. */
import { describe, expect, it } from 'vitest';
import { StackTables } from '../../src/host/index.ts';
import { parsePrefix } from '../../src/net/index.ts';
import { IPV4_FRAGMENT_LIMITS, ManualClock, NetworkStack } from '../../src/netstack/index.ts';
import { parseRuleset } from '../../src/rules/index.ts';
import { internetChecksum } from '../../src/wire/index.ts';

const SOAK = process.env.SLUICE_SOAK === '1' ? 50 : 1;
const FLOWS = 20_000 * SOAK;
const TABLE = 500;

const RULES = `*nat
:PREROUTING ACCEPT
:INPUT ACCEPT
:OUTPUT ACCEPT
:POSTROUTING ACCEPT
-A POSTROUTING -j MASQUERADE
COMMIT
`;

function router() {
  const clock = new ManualClock();
  let sent = 0;
  const stack = new NetworkStack({
    clock,
    random32: (
      (state) => () =>
        (state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0)
    )(1),
    devices: [{ name: 'eth0' }, { name: 'eth1' }],
    addresses: [
      { device: 'eth0', prefix: parsePrefix('10.0.0.1/8')! },
      { device: 'eth1', prefix: parsePrefix('198.51.100.1/24')! },
    ],
    routes: [],
    settings: { forwarding: { ipv4: true, ipv6: false } },
    conntrack: { maximumEntries: TABLE, checksum: false },
    transmit: () => {
      sent++;
    },
  });
  new StackTables(stack, parseRuleset(RULES, { file: 'flood', family: 'ipv4' }).ruleset);
  /** Packets that left since the last time this was asked. */
  const takeSent = (): number => {
    const count = sent;
    sent = 0;
    return count;
  };
  return { clock, stack, takeSent };
}

/** UDP from a client of the wide network; `field` is the fragment word. */
function udp(client: number, port: number, id: number, field = 0): Uint8Array {
  const packet = new Uint8Array(36);
  const view = new DataView(packet.buffer);
  view.setUint16(0, 0x4500);
  view.setUint16(2, 36);
  view.setUint16(4, id);
  view.setUint16(6, field);
  view.setUint16(8, 0x4011);
  view.setUint32(12, 0x0a000000 | client);
  view.setUint32(16, 0xc6336402);
  view.setUint16(10, internetChecksum(packet, 0, 20));
  view.setUint16(20, port);
  view.setUint16(22, 53);
  view.setUint16(24, 16);
  return packet;
}

/** The long form on a busy machine takes minutes. */
const LIMIT_MS = 900_000;

describe('floods', { timeout: LIMIT_MS }, () => {
  it(`${FLOWS} flows leave no more than ${TABLE} connections, each with an address and port of its own`, () => {
    const { stack, takeSent } = router();
    for (let flow = 0; flow < FLOWS; flow++) {
      stack.receive({ family: 'ipv4', bytes: udp(2 + flow, 4000, flow & 0xffff) }, 'eth0');
      if (stack.conntrack!.size > TABLE) throw new Error(`${stack.conntrack!.size} connections`);
    }
    expect(takeSent()).toBe(FLOWS);
    const ends = [...stack.conntrack!.entries()].map(({ reply }) => reply.destinationPort);
    expect(ends.length).toBe(TABLE);
    expect(new Set(ends).size).toBe(TABLE);
  });

  it('a full table of assured connections refuses others until one ends', () => {
    const { clock, stack, takeSent } = router();
    for (let flow = 0; flow < TABLE; flow++) {
      stack.receive({ family: 'ipv4', bytes: udp(2 + flow, 4000, 1) }, 'eth0');
    }
    for (const entry of stack.conntrack!.entries()) entry.status |= 4;
    takeSent();
    stack.receive({ family: 'ipv4', bytes: udp(9999, 4000, 1) }, 'eth0');
    expect(takeSent()).toBe(0);
    clock.advance(31_000);
    stack.receive({ family: 'ipv4', bytes: udp(9999, 4000, 1) }, 'eth0');
    expect(takeSent()).toBe(1);
  });

  it('halves of datagrams stay under the threshold, and whole ones still pass once they have timed out', () => {
    const { clock, stack, takeSent } = router();
    const directory = stack.net.fragments.ipv4;
    for (let half = 0; half < FLOWS; half++) {
      stack.receive({ family: 'ipv4', bytes: udp(2 + (half >> 8), 4000, half & 0xffff, 0x2000) }, 'eth0');
    }
    expect(directory.memory).toBeLessThanOrEqual(IPV4_FRAGMENT_LIMITS.highThresh + 65_536);
    expect(takeSent()).toBe(0);
    clock.advance(31_000);
    stack.receive({ family: 'ipv4', bytes: udp(2, 4000, 1) }, 'eth0');
    expect(takeSent()).toBe(1);
    expect(directory.memory).toBe(0);
  });
});
