/**
 * The second half of `sluice demo`: the shipped rules enforced by the kernel in a namespace of our own, real packets from
 * another one, and the evaluator's opinion of the same packets beside it. Cleans up whatever happens.
 */
import {
  applyPolicy,
  type ReplayEngine,
  type ReplayPacket,
  removePolicies,
  requireLive,
} from '../host/index.ts';
import {
  addAddress,
  addRoute,
  changeDevice,
  createNamedNetns,
  createVeth,
  deleteNetns,
  type Fd,
  findDevice,
  PacketSocket,
  setNeighbour,
  withNetns,
} from '../kernel/index.ts';
import { parseAddress } from '../net/index.ts';
import { printRule, type Ruleset } from '../rules/index.ts';
import { addToSum, finishSum, internetChecksum, pseudoHeaderSum } from '../wire/index.ts';

const address = (text: string): Uint8Array => parseAddress(text)!.bytes;
const EDGE = address('192.0.2.1');
const GATEWAY = address('192.0.2.254');
const FRIEND = '198.51.100.9';
const STRANGER = '203.0.113.5';
const LINKTYPE_ETHERNET = 1;
const TCP = 6;
const UDP = 17;
const ICMP = 1;

export interface LiveDemoReport {
  readonly packets: number;
  /** Rules outside OUTPUT and POSTROUTING, with what both counted. */
  readonly rules: readonly { readonly text: string; readonly kernel: bigint; readonly evaluator: bigint }[];
  readonly resets: number;
  readonly unreachables: number;
  readonly echoReplies: number;
  readonly applyMs: number;
  readonly commitUs: number;
}

/** Sends, counts and compares. `engine` decides the same packets. */
export async function liveDemo(ruleset: Ruleset, engine: ReplayEngine): Promise<LiveDemoReport> {
  const policy = `demo-${process.pid}`;
  const names = [`slc-demo-${process.pid}-edge`, `slc-demo-${process.pid}-net`] as const;
  const opened: { close(): void }[] = [];
  try {
    const [edge, net] = names.map((name) => {
      const netns = createNamedNetns(name);
      opened.push(netns);
      return netns;
    }) as [Fd, Fd];
    createVeth({ name: 'eth0', netns: edge }, { name: 'eth0', netns: net });
    const here = withNetns(net, () => ({ ...findDevice('eth0')! }));
    withNetns(net, () => changeDevice(here.index, { up: true }));
    const there = withNetns(edge, () => {
      const device = findDevice('eth0')!;
      changeDevice(1, { up: true });
      changeDevice(device.index, { up: true });
      addAddress({ index: device.index, address: EDGE, prefixLength: 24 });
      setNeighbour({ index: device.index, address: GATEWAY, mac: here.mac });
      addRoute({ family: 'ipv4', gateway: GATEWAY });
      return device;
    });
    const applied = await applyPolicy({
      policy,
      rulesets: [ruleset],
      hooks: ['netfilter'],
      namespaces: [names[0]],
    });
    const socket = withNetns(net, () => new PacketSocket({ ifindex: here.index }));
    opened.push(socket);
    const frames = traffic().map((packet) => Uint8Array.of(...there.mac, ...here.mac, 8, 0, ...packet));
    for (const frame of frames) socket.send(frame);
    const answers = { resets: 0, unreachables: 0, echoReplies: 0 };
    for (let answer = socket.receive(300); answer !== undefined; answer = socket.receive(50)) {
      const { data } = answer;
      if (data[12] !== 8 || data[13] !== 0) continue;
      if (data[23] === TCP && (data[47]! & 4) !== 0) answers.resets++;
      if (data[23] === ICMP && data[34] === 3) answers.unreachables++;
      if (data[23] === ICMP && data[34] === 0) answers.echoReplies++;
    }
    for (const [index, frame] of frames.entries()) await engine.decide(replayPacket(index + 1, frame));
    const [report] = await engine.counters();
    const rules = comparison(requireLive({ policy }).rulesets[0]!, report!.ruleset);
    const { commitUs, totalMs } = applied.times;
    return { packets: frames.length, rules, ...answers, applyMs: totalMs, commitUs };
  } finally {
    await removePolicies({ policy }).catch(() => []);
    for (const thing of opened.reverse()) thing.close();
    for (const name of names) deleteNetns(name);
  }
}

/** Rules that any packet met, in both. What the host answers, the evaluator does not see: chains on the way out are left out. */
function comparison(live: Ruleset, evaluated: Ruleset): LiveDemoReport['rules'] {
  return live.tables.flatMap((table) => {
    const other = evaluated.tables.find(({ name }) => name === table.name)!;
    return table.chains.flatMap((chain) => {
      if (chain.name === 'OUTPUT' || chain.name === 'POSTROUTING') return [];
      const same = other.chains.find(({ name }) => name === chain.name)!;
      const rows = chain.rules.map((rule, index) => ({
        text: `${table.name.padEnd(6)} ${printRule(rule, chain.name, live.family)}`,
        kernel: rule.counters.packets,
        evaluator: same.rules[index]!.counters.packets,
      }));
      return rows.filter(({ kernel, evaluator }) => kernel > 0n || evaluator > 0n);
    });
  });
}

function replayPacket(number: number, frame: Uint8Array): ReplayPacket {
  return {
    number,
    timeMs: 0,
    linkType: LINKTYPE_ETHERNET,
    frame,
    device: 'eth0',
    ip: { family: 'ipv4', bytes: frame.subarray(14), cut: false },
    ethernet: frame.subarray(0, 14),
    packetType: 0,
    tagged: false,
  };
}

/** A day at the edge in a blink: visitors, name queries, pings, strangers at doors that are shut, forged senders. */
function traffic(): Uint8Array[] {
  const packets: Uint8Array[] = [];
  let port = 20_000;
  const syn = (source: string, to: number, count: number, flags = 0x02): void => {
    for (let index = 0; index < count; index++) packets.push(tcp(source, port++, to, flags));
  };
  syn(STRANGER, 80, 40);
  syn(STRANGER, 443, 60);
  syn(FRIEND, 22, 5);
  syn(STRANGER, 22, 6);
  syn(STRANGER, 3389, 4);
  syn(STRANGER, 80, 3, 0x03);
  syn(STRANGER, 80, 3, 0x00);
  syn('10.9.8.7', 80, 5);
  for (let index = 0; index < 30; index++) packets.push(udp(STRANGER, port++, 53));
  for (let index = 0; index < 3; index++) packets.push(udp(STRANGER, port++, 161));
  for (let index = 0; index < 8; index++) packets.push(echo(STRANGER, port++));
  return packets;
}

function ipv4(source: string, protocol: number, payload: Uint8Array): Uint8Array {
  const packet = new Uint8Array(20 + payload.length);
  const view = new DataView(packet.buffer);
  packet.set([0x45, 0]);
  view.setUint16(2, packet.length);
  view.setUint16(6, 0x4000);
  packet.set([64, protocol], 8);
  packet.set(address(source), 12);
  packet.set(EDGE, 16);
  view.setUint16(10, internetChecksum(packet, 0, 20));
  packet.set(payload, 20);
  return packet;
}

function withTransportSum(source: string, protocol: number, payload: Uint8Array, at: number): Uint8Array {
  const packet = ipv4(source, protocol, payload);
  const pseudo = pseudoHeaderSum(packet, 12, 16, 4, protocol, payload.length);
  new DataView(packet.buffer).setUint16(20 + at, finishSum(addToSum(pseudo, packet, 20, packet.length)));
  return packet;
}

function tcp(source: string, from: number, to: number, flags: number): Uint8Array {
  const header = new Uint8Array(20);
  const view = new DataView(header.buffer);
  view.setUint16(0, from);
  view.setUint16(2, to);
  view.setUint32(4, from * 7919);
  header.set([0x50, flags], 12);
  view.setUint16(14, 64_240);
  return withTransportSum(source, TCP, header, 16);
}

function udp(source: string, from: number, to: number): Uint8Array {
  const datagram = new Uint8Array(12);
  const view = new DataView(datagram.buffer);
  view.setUint16(0, from);
  view.setUint16(2, to);
  view.setUint16(4, datagram.length);
  return withTransportSum(source, UDP, datagram, 6);
}

function echo(source: string, id: number): Uint8Array {
  const message = new Uint8Array(16);
  const view = new DataView(message.buffer);
  message[0] = 8;
  view.setUint16(4, id);
  view.setUint16(2, internetChecksum(message));
  return ipv4(source, ICMP, message);
}
