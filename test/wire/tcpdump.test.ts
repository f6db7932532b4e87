/**
 * Every IP packet of every shared capture against what `tcpdump -v` printed of it: fixed headers, fragments, ports,
 * lengths and checksums. Needs nothing installed: the texts lie beside the captures.
 */
import { describe, expect, it } from 'vitest';
import { formatAddressBytes } from '../../src/net/index.ts';
import {
  type CapturedPacket,
  checkTcp,
  Frame,
  formatTcpFlags,
  IpProtocol,
  ipv4FragmentWord,
  ipv4Id,
  ipv4Tos,
  ipv4TotalLength,
  ipv4Ttl,
  ipv6FlowLabel,
  ipv6HopLimit,
  ipv6NextHeader,
  ipv6PayloadLength,
  ipv6TrafficClass,
  isSupportedLinkType,
  LinkType,
  loadFrame,
  readCapture,
  tcpFlags,
  tcpWindow,
  transportChecksumStatus,
  udpLength,
  verifyIpv4Checksum,
} from '../../src/wire/index.ts';
import { capturePaths, readCaptureBytes, readStoredTcpdump } from './captures.ts';

/** A packet's text begins with its time of day; what follows on other lines is indented. */
const START = /^(?=\d{2}:\d{2}:\d{2}\.\d{6,9} )/m;
const TIME = /^\d{2}:\d{2}:\d{2}\.\d{6,9} /;
const IPV4 =
  /^IP \(tos 0x([0-9a-f]+)[^)]*?, ttl (\d+), id (\d+), offset (\d+), flags \[([^\]]*)\], proto \S+ \((\d+)\), length (\d+)(.*)\n\s+([0-9.]+) > ([0-9.]+):/;
const IPV6 =
  /^IP6 \((?:class 0x([0-9a-f]+), )?(?:flowlabel 0x([0-9a-f]+), )?hlim (\d+), next-header \S+ \((\d+)\) payload length: (\d+)\) ([0-9a-f:.]+) > ([0-9a-f:.]+):/;
const FLAG_BITS: Readonly<Record<string, number>> = { none: 0, '+': 1, DF: 2, rsvd: 4 };
/** Fields that may differ for the reasons in `excuse`. It does not grow. */
const MOST_EXCUSED = 29;

type Facts = Record<string, string | number | undefined>;

function ipv4Facts(frame: Frame): Facts {
  const { bytes, offset } = frame.ip;
  const word = ipv4FragmentWord(bytes, offset);
  return {
    tos: ipv4Tos(bytes, offset),
    ttl: ipv4Ttl(bytes, offset),
    id: ipv4Id(bytes, offset),
    fragmentOffset: frame.ip.fragmentOffset * 8,
    flags:
      ((word & 0x2000) !== 0 ? 1 : 0) | ((word & 0x4000) !== 0 ? 2 : 0) | ((word & 0x8000) !== 0 ? 4 : 0),
    protocol: bytes[offset + 9],
    length: ipv4TotalLength(bytes, offset),
    checksum: verifyIpv4Checksum(bytes, offset) ? 'good' : 'bad',
  };
}

function ipv6Facts(frame: Frame): Facts {
  const { bytes, offset } = frame.ip;
  return {
    tos: ipv6TrafficClass(bytes, offset),
    flowLabel: ipv6FlowLabel(bytes, offset),
    ttl: ipv6HopLimit(bytes, offset),
    protocol: ipv6NextHeader(bytes, offset),
    length: ipv6PayloadLength(bytes, offset),
  };
}

function endpoints(frame: Frame): Facts {
  const { ip } = frame;
  const port = (value: number): string => (ip.hasPorts ? `.${value}` : '');
  return {
    source: formatAddressBytes(ip.source) + port(ip.sourcePort),
    destination: formatAddressBytes(ip.destination) + port(ip.destinationPort),
  };
}

/** TCP and UDP details where the text states them for this packet, not for one inside it. */
function transportFacts(frame: Frame, rest: string): readonly (readonly [string, unknown, unknown])[] {
  const { ip } = frame;
  const { bytes, transportOffset: at } = ip;
  const status = transportChecksumStatus(ip);
  const first = rest.split('\n')[0]!;
  const tcp = /^ Flags \[([^\]]*)\], cksum 0x[0-9a-f]+ \((correct|incorrect)/.exec(first);
  if (ip.protocol === IpProtocol.TCP && tcp !== null && checkTcp(bytes, at, ip.end) === undefined) {
    const window = /, win (\d+)/.exec(first)?.[1];
    return [
      ['tcp flags', formatTcpFlags(tcpFlags(bytes, at)), tcp[1]],
      ['tcp checksum', status, tcp[2] === 'correct' ? 'good' : 'bad'],
      ['tcp window', String(tcpWindow(bytes, at)), window],
    ];
  }
  if (ip.protocol === IpProtocol.UDP) {
    const udp = /^ \[(udp sum ok|bad udp cksum|no cksum)/.exec(first)?.[1];
    if (udp === undefined) return [];
    const said = udp === 'udp sum ok' ? 'good' : udp === 'no cksum' ? 'none' : 'bad';
    return [['udp checksum', status === 'illegal' ? 'bad' : status, said]];
  }
  if (ip.protocol === IpProtocol.ICMPV6 && ip.family === 6) {
    const icmp = /^ \[(icmp6 sum ok|bad icmp6 cksum)/.exec(first)?.[1];
    if (icmp !== undefined) return [['icmpv6 checksum', status, icmp === 'icmp6 sum ok' ? 'good' : 'bad']];
  }
  return [];
}

/** Why tcpdump's answer may differ here, or `undefined` when it may not. */
function excuse(field: string, frame: Frame, packet: CapturedPacket): string | undefined {
  const { bytes, transportOffset: at, end } = frame.ip;
  if (field === 'family' && frame.linkType === LinkType.IPV6 && frame.problem === 'version') {
    return 'tcpdump goes by the version where the link type promises IPv6';
  }
  if (field === 'family' && frame.problem === 'truncated' && packet.data.length < packet.originalLength) {
    return 'tcpdump reads a fixed header whose options the capture cut off';
  }
  if (field === 'udp checksum' && (udpLength(bytes, at) < 8 || at + udpLength(bytes, at) > end)) {
    return 'tcpdump sums a datagram whose length contradicts that of its packet';
  }
  return undefined;
}

describe('captures against the stored tcpdump texts', () => {
  it('agrees wherever tcpdump printed an IP header', (context) => {
    const captures = capturePaths();
    context.skip(captures.length === 0, 'the shared captures are absent');
    const frame = new Frame();
    const differences: string[] = [];
    const excused = new Map<string, number>();
    let packetsCompared = 0;
    let fieldsCompared = 0;
    let filesCompared = 0;
    let filesWithoutText = 0;
    let filesOtherwise = 0;
    for (const path of captures) {
      const text = readStoredTcpdump(path);
      const { packets } = readCapture(readCaptureBytes(path));
      const entries = text.split(START).filter((entry) => TIME.test(entry));
      if (entries.length === 0) {
        filesWithoutText++;
        continue;
      }
      // Texts can be cut, and payloads can print lines that look like a beginning: only those in step count.
      if (entries.length !== packets.length) {
        filesOtherwise++;
        continue;
      }
      filesCompared++;
      for (const [index, entry] of entries.entries()) {
        const packet = packets[index]!;
        if (!isSupportedLinkType(packet.linkType)) continue;
        const body = entry.replace(TIME, '');
        const four = IPV4.exec(body);
        const six = four === null ? IPV6.exec(body) : null;
        if (four === null && six === null) continue;
        packetsCompared++;
        loadFrame(frame, packet.data, packet.linkType);
        const say = (field: string, ours: unknown, theirs: unknown): void => {
          fieldsCompared++;
          if (ours === theirs) return;
          const reason = excuse(field, frame, packet);
          if (reason !== undefined) excused.set(reason, (excused.get(reason) ?? 0) + 1);
          else differences.push(`${path} #${packet.number} ${field}: ours ${ours}, tcpdump ${theirs}`);
        };
        say('family', frame.ip.family, four !== null ? 4 : 6);
        if (frame.ip.family === 0) continue;
        if (four !== null) {
          const ours = ipv4Facts(frame);
          say('tos', ours.tos, Number.parseInt(four[1]!, 16));
          say('ttl', ours.ttl, Number(four[2]));
          say('id', ours.id, Number(four[3]));
          say('offset', ours.fragmentOffset, Number(four[4]));
          say(
            'flags',
            ours.flags,
            four[5]!.split(', ').reduce((sum, flag) => sum + (FLAG_BITS[flag] ?? Number.NaN), 0),
          );
          say('protocol', ours.protocol, Number(four[6]));
          say('length', ours.length, Number(four[7]));
          say('checksum', ours.checksum, four[8]!.includes('bad cksum') ? 'bad' : 'good');
        } else if (six !== null) {
          const ours = ipv6Facts(frame);
          say('class', ours.tos, Number.parseInt(six[1] ?? '0', 16));
          say('flow label', ours.flowLabel, Number.parseInt(six[2] ?? '0', 16));
          say('hop limit', ours.ttl, Number(six[3]));
          say('next header', ours.protocol, Number(six[4]));
          say('payload length', ours.length, Number(six[5]));
        }
        const ends = endpoints(frame);
        const match = (four ?? six)!;
        const [from, to] = four !== null ? [four[9], four[10]] : [six![6], six![7]];
        // tcpdump prints a source without port for all but TCP and UDP, and for what it decodes no further.
        const bare = (value: string | undefined, full: unknown): unknown =>
          value !== undefined &&
          String(full).startsWith(`${value}.`) &&
          !/\.\d+$/.test(value.split(':').at(-1)!)
            ? value
            : full;
        say('source', bare(from, ends.source), from);
        say('destination', bare(to, ends.destination), to);
        for (const [field, ours, theirs] of transportFacts(frame, body.slice(match[0].length)))
          say(field, ours, theirs);
      }
    }
    console.log(
      `tcpdump: ${fieldsCompared} fields of ${packetsCompared} packets in ${filesCompared} captures; ` +
        `${filesWithoutText} captures have no text, ${filesOtherwise} one that is cut or not in step`,
    );
    for (const [reason, count] of excused) console.log(`  ${count} × ${reason}`);
    const kinds = new Map<string, number>();
    for (const difference of differences) {
      const kind = / #\d+ ([^:]+):/.exec(difference)![1]!;
      kinds.set(kind, (kinds.get(kind) ?? 0) + 1);
    }
    expect(differences.slice(0, 40), JSON.stringify(Object.fromEntries(kinds))).toEqual([]);
    expect([...excused.values()].reduce((sum, count) => sum + count, 0)).toBeLessThanOrEqual(MOST_EXCUSED);
    expect(packetsCompared).toBeGreaterThan(30_000);
  });
});
