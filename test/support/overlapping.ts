/**
 * Long rulesets in which a packet fits many rules: few values for each field, prefixes of every length around them, user
 * chains that return, non-terminal targets; and packets of the same values.
 */
import type { Family } from '../../src/net/index.ts';
import { formatAddressBytes } from '../../src/net/index.ts';
import { writeHeaderChecksum } from './classbench.ts';
import { xorshift } from './xorshift.ts';

export interface OverlappingRules {
  readonly text: string;
  readonly packets: readonly Uint8Array[];
}

const TARGETS = ['', '', '', '', '', '-j LOG', '-j ACCEPT', '-j DROP'] as const;
const PORTS = [22, 53, 80, 443, 1000, 65535] as const;

export function overlappingRules(
  size: number,
  family: Family,
  seed: number,
  count: number,
): OverlappingRules {
  const next = xorshift(seed);
  const random = (below: number): number => next() % below;
  const pick = <T>(of: readonly T[]): T => of[random(of.length)]!;
  const bytes = family === 'ipv4' ? 4 : 16;
  const addresses = Array.from({ length: 12 }, () =>
    Uint8Array.from({ length: bytes }, (_, at) =>
      at === 0 ? 0x20 + random(2) : random(4) === 0 ? random(256) : 7,
    ),
  );
  const address = (): string => `${formatAddressBytes(pick(addresses))}/${random(bytes * 8 + 1)}`;
  const port = (): string =>
    random(2) === 0 ? `${pick(PORTS)}` : `${random(30000)}:${30000 + random(35536)}`;
  const conditions = (): string => {
    const words: string[] = [];
    if (random(2) === 0) words.push(`${random(6) === 0 ? '! ' : ''}-s ${address()}`);
    if (random(2) === 0) words.push(`${random(6) === 0 ? '! ' : ''}-d ${address()}`);
    if (random(2) === 0) {
      const protocol = pick(['tcp', 'udp']);
      words.push(`-p ${protocol}`);
      if (random(3) > 0)
        words.push(`-m ${protocol} ${random(6) === 0 ? '! ' : ''}--${pick(['sport', 'dport'])} ${port()}`);
    }
    if (random(8) === 0)
      words.push(
        `-m ttl --ttl-lt ${1 + random(255)}`.replace(
          'ttl --ttl',
          family === 'ipv4' ? 'ttl --ttl' : 'hl --hl',
        ),
      );
    return words.join(' ');
  };
  const chains = Array.from({ length: 1 + Math.min(20, size >> 3) }, (_, index) => `c${index}`);
  const lines = ['*filter', ':INPUT DROP [0:0]', ':FORWARD ACCEPT [0:0]', ':OUTPUT ACCEPT [0:0]'];
  for (const chain of chains) lines.push(`:${chain} - [0:0]`);
  // Terminal verdicts are rare, so that packets go through many rules; half of them are in INPUT.
  for (let rule = 0; rule < size; rule++) {
    const own = random(2) === 0 ? -1 : random(chains.length);
    const chain = own < 0 ? 'INPUT' : chains[own]!;
    const later = chains.slice(own + 1, own + 4);
    const terminal = random(Math.max(2, size >> 3)) === 0;
    const jump =
      later.length > 0 && random(6) === 0 ? `${pick(['-j', '-j', '-g'])} ${pick(later)}` : undefined;
    const target = terminal
      ? pick(['-j ACCEPT', '-j DROP', '-j RETURN'])
      : (jump ?? pick(TARGETS.slice(0, 6)));
    lines.push(`-A ${chain} ${conditions()} ${target}`.replaceAll(/ +/g, ' ').trimEnd());
  }
  const packets = Array.from({ length: count }, () => {
    const header = family === 'ipv4' ? 20 : 40;
    const packet = new Uint8Array(header + 20);
    const view = new DataView(packet.buffer);
    if (family === 'ipv4')
      packet.set([0x45, 0, 0, header + 20, 0, 0, 0, 0, 1 + random(255), pick([6, 17, 1])]);
    else packet.set([0x60, 0, 0, 0, 0, 20, pick([6, 17, 58]), 1 + random(255)]);
    for (const at of [header - 2 * bytes, header - bytes]) {
      const value = pick(addresses).slice();
      if (random(2) === 0) value[bytes - 1] = value[bytes - 1]! ^ (1 << random(8));
      packet.set(value, at);
    }
    view.setUint16(header, random(2) === 0 ? pick(PORTS) : random(65536));
    view.setUint16(header + 2, random(2) === 0 ? pick(PORTS) : random(65536));
    packet[header + 12] = 0x50;
    if (family === 'ipv4') writeHeaderChecksum(packet);
    return packet;
  });
  return { text: `${lines.join('\n')}\nCOMMIT\n`, packets };
}
