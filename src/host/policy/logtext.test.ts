/** Lines of the kernel's log, word by word as nf_log_syslog.c prints them. */
import { describe, expect, test } from 'vitest';
import { type LoggedPacket, logText } from './logtext.ts';

const bytesOf = (hex: string): Uint8Array => Uint8Array.from(Buffer.from(hex.replaceAll(/\s/g, ''), 'hex'));
const NO_LINK = { deviceType: 65534, macLength: 0, bytes: new Uint8Array(0) };
const ETHERNET = {
  deviceType: 1,
  macLength: 14,
  bytes: bytesOf('0200000000aa 0200000000bb 0800'),
};

function line(packet: string, more: Partial<LoggedPacket> = {}): string {
  const bytes = bytesOf(packet);
  return logText({
    prefix: '',
    flags: 0,
    inDevice: '',
    outDevice: 'o',
    link: NO_LINK,
    mark: 0,
    length: bytes.length,
    packet: bytes,
    ...more,
  });
}

const ipv4 = (protocol: string, rest: string, fragment = '4000'): string =>
  `45 10 0054 1234 ${fragment} 40 ${protocol} 0000 0a000001 0a000002 ${rest}`;
const HEAD4 = 'IN= OUT=o SRC=10.0.0.1 DST=10.0.0.2 LEN=84 TOS=0x10 PREC=0x00 TTL=64 ID=4660 ';
const ipv6 = (next: string, rest: string): string =>
  `6 0b abcde 0010 ${next} 3f 20010db8000000000000000000000001 fe800000000000000000000000000002 ${rest}`;
const HEAD6 =
  'IN= OUT=o SRC=2001:0db8:0000:0000:0000:0000:0000:0001 DST=fe80:0000:0000:0000:0000:0000:0000:0002 ' +
  'LEN=56 TC=11 HOPLIMIT=63 FLOWLBL=703710 ';
const TCP = '0016 c350 00000001 00000002 8512 7210 0000 0007 020405b4 01010402 00000000';
const TCP_TEXT = 'SPT=22 DPT=50000 WINDOW=29200 RES=0x10 AE ACK SYN URGP=7 ';

describe('the link-layer header', () => {
  const udp = ipv4('11', '0035 1389 0009 0000 00');
  const rest = `${HEAD4.slice('IN= OUT=o '.length)}DF PROTO=UDP SPT=53 DPT=5001 LEN=9 `;
  const incoming = { inDevice: 'i', outDevice: '' };

  test.each([
    ['of Ethernet', { link: ETHERNET }, 'MAC=02:00:00:00:00:aa:02:00:00:00:00:bb:08:00 '],
    ['that there is none of', {}, 'MAC= '],
    [
      'decoded',
      { link: ETHERNET, flags: 0x20 },
      'MACSRC=02:00:00:00:00:bb MACDST=02:00:00:00:00:aa MACPROTO=0800 ',
    ],
    [
      'decoded, with a tag',
      { link: { ...ETHERNET, vlan: { protocol: 0x8100, tci: 0x2007 } }, flags: 0x20 },
      'MACSRC=02:00:00:00:00:bb MACDST=02:00:00:00:00:aa VPROTO=8100 VID=8199 MACPROTO=0800 ',
    ],
    ['decoded, where it is cut', { link: { ...ETHERNET, macLength: 10 }, flags: 0x20 }, ''],
    [
      'decoded, of loopback',
      { link: { ...ETHERNET, deviceType: 772 }, flags: 0x20 },
      'MAC=02:00:00:00:00:aa:02:00:00:00:00:bb:08:00 ',
    ],
  ] satisfies readonly (readonly [string, Partial<LoggedPacket>, string])[])('%s', (_, more, mac) => {
    expect(line(udp, { ...incoming, ...more })).toBe(`IN=i OUT= ${mac}${rest}`);
  });

  test('is not told of what goes out', () => {
    expect(line(udp, { link: ETHERNET })).toBe(`IN= OUT=o ${rest}`);
  });
});

const quoted = `45 00 0020 0001 0000 40 11 0000 0a000002 0a000001 0035 1389 0009 0000`;
const QUOTED =
  '[SRC=10.0.0.2 DST=10.0.0.1 LEN=32 TOS=0x00 PREC=0x00 TTL=64 ID=1 PROTO=UDP SPT=53 DPT=5001 LEN=9 ] ';

describe('IPv4', () => {
  test.each([
    ['TCP', ipv4('06', TCP), {}, `DF PROTO=TCP ${TCP_TEXT}`],
    [
      'TCP, sequence and options',
      ipv4('06', TCP),
      { flags: 3 },
      'DF PROTO=TCP SPT=22 DPT=50000 SEQ=1 ACK=2 WINDOW=29200 RES=0x10 AE ACK SYN URGP=7 OPT (020405B40101040200000000) ',
    ],
    [
      'TCP, options cut off',
      ipv4('06', TCP.slice(0, -6)),
      { flags: 2, mark: 1 },
      `DF PROTO=TCP ${TCP_TEXT}OPT (TRUNCATED)`,
    ],
    ['TCP, cut off', ipv4('06', '0016 c350'), { mark: 1 }, 'DF PROTO=TCP INCOMPLETE [4 bytes] '],
    ['UDP-Lite', ipv4('88', '0035 1389 0009 0000'), {}, 'DF PROTO=UDPLITE SPT=53 DPT=5001 LEN=9 '],
    ['a later fragment', ipv4('11', '0000', '2003'), {}, 'MF FRAG:3 PROTO=UDP '],
    ['a later fragment of ICMP', ipv4('01', '0000', '0003'), {}, 'FRAG:3 PROTO=ICMP '],
    ['a later fragment of AH', ipv4('33', '0000', '0003'), {}, 'FRAG:3 '],
    ['a later fragment of ESP', ipv4('32', '0000', '0003'), {}, 'FRAG:3 PROTO=ESP '],
    ['the bit that nobody may set', ipv4('06', TCP, 'e000'), {}, `CE DF MF PROTO=TCP ${TCP_TEXT}`],
    ['echo', ipv4('01', '0800 0000 0102 0304'), {}, 'DF PROTO=ICMP TYPE=8 CODE=0 ID=258 SEQ=772 '],
    ['ICMP, cut off', ipv4('01', '0800 0000'), { mark: 5 }, 'DF PROTO=ICMP INCOMPLETE [4 bytes] MARK=0x5 '],
    [
      'unreachable',
      ipv4('01', `0304 0000 0000 05dc ${quoted}`),
      {},
      `DF PROTO=ICMP TYPE=3 CODE=4 ${QUOTED}MTU=1500 `,
    ],
    [
      'redirect',
      ipv4('01', `0501 0000 0a0000fe ${quoted}`),
      {},
      `DF PROTO=ICMP TYPE=5 CODE=1 GATEWAY=10.0.0.254 ${QUOTED}`,
    ],
    [
      'a parameter problem',
      ipv4('01', `0c00 0000 14000000 ${quoted}`),
      {},
      'DF PROTO=ICMP TYPE=12 CODE=0 PARAMETER=20 ',
    ],
    [
      'an error that is too short',
      ipv4('01', '0b00 0000 0000 0000'),
      {},
      'DF PROTO=ICMP TYPE=11 CODE=0 INCOMPLETE [8 bytes] ',
    ],
    [
      'an error about an error',
      ipv4('01', `0b00 0000 0000 0000 ${ipv4('01', `0301 0000 0000 0000 ${quoted}`)}`),
      { mark: 9 },
      `DF PROTO=ICMP TYPE=11 CODE=0 [${HEAD4.slice('IN= OUT=o '.length)}DF PROTO=ICMP TYPE=3 CODE=1 ] MARK=0x9 `,
    ],
    ['AH', ipv4('33', '0604 0000 0000abcd 00000000'), {}, 'DF PROTO=AH SPI=0xabcd '],
    ['ESP', ipv4('32', '0000abcd 00000000'), {}, 'DF PROTO=ESP SPI=0xabcd '],
    ['ESP, cut off', ipv4('32', '0000abcd'), {}, 'DF PROTO=ESP INCOMPLETE [4 bytes] '],
    [
      'another protocol, owner and mark',
      ipv4('2f', ''),
      { mark: 0xabc, flags: 8, owner: { uid: 1000, gid: 100 } },
      'DF PROTO=47 UID=1000 GID=100 MARK=0xabc ',
    ],
    ['an owner that nobody asks for', ipv4('2f', ''), { owner: { uid: 1000, gid: 100 } }, 'DF PROTO=47 '],
  ] satisfies readonly (readonly [string, string, Partial<LoggedPacket>, string])[])(
    '%s',
    (_, packet, more, text) => {
      expect(line(packet, more)).toBe(HEAD4 + text);
    },
  );

  test('options, and what is cut', () => {
    const long = '46 00 001c 0001 0000 40 2f 0000 0a000001 0a000002 94040000';
    const head = 'IN= OUT=o SRC=10.0.0.1 DST=10.0.0.2 LEN=28 TOS=0x00 PREC=0x00 TTL=64 ID=1 ';
    expect(line(long)).toBe(`${head}PROTO=47 `);
    expect(line(long, { flags: 4 })).toBe(`${head}OPT (94040000) PROTO=47 `);
    expect(line(long.slice(0, -4), { flags: 4 })).toBe(`${head}TRUNCATED`);
    expect(line('45 00')).toBe('IN= OUT=o TRUNCATED');
  });

  test('bytes that were not captured count in what is incomplete', () => {
    expect(line(ipv4('06', '0016'), { length: 30 })).toBe(`${HEAD4}DF PROTO=TCP INCOMPLETE [10 bytes] `);
  });
});

describe('IPv6', () => {
  const quoted6 = ipv6('11', '0035 1389 0009 0000');
  const QUOTED6 = `[${HEAD6.slice('IN= OUT=o '.length)}PROTO=UDP SPT=53 DPT=5001 LEN=9 ] `;
  test.each([
    ['TCP', ipv6('06', TCP), {}, `PROTO=TCP ${TCP_TEXT}`],
    [
      'echo',
      ipv6('3a', '8000 0000 0102 0304'),
      { mark: 2 },
      'PROTO=ICMPv6 TYPE=128 CODE=0 ID=258 SEQ=772 MARK=0x2 ',
    ],
    ['ICMPv6, cut off', ipv6('3a', '8000'), { mark: 2 }, 'PROTO=ICMPv6 INCOMPLETE [2 bytes] '],
    [
      'packet too big',
      ipv6('3a', `0200 0000 000005dc ${quoted6}`),
      {},
      `PROTO=ICMPv6 TYPE=2 CODE=0 ${QUOTED6}MTU=1500 `,
    ],
    [
      'a parameter problem',
      ipv6('3a', `0401 0000 00000028 ${quoted6}`),
      {},
      `PROTO=ICMPv6 TYPE=4 CODE=1 POINTER=00000028 ${QUOTED6}`,
    ],
    ['neighbour discovery', ipv6('3a', '8700 0000 0000 0000'), {}, 'PROTO=ICMPv6 TYPE=135 CODE=0 '],
    [
      'extension headers',
      ipv6('00', `3c00 0000 00000000 2b00 0000 00000000 1100 0000 00000000 0035 1389 0009 0000`),
      {},
      'PROTO=UDP SPT=53 DPT=5001 LEN=9 ',
    ],
    [
      'extension headers, shown',
      ipv6('00', '1100 0000 00000000 0035 1389 0009 0000'),
      { flags: 4 },
      'OPT ( ) PROTO=UDP SPT=53 DPT=5001 LEN=9 ',
    ],
    [
      'a first fragment',
      ipv6('2c', '1100 0001 00abcdef 0035 1389 0009 0000'),
      {},
      'FRAG:0 INCOMPLETE ID:00abcdef PROTO=UDP SPT=53 DPT=5001 LEN=9 ',
    ],
    [
      'a later fragment',
      ipv6('2c', '1100 0010 00abcdef 0035'),
      { mark: 1 },
      'FRAG:16 ID:00abcdef PROTO=UDP MARK=0x1 ',
    ],
    [
      'a later fragment of options',
      ipv6('2c', '3c00 0010 00abcdef 0035'),
      { mark: 1 },
      'FRAG:16 ID:00abcdef ',
    ],
    [
      'a later fragment of options, shown',
      ipv6('2c', '3c00 0010 00abcdef 0035'),
      { flags: 4 },
      'OPT ( FRAG:16 ID:00abcdef ) OPT ( )',
    ],
    ['a fragment header that is cut', ipv6('2c', '1100 00'), {}, 'FRAG:TRUNCATED '],
    [
      'AH',
      ipv6('33', '1101 0000 0000abcd 00000000 0035 1389 0009 0000'),
      {},
      'PROTO=UDP SPT=53 DPT=5001 LEN=9 ',
    ],
    [
      'AH, shown',
      ipv6('33', '1101 0000 0000abcd 00000000 0035 1389 0009 0000'),
      { flags: 4 },
      'OPT ( AH SPI=0xabcd ) PROTO=UDP SPT=53 DPT=5001 LEN=9 ',
    ],
    ['AH, cut off', ipv6('33', '1101 0000'), { flags: 4 }, 'OPT ( AH INCOMPLETE [4 bytes] )'],
    ['ESP', ipv6('32', '0000abcd 00000000'), { mark: 1 }, ''],
    ['ESP, shown', ipv6('32', '0000abcd 00000000'), { flags: 4 }, 'OPT ( ESP SPI=0xabcd )'],
    ['no next header', ipv6('3b', ''), {}, 'PROTO=59 '],
    ['an extension header that is cut', ipv6('00', '11'), {}, 'TRUNCATED'],
  ] satisfies readonly (readonly [string, string, Partial<LoggedPacket>, string])[])(
    '%s',
    (_, packet, more, text) => {
      expect(line(packet, more)).toBe(HEAD6 + text);
    },
  );
});
