/** Random rules of extensions that are text only, as people might write them, for the table and chain they may stand in. */
import * as fc from 'fast-check';
import type { Family } from '../../src/net/index.ts';
import { address, device, listOf, number, numberRange, option, portRange, someOf } from './random-rules.ts';

const U32 = 0xffff_ffff;

/** Names that nothing else in the namespace has, so that rules do not share state by chance. */
const name = fc.stringMatching(/^[a-z]{10}$/);
const flag = (text: string, negatable = false): fc.Arbitrary<string> =>
  negatable ? fc.constantFrom(`--${text}`, `! --${text}`) : fc.constant(`--${text}`);
const plain = (text: string, value: fc.Arbitrary<string>): fc.Arbitrary<string> => option(text, value, false);
const maskedNumber = fc
  .tuple(number(U32), fc.option(number(U32)))
  .map(([value, mask]) => (mask === null ? value : `${value}/${mask}`));
const daytime = fc
  .tuple(fc.nat(23), fc.nat(59), fc.nat(59))
  .map((parts) => parts.map((part) => String(part).padStart(2, '0')).join(':'));
const date = fc
  .date({ min: new Date('1970-01-02'), max: new Date('2037-12-31'), noInvalidDate: true })
  .chain((when) => fc.constantFrom(10, 16, 19).map((length) => when.toISOString().slice(0, length)));
const hexByte = fc.nat(255).map((byte) => byte.toString(16).padStart(2, '0'));
const prefixBits = (family: Family): fc.Arbitrary<string> => fc.nat(family === 'ipv4' ? 32 : 128).map(String);

/** Of a mask that is not contiguous iptables makes one of all bits, and fills more bytes than an IPv4 mask has. */
const prefix = (family: Family): fc.Arbitrary<string> =>
  fc.tuple(address(family), prefixBits(family)).map((parts) => parts.join('/'));

function join(...parts: fc.Arbitrary<string>[]): fc.Arbitrary<string> {
  return fc.tuple(...parts).map((words) => words.filter((word) => word !== '').join(' '));
}

function maybe(part: fc.Arbitrary<string>): fc.Arbitrary<string> {
  return fc.oneof(part, fc.constant(''));
}

const u32Number = number(U32);
const u32Test = fc
  .tuple(
    u32Number,
    fc.array(fc.tuple(fc.constantFrom('&', '<<', '>>', '@', ' & '), number(31)), { maxLength: 4 }),
    fc.array(
      fc.oneof(
        u32Number,
        fc.tuple(u32Number, u32Number).map((range) => range.join(':')),
      ),
      {
        minLength: 1,
        maxLength: 5,
      },
    ),
  )
  .map(([start, steps, values]) => `${start}${steps.flat().join('')}=${values.join(',')}`);

/** Conditions for chain FORWARD of table mangle. */
const MATCHES: Readonly<Record<string, (family: Family) => fc.Arbitrary<string>>> = {
  recent: (family) =>
    join(
      fc.oneof(
        fc.constantFrom('--set', '! --set', '--remove', '! --remove'),
        join(
          fc.constantFrom('--rcheck', '! --update'),
          someOf([
            // iptables-save prints larger ones as negative numbers, which it does not read again.
            plain('seconds', number(0x7fff_ffff, 1)),
            plain('hitcount', fc.nat(255).map(String)),
            flag('rttl'),
          ]),
        ),
      ),
      someOf([plain('name', name), fc.constantFrom('--rsource', '--rdest'), plain('mask', address(family))]),
    ),
  connlimit: (family) =>
    join(
      fc.constantFrom('--connlimit-upto', '--connlimit-above', '! --connlimit-above'),
      fc.nat(U32).map(String),
      someOf([
        plain('connlimit-mask', prefixBits(family)),
        fc.constantFrom('--connlimit-saddr', '--connlimit-daddr'),
      ]),
    ),
  hashlimit: (family) =>
    join(
      option(
        'hashlimit-upto',
        fc
          .tuple(fc.integer({ min: 1, max: 1_000_000 }), fc.constantFrom('', '/sec', '/s', '/second'))
          .map((rate) => rate.join('')),
      ),
      fc.integer({ min: 1, max: 1000 }).map((burst) => `--hashlimit-burst ${burst}`),
      name.map((word) => `--hashlimit-name ${word}`),
      someOf([
        plain('hashlimit-mode', listOf(['srcip', 'dstip', 'srcport', 'dstport'])),
        plain('hashlimit-srcmask', prefixBits(family)),
        plain('hashlimit-dstmask', prefixBits(family)),
        plain('hashlimit-htable-max', number(100_000)),
        plain('hashlimit-htable-expire', number(U32, 1)),
        plain('hashlimit-htable-gcinterval', number(U32, 1)),
      ]),
    ),
  'hashlimit ': () =>
    join(
      option(
        'hashlimit-above',
        fc
          .tuple(
            // Less than 16 bytes a second are printed as 0, which cannot be read again.
            fc.integer({ min: 16, max: 4000 }),
            fc.constantFrom('b/s', 'kb/s', 'mb/s'),
          )
          .map((rate) => rate.join('')),
      ),
      name.map((word) => `--hashlimit-name ${word}`),
    ),
  string: () =>
    join(
      fc.oneof(
        option(
          'string',
          fc.stringMatching(/^[ -!#-[\]-~]{1,40}$/).map((text) => `"${text}"`),
        ),
        option(
          'hex-string',
          fc.array(hexByte, { minLength: 1, maxLength: 20 }).map((bytes) => `"ab|${bytes.join(' ')}|c"`),
        ),
      ),
      fc.constantFrom('--algo bm', '--algo kmp'),
      someOf([plain('from', number(100)), plain('to', number(65535, 100)), flag('icase')]),
    ),
  physdev: () =>
    someOf(
      [
        option('physdev-in', device),
        option('physdev-out', device),
        flag('physdev-is-in', true),
        flag('physdev-is-out', true),
        flag('physdev-is-bridged', true),
      ],
      1,
    ),
  connmark: () => option('mark', maskedNumber),
  helper: () => option('helper', fc.constantFrom('ftp', '"sip-5060"', 'a.b', '""')),
  quota: () => option('quota', fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }).map(String)),
  cpu: () => option('cpu', number(U32)),
  cluster: () =>
    fc
      .integer({ min: 1, max: 32 })
      .chain((nodes) =>
        join(
          fc.constant(`--cluster-total-nodes ${nodes}`),
          option('cluster-local-node', number(nodes, 1)),
          plain('cluster-hash-seed', number(U32)),
        ),
      ),
  devgroup: () => someOf([option('src-group', maskedNumber), option('dst-group', maskedNumber)], 1),
  ecn: () => option('ecn-ip-ect', fc.nat(3).map(String)),
  connbytes: () =>
    join(
      option(
        'connbytes',
        fc
          .tuple(fc.nat(U32), fc.nat(U32))
          .map(([a, b]) => `${Math.min(a, b)}:${fc.stringify(Math.max(a, b))}`),
      ),
      fc.constantFrom('packets', 'bytes', 'avgpkt').map((mode) => `--connbytes-mode ${mode}`),
      fc.constantFrom('original', 'reply', 'both').map((side) => `--connbytes-dir ${side}`),
    ),
  connlabel: () => join(option('label', fc.nat(127).map(String)), maybe(flag('set'))),
  time: () =>
    someOf([
      plain('timestart', daytime),
      plain('timestop', daytime),
      plain('datestart', date),
      plain('datestop', date),
      option('weekdays', listOf(['Mon', 'Tuesday', 'We', '4', '5', 'Sat', 'Sun'])),
      option(
        'monthdays',
        fc.uniqueArray(fc.integer({ min: 1, max: 31 }), { minLength: 1 }).map((days) => days.join(',')),
      ),
      fc.constantFrom('--utc', '--kerneltz', '--localtz'),
    ]),
  u32: () =>
    option(
      'u32',
      fc.array(u32Test, { minLength: 1, maxLength: 3 }).map((tests) => `"${tests.join(' && ')}"`),
    ),
  bpf: () => fc.nat(U32).map((value) => `--bytecode "4,48 0 0 9,21 0 1 6,6 0 0 ${value},6 0 0 0"`),
  policy: (family) =>
    join(
      fc.constantFrom('--dir in', '--dir out'),
      someOf([
        fc.constant('--pol ipsec'),
        option('reqid', number(U32)),
        option('spi', number(U32)),
        option('proto', fc.constantFrom('ah', 'esp', '108')),
      ]),
      maybe(
        join(
          fc.constant('--mode tunnel'),
          someOf([option('tunnel-src', prefix(family)), option('tunnel-dst', prefix(family))]),
        ),
      ),
    ),
};

const ONLY_IPV4: typeof MATCHES = { realm: () => option('realm', maskedNumber) };

const ONLY_IPV6: typeof MATCHES = {
  dst: () => someOf([option('dst-len', number(U32)), plain('dst-opts', fc.constantFrom('1:2,3', '0,200:7'))]),
  hbh: () => someOf([option('hbh-len', number(U32)), plain('hbh-opts', fc.constantFrom('5', '1:4,0x10:0'))]),
  ipv6header: () =>
    fc.oneof(
      option('header', listOf(['hop', 'dst', '43', 'frag', 'ah', 'esp', 'none', 'prot'])),
      plain('header', listOf(['hop-by-hop', 'ipv6-opts', 'ipv6-route'])).map((text) => `${text} --soft`),
    ),
  rt: () =>
    someOf([
      option('rt-type', number(U32)),
      option('rt-segsleft', numberRange(U32)),
      option('rt-len', number(U32)),
    ]),
  srh: () =>
    someOf([
      option('srh-next-hdr', number(255)),
      option('srh-segs-left-gt', number(255)),
      option('srh-last-entry-lt', number(255)),
      option('srh-tag', number(65535)),
      option('srh-psid', address('ipv6')),
    ]),
  eui64: () => fc.constant(''),
};

/** Conditions that begin with the protocol they need. */
const WITH_PROTOCOL = (family: Family): fc.Arbitrary<string> =>
  fc.oneof(
    option('mss', numberRange(65535)).map((text) => `-p tcp -m tcpmss ${text}`),
    someOf([flag('ecn-tcp-ece', true), flag('ecn-tcp-cwr', true)], 1).map((text) => `-p tcp -m ecn ${text}`),
    someOf([
      option('sport', portRange),
      option('destination-port', portRange),
      option('dccp-types', listOf(['REQUEST', 'ack', 'SYNCACK', 'INVALID'])),
      option('dccp-option', number(255, 1)),
    ]).map((text) => `-p dccp ${text === '' ? '-m dccp' : text}`),
    someOf([option('ipcompspi', numberRange(U32)), flag('compres')]).map(
      (text) => `-p ipcomp -m ipcomp ${text}`,
    ),
    ...(family === 'ipv6'
      ? [
          option('mh-type', fc.oneof(numberRange(255), fc.constantFrom('bu', 'home', ':ba'))).map(
            (text) => `-p mh ${text}`,
          ),
        ]
      : [
          join(option('genre', name), someOf([plain('ttl', number(2)), plain('log', number(2))])).map(
            (text) => `-p tcp -m osf ${text}`,
          ),
        ]),
  );

/** What rules of FORWARD in mangle may do. */
const TARGETS = (family: Family): fc.Arbitrary<string> => {
  const mark = number(U32);
  const hops = family === 'ipv4' ? ['TTL', 'ttl'] : ['HL', 'hl'];
  return fc.oneof(
    someOf([
      plain('nflog-group', number(65535)),
      plain('nflog-prefix', fc.constantFrom('plain', '"with blank "', '"it\'s"')),
      plain('nflog-size', number(U32)),
      plain('nflog-threshold', number(65535)),
    ]).map((text) => `-j NFLOG ${text}`),
    join(
      fc.oneof(plain('queue-num', number(65535)), fc.constantFrom('', '--queue-balance 3:9')),
      maybe(flag('queue-bypass')),
    ).map((text) => `-j NFQUEUE ${text}`),
    join(
      fc.oneof(
        join(fc.constantFrom('--set-mark', '--set-xmark'), maskedNumber),
        join(fc.constantFrom('--and-mark', '--or-mark', '--xor-mark'), mark),
        join(
          fc.constantFrom('--save-mark', '--restore-mark'),
          fc.oneof(plain('mask', mark), someOf([plain('nfmask', mark), plain('ctmask', mark)])),
        ),
      ),
      maybe(fc.oneof(plain('left-shift-mark', number(31)), plain('right-shift-mark', number(31)))),
    ).map((text) => `-j CONNMARK ${text}`),
    fc.constantFrom('--save', '--restore').map((text) => `-j CONNSECMARK ${text}`),
    fc
      .oneof(plain('set-mss', number(65495)), flag('clamp-mss-to-pmtu'))
      .map((text) => `-p tcp --syn -j TCPMSS ${text}`),
    plain('strip-options', listOf(['wscale', 'mss', '5', '200', 'md5'])).map(
      (text) => `-p tcp -j TCPOPTSTRIP ${text}`,
    ),
    fc
      .tuple(fc.constantFrom('set', 'inc', 'dec'), number(255, 1))
      .map(([operation, value]) => `-j ${hops[0]} --${hops[1]}-${operation} ${value}`),
    fc
      .oneof(
        plain('set-tos', fc.constantFrom('Minimize-Cost', '0x10', '5/0x1f')),
        join(fc.constantFrom('--and-tos', '--or-tos', '--xor-tos'), number(255)),
      )
      .map((text) => `-j TOS ${text}`),
    fc
      .oneof(plain('set-dscp', number(63)), plain('set-dscp-class', fc.constantFrom('EF', 'af31', 'CS5')))
      .map((text) => `-j DSCP ${text}`),
    fc
      .tuple(fc.nat(0xffff), fc.nat(0xffff))
      .map(([major, minor]) => `-j CLASSIFY --set-class ${major.toString(16)}:${minor.toString(16)}`),
    join(
      plain(
        'gateway',
        address(family).filter((text) => /[1-9a-f]/.test(text)),
      ),
      maybe(plain('oif', fc.constant('lo'))),
    ).map((text) => `-j TEE ${text}`),
    fc.constantFrom('accept', 'DROP', 'reject').map((type) => `-j AUDIT --type ${type}`),
    fc
      .tuple(fc.integer({ min: 1, max: 1000 }), name)
      .map(([time, label]) => `-j IDLETIMER --timeout ${time} --label ${label}`),
    someOf([
      flag('sack-perm'),
      flag('timestamp'),
      flag('ecn'),
      plain('wscale', number(14)),
      plain('mss', number(65535)),
    ]).map((text) => `-p tcp -j SYNPROXY ${text}`),
    join(
      fc.constant('--hmark-mod 10 --hmark-rnd 0xfeed'),
      plain('hmark-tuple', listOf(['src', 'dst', 'sport', 'dport', 'proto', 'ct'])),
      maybe(plain('hmark-offset', number(U32))),
    ).map((text) => `-j HMARK ${text}`),
    fc
      .tuple(name, fc.nat(5), fc.integer({ min: 2, max: 100 }))
      .map(
        ([label, interval, times]) =>
          `-j RATEEST --rateest-name ${label} --rateest-interval ${250 << interval}ms --rateest-ewmalog ${(250 << interval) * times}ms`,
      ),
    fc.constantFrom('-j CHECKSUM --checksum-fill', ''),
    ...(family === 'ipv4'
      ? [
          fc.constantFrom(
            '-p tcp -j ECN --ecn-tcp-remove',
            '-j ECN --ecn-ip-ect 2',
            '-p tcp -j ECN --ecn-tcp-cwr 1',
          ),
        ]
      : []),
  );
};

/** A line of each of the tables that only some targets may stand in. */
const ELSEWHERE = (family: Family): Readonly<Record<string, fc.Arbitrary<string>>> => {
  const one = address(family);
  const range = fc.oneof(
    one,
    fc.tuple(one, one).map((pair) => pair.join('-')),
  );
  const ports = fc
    .tuple(fc.nat(65535), fc.nat(65535))
    .map(([a, b]) => (a % 3 === 0 ? `${a}` : `${Math.min(a, b)}-${Math.max(a, b)}`));
  const to = fc.oneof(
    range.map((text) => ({ protocol: '', text })),
    fc.tuple(range, ports).map(([host, port]) => ({
      protocol: '-p tcp ',
      text: family === 'ipv4' ? `${host}:${port}` : `[${host}]:${port}`,
    })),
  );
  const translatable = fc
    .tuple(fc.constantFrom('2001:db8', 'fd00:1', 'fc00:7'), fc.nat(0xffff))
    .map(([start, next]) => `${start}:${next.toString(16)}::/48`);
  const translated = fc
    .tuple(translatable, translatable)
    .map(([from, to]) => `--src-pfx ${from} --dst-pfx ${to}`);
  const flags = (names: readonly string[]): fc.Arbitrary<string> =>
    fc.shuffledSubarray(names.map((word) => ` --${word}`)).map((chosen) => chosen.join(''));
  return {
    'nat PREROUTING': fc.oneof(
      fc
        .tuple(to, flags(['random', 'persistent']))
        .map(([{ protocol, text }, more]) => `${protocol}-j DNAT --to-destination ${text}${more}`),
      fc
        .tuple(ports, flags(['random']))
        .map(([port, more]) => `-p udp -j REDIRECT --to-ports ${port}${more}`),
      fc.tuple(one, prefixBits(family)).map(([host, bits]) => `-j NETMAP --to ${host}/${bits}`),
    ),
    'nat POSTROUTING': fc.oneof(
      fc
        .tuple(to, flags(['random', 'random-fully', 'persistent']))
        .map(([{ protocol, text }, more]) => `${protocol}-j SNAT --to-source ${text}${more}`),
      fc
        .tuple(ports, flags(['random', 'random-fully']))
        .map(([port, more]) => `-p tcp -j MASQUERADE --to-ports ${port}${more}`),
    ),
    'raw PREROUTING': fc.oneof(
      fc.constantFrom(
        '-j TRACE',
        '-j NOTRACK',
        '-m rpfilter --loose -j TRACE',
        '-m socket --nowildcard -j TRACE',
      ),
      someOf([
        flag('notrack'),
        plain('zone', fc.oneof(number(65535), fc.constant('mark'))),
        plain('ctevents', listOf(['new', 'destroy', 'mark', 'assured'])),
        flag('expevents new'),
      ]).map((text) => `-j CT ${text}`),
      fc.constantFrom('ftp', 'sip').map((helper) => `-p tcp -j CT --helper ${helper}`),
    ),
    'mangle PREROUTING': fc
      .tuple(fc.nat(65535), maybe(plain('on-ip', one)), maybe(plain('tproxy-mark', maskedNumber)))
      .map(([port, ip, mark]) => `-p udp -j TPROXY --on-port ${port} ${ip} ${mark}`.trimEnd()),
    // The estimator has to be there before rules that look at it.
    'filter FORWARD': fc
      .tuple(
        name,
        fc.constantFrom('--rateest-lt', '! --rateest-lt', '--rateest-gt', '--rateest-eq'),
        fc.oneof(
          fc.constantFrom('--rateest-bps 2mbit', '--rateest-pps 50'),
          number(0xffff).map((rate) => `--rateest-pps ${rate}`),
        ),
        fc.constantFrom('', '--rateest-delta'),
      )
      .map(([label, compare, rate, delta]) =>
        [
          `-j RATEEST --rateest-name ${label} --rateest-interval 250ms --rateest-ewmalog 1s`,
          `-A FORWARD -m rateest --rateest ${label} ${delta} ${compare} ${rate} -j ACCEPT`.replace('  ', ' '),
          `-A FORWARD -m rateest --rateest1 ${label} --rateest-bps1 8kbit ${compare} --rateest2 ${label} --rateest-bps2 16kbit`,
        ].join('\n'),
      ),
    ...(family === 'ipv4'
      ? {}
      : {
          'mangle POSTROUTING': translated.map((text) => `-j SNPT ${text}`),
          'mangle OUTPUT': translated.map((text) => `-j DNPT ${text}`),
        }),
    'filter OUTPUT': someOf(
      [
        option(
          'uid-owner',
          numberRange(U32 - 1).map((text) => text.replace(':', '-')),
        ),
        option('gid-owner', number(U32 - 1)),
        flag('socket-exists', true),
      ],
      1,
    ).map((text) => `-m owner ${text} -j ACCEPT`),
  };
};

/** A whole ruleset: rules of mangle FORWARD of every kind, and some of each other table. */
export function randomExtensionRuleset(family: Family): fc.Arbitrary<string> {
  const kinds = { ...MATCHES, ...(family === 'ipv4' ? ONLY_IPV4 : ONLY_IPV6) };
  const match = fc
    .constantFrom(...Object.keys(kinds))
    .chain((kind) => kinds[kind]!(family).map((text) => `-m ${kind.trim()} ${text}`.trimEnd()));
  const rule = fc.oneof(
    match,
    WITH_PROTOCOL(family),
    TARGETS(family),
    fc.tuple(match, TARGETS(family)).map((parts) => parts.join(' ')),
  );
  const elsewhere = fc.record(
    Object.fromEntries(
      Object.entries(ELSEWHERE(family)).map(([place, line]) => [place, fc.array(line, { maxLength: 4 })]),
    ),
  );
  return fc.tuple(fc.array(rule, { minLength: 1, maxLength: 40 }), elsewhere).map(([rules, others]) => {
    const lines: Record<string, string[]> = { mangle: rules.map((text) => `-A FORWARD ${text}`.trimEnd()) };
    for (const [place, more] of Object.entries(others)) {
      const [table, chain] = place.split(' ') as [string, string];
      lines[table] = [...(lines[table] ?? []), ...more.map((text) => `-A ${chain} ${text}`.trimEnd())];
    }
    return Object.entries(lines)
      .map(([table, text]) => `*${table}\n${text.join('\n')}${text.length === 0 ? '' : '\n'}COMMIT\n`)
      .join('');
  });
}
