/** Rules that ask for sockets and queues in a whole host: `socket`, `owner`, `TPROXY`, `NFQUEUE`. */
import { describe, expect, test } from 'vitest';
import { StackTables } from '../../src/host/index.ts';
import { parseAddress, parsePrefix } from '../../src/net/index.ts';
import {
  deliverToSockets,
  ManualClock,
  type NetSocket,
  NetworkStack,
  NF_ACCEPT,
  NF_DROP,
  type QueuedPacket,
  SocketTable,
} from '../../src/netstack/index.ts';
import { parseRuleset } from '../../src/rules/index.ts';
import { buildPacket, type Shape } from '../support/generate/shape.ts';

const address = (text: string): Uint8Array => parseAddress(text)!.bytes;
const HOST = '192.0.2.1';
const PEER = '192.0.2.2';

function udp(from: string, to: string, sourcePort: number, destinationPort: number): Uint8Array {
  const shape: Shape = {
    family: 'ipv4',
    source: address(from),
    destination: address(to),
    tos: 0,
    ttl: 64,
    id: 7,
    dontFragment: true,
    ipOptions: new Uint8Array(0),
    extensions: [],
    transport: { kind: 'ports', protocol: 17, pseudoProtocol: 17, sourcePort, destinationPort },
    payloadBytes: 8,
    inDevice: 'eth0',
    sourceMac: new Uint8Array(6),
  };
  return buildPacket(shape);
}

/** A host with these rules, a table of sockets, and word of all that they received. */
function host(rules: readonly string[], extra: readonly string[] = []) {
  const sockets = new SocketTable();
  const received: NetSocket[] = [];
  const sent: string[] = [];
  const stack = new NetworkStack({
    clock: new ManualClock(),
    random32: () => 0,
    devices: [{ name: 'eth0' }],
    addresses: [HOST, ...extra].map((own) => ({ device: 'eth0', prefix: parsePrefix(`${own}/24`)! })),
    routes: [],
    sockets,
    deliver: deliverToSockets(sockets, (socket) => received.push(socket)),
    transmit: (_device, packet) => sent.push(Buffer.from(packet).toString('hex')),
  });
  const text = [
    '*mangle',
    ...['PREROUTING', 'INPUT', 'FORWARD', 'OUTPUT', 'POSTROUTING'].map((chain) => `:${chain} ACCEPT [0:0]`),
    ...rules,
    'COMMIT',
    '',
  ].join('\n');
  const { ruleset, diagnostics } = parseRuleset(text, { file: 'rules', family: 'ipv4' });
  expect(diagnostics).toEqual([]);
  const tables = new StackTables(stack, ruleset);
  const counts = (chain: string): bigint[] =>
    tables.tables
      .get('mangle')!
      .chains.get(chain)!
      .rules.map(({ counters }) => counters.packets);
  const receive = (bytes: Uint8Array): void => stack.receive({ family: 'ipv4', bytes }, 'eth0');
  return { stack, sockets, received, sent, counts, receive };
}

describe('-m socket', () => {
  const RULES = [
    '-A PREROUTING -m socket',
    '-A PREROUTING -m socket --nowildcard',
    '-A PREROUTING -m socket --transparent',
    '-A PREROUTING -m socket --nowildcard --restore-skmark',
    '-A PREROUTING -m mark --mark 0x2a',
  ];

  test('asks for the socket that the packet would find', () => {
    const { sockets, receive, counts } = host(RULES);
    receive(udp(PEER, HOST, 4000, 53));
    expect(counts('PREROUTING')).toEqual([0n, 0n, 0n, 0n, 0n]);
    const any = sockets.bind(sockets.socket({ domain: 'ipv4', protocol: 'udp' }), address('0.0.0.0'), 53);
    receive(udp(PEER, HOST, 4000, 53));
    expect(counts('PREROUTING')).toEqual([0n, 1n, 0n, 1n, 0n]);
    sockets.close(any);
    const options = { domain: 'ipv4', protocol: 'udp', transparent: true, mark: 0x2a } as const;
    sockets.bind(sockets.socket(options), address(HOST), 53);
    receive(udp(PEER, HOST, 4000, 53));
    expect(counts('PREROUTING')).toEqual([1n, 2n, 1n, 2n, 1n]);
    receive(udp(PEER, HOST, 4000, 54));
    expect(counts('PREROUTING')).toEqual([1n, 2n, 1n, 2n, 1n]);
  });

  test('of an ICMP error asks for the socket that the quoted packet came from', () => {
    const { sockets, receive, counts } = host(RULES);
    sockets.bind(sockets.socket({ domain: 'ipv4', protocol: 'udp' }), address(HOST), 53);
    const quoted = udp(HOST, PEER, 53, 4000);
    const error: Shape = {
      family: 'ipv4',
      source: address(PEER),
      destination: address(HOST),
      tos: 0,
      ttl: 64,
      id: 9,
      dontFragment: false,
      ipOptions: new Uint8Array(0),
      extensions: [],
      transport: { kind: 'icmp', type: 3, code: 3, id: 0 },
      payload: quoted,
      payloadBytes: quoted.length,
      inDevice: 'eth0',
      sourceMac: new Uint8Array(6),
    };
    receive(buildPacket(error));
    expect(counts('PREROUTING').slice(0, 2)).toEqual([1n, 1n]);
    const about = udp(HOST, PEER, 54, 4000);
    receive(buildPacket({ ...error, payload: about, payloadBytes: about.length }));
    expect(counts('PREROUTING').slice(0, 2)).toEqual([1n, 1n]);
  });
});

describe('-j TPROXY', () => {
  const RULE = '-A PREROUTING -p udp -j TPROXY --on-port 5353 --tproxy-mark 0x1/0x1';

  test('hands the packet to a transparent socket, and to no other', () => {
    const { sockets, receive, received, counts } = host([RULE, '-A INPUT -m mark --mark 0x1/0x1']);
    const plain = sockets.bind(sockets.socket({ domain: 'ipv4', protocol: 'udp' }), address(HOST), 5353);
    receive(udp(PEER, HOST, 4000, 53));
    expect(received).toEqual([]);
    expect(counts('INPUT')).toEqual([0n]);
    sockets.close(plain);
    const options = { domain: 'ipv4', protocol: 'udp', transparent: true } as const;
    const proxy = sockets.bind(sockets.socket(options), address('0.0.0.0'), 5353);
    receive(udp(PEER, HOST, 4000, 53));
    expect(received).toEqual([proxy]);
    expect(counts('INPUT')).toEqual([1n]);
  });

  test('prefers the socket that is connected to the sender', () => {
    const { sockets, receive, received } = host([RULE]);
    const options = { domain: 'ipv4', protocol: 'udp', transparent: true } as const;
    sockets.bind(sockets.socket(options), address('0.0.0.0'), 5353);
    const own = sockets.bind(sockets.socket(options), address(HOST), 53);
    sockets.connect(own, address(PEER), 4000);
    receive(udp(PEER, HOST, 4000, 53));
    expect(received).toEqual([own]);
  });
});

describe('-j NFQUEUE', () => {
  test('without a listener only a rule with bypass lets the packet on', () => {
    for (const bypass of [false, true]) {
      const { receive, counts } = host([
        `-A PREROUTING -j NFQUEUE --queue-num 3${bypass ? ' --queue-bypass' : ''}`,
        '-A INPUT',
      ]);
      receive(udp(PEER, HOST, 1, 2));
      expect(counts('INPUT')).toEqual([bypass ? 1n : 0n]);
    }
  });

  test('a listener decides, and both directions of a flow come to one of the balanced queues', () => {
    const { stack, receive, counts } = host(['-A PREROUTING -j NFQUEUE --queue-balance 4:7', '-A INPUT']);
    const { queues } = stack.net.netfilter;
    const seen: [number, QueuedPacket][] = [];
    for (const number of [4, 5, 6, 7]) queues.bind(number, (packet) => seen.push([number, packet]));
    receive(udp(PEER, HOST, 1, 2));
    receive(udp(PEER, HOST, 3, 4));
    expect(seen[0]![0]).toBe(seen[1]![0]);
    expect(counts('INPUT')).toEqual([0n]);
    queues.verdict(seen[1]![0], seen[1]![1].id, NF_ACCEPT);
    queues.verdict(seen[0]![0], seen[0]![1].id, NF_DROP);
    expect(counts('INPUT')).toEqual([1n]);
  });
});

describe('-m owner', () => {
  test('knows who sent a packet, and that nobody did', () => {
    const { stack, counts } = host([
      '-A OUTPUT -m owner --uid-owner 1000-1005',
      '-A OUTPUT -m owner --gid-owner 20',
      '-A OUTPUT -m owner --gid-owner 20 --suppl-groups',
      '-A OUTPUT -m owner --socket-exists',
      '-A OUTPUT -m owner ! --socket-exists',
      '-A OUTPUT -m owner ! --uid-owner 1000',
    ]);
    const bytes = udp(HOST, PEER, 1, 2);
    stack.send({ family: 'ipv4', bytes, sender: { uid: 1003, gid: 1, groups: [20] } });
    expect(counts('OUTPUT')).toEqual([1n, 0n, 1n, 1n, 0n, 1n]);
    stack.send({ family: 'ipv4', bytes });
    expect(counts('OUTPUT')).toEqual([1n, 0n, 1n, 1n, 1n, 2n]);
  });
});
