/** Random rules of the first tier as people might write them: any option order, names and numbers, redundant forms. */
import * as fc from 'fast-check';
import type { Family } from '../../src/net/index.ts';

export const number = (max: number, min = 0): fc.Arbitrary<string> =>
  fc.integer({ min, max }).chain((value) => fc.constantFrom(String(value), `0x${value.toString(16)}`));
const port = fc.oneof(
  fc.integer({ min: 0, max: 65535 }).map(String),
  fc.constantFrom('sunrpc', 'domain', 'kerberos'),
);
export const portRange: fc.Arbitrary<string> = fc.oneof(
  port,
  fc.tuple(fc.nat(65535), fc.nat(65535)).map(([a, b]) => `${Math.min(a, b)}:${Math.max(a, b)}`),
  fc.nat(65535).map((value) => `${value}:`),
  fc.nat(65535).map((value) => `:${value}`),
);
export const numberRange = (max: number): fc.Arbitrary<string> =>
  fc.oneof(
    number(max),
    fc.tuple(fc.nat(max), fc.nat(max)).map(([a, b]) => `${Math.min(a, b)}:${Math.max(a, b)}`),
  );
export const listOf = (names: readonly string[]): fc.Arbitrary<string> =>
  fc.uniqueArray(fc.constantFrom(...names), { minLength: 1, maxLength: 4 }).map((chosen) => chosen.join(','));

const ipv4 = fc.array(fc.nat(255), { minLength: 4, maxLength: 4 }).map((bytes) => bytes.join('.'));
const ipv6 = fc
  .array(fc.oneof(fc.constant(0), fc.nat(0xffff)), { minLength: 8, maxLength: 8 })
  .map((groups) => groups.map((group) => group.toString(16)).join(':'));
const mask4 = fc.oneof(fc.nat(32).map(String), ipv4);
const mask6 = fc.oneof(fc.nat(128).map(String), ipv6);
export const address = (family: Family): fc.Arbitrary<string> => (family === 'ipv4' ? ipv4 : ipv6);
export const maskedAddress = (family: Family): fc.Arbitrary<string> =>
  fc.oneof(
    address(family),
    fc.tuple(address(family), family === 'ipv4' ? mask4 : mask6).map(([host, mask]) => `${host}/${mask}`),
  );
export const device: fc.Arbitrary<string> = fc.stringMatching(/^[a-z][a-z0-9.]{0,8}\+?$/);

/** Text in double quotes with what has to be escaped. */
const quoted = (maxLength: number): fc.Arbitrary<string> =>
  fc
    .string({ minLength: 1, maxLength, unit: fc.constantFrom(...`abcXYZ 019-_"'\\<>:!#;äß`) })
    .map((text) => `"${text.replace(/["\\]/g, '\\$&')}"`);

/** An option and its arguments, negated at random where that is allowed. */
export function option(name: string, value: fc.Arbitrary<string>, negatable = true): fc.Arbitrary<string> {
  return fc
    .tuple(negatable ? fc.boolean() : fc.constant(false), value)
    .map(([negate, text]) => `${negate ? '! ' : ''}--${name} ${text}`);
}

/** Some of the options in any order. */
export function someOf(options: readonly fc.Arbitrary<string>[], minLength = 0): fc.Arbitrary<string> {
  return fc
    .shuffledSubarray([...options], { minLength })
    .chain((chosen): fc.Arbitrary<string[]> => fc.tuple(...chosen))
    .map((words) => words.join(' '));
}

const ports = [option('sport', portRange), option('destination-port', portRange)];
const tcpFlags = listOf(['SYN', 'ack', 'FIN', 'RST', 'URG', 'PSH', 'ALL', 'NONE']);

/** What has to stand with `-p`, by protocol. */
const TRANSPORTS: Readonly<Record<string, fc.Arbitrary<string>>> = {
  tcp: fc.oneof(
    someOf(
      [
        ...ports,
        fc
          .tuple(fc.boolean(), tcpFlags, tcpFlags)
          .map(([negate, mask, value]) => `${negate ? '! ' : ''}--tcp-flags ${mask} ${value}`),
        option('tcp-option', number(255, 1)),
      ],
      1,
    ),
    fc.constant('--syn'),
    fc.constant('-m tcp'),
    fc
      .tuple(
        fc.constantFrom('sports', 'dports', 'ports'),
        fc.array(fc.nat(65535), { minLength: 1, maxLength: 15 }),
      )
      .map(([name, list]) => `-m multiport --${name} ${list.join(',')}`),
  ),
  udp: someOf(ports),
  sctp: someOf([
    ...ports.map((one) => one.map((text) => text.replace(/sunrpc|domain|kerberos/g, '22'))),
    fc
      .tuple(
        fc.constantFrom('all', 'any', 'only'),
        listOf(['DATA', 'INIT', 'DATA:Be', 'ABORT:T', 'SACK', 'ASCONF', 'I_DATA:u']),
      )
      .map(([match, chunks]) => `--chunk-types ${match} ${chunks}`),
  ]),
  esp: someOf([option('espspi', numberRange(0xffff_ffff))]),
};

const MATCHES: Readonly<Record<string, (family: Family) => fc.Arbitrary<string>>> = {
  state: () => option('state', listOf(['NEW', 'established', 'RELATED', 'INVALID', 'UNTRACKED'])),
  conntrack: (family) =>
    someOf(
      [
        option('ctstate', listOf(['NEW', 'ESTABLISHED', 'RELATED', 'INVALID', 'UNTRACKED', 'SNAT', 'DNAT'])),
        option('ctproto', fc.constantFrom('tcp', '17', 'icmp')),
        option('ctorigsrc', maskedAddress(family)),
        option('ctrepldst', maskedAddress(family)),
        option('ctorigdstport', portRange),
        option('ctstatus', listOf(['NONE', 'ASSURED', 'CONFIRMED', 'SEEN_REPLY', 'EXPECTED'])),
        option('ctexpire', numberRange(0xffff_ffff)),
        option('ctdir', fc.constantFrom('ORIGINAL', 'reply'), false),
      ],
      1,
    ),
  limit: () =>
    fc
      .tuple(
        fc.integer({ min: 1, max: 10_000 }),
        fc.constantFrom('', '/s', '/minute', '/h'),
        fc.nat({ max: 90 }),
      )
      .filter(([rate, unit]) => unit !== '/h' || rate > 20)
      .map(([rate, unit, burst]) => `--limit ${rate}${unit} --limit-burst ${burst + 1}`),
  mark: () =>
    option(
      'mark',
      fc
        .tuple(number(0xffff_ffff), fc.option(number(0xffff_ffff)))
        .map(([value, mask]) => (mask === null ? value : `${value}/${mask}`)),
    ),
  length: () => option('length', numberRange(65535)),
  tos: () => option('tos', fc.oneof(number(255), fc.constantFrom('Minimize-Delay', '0x10/0x1f'))),
  dscp: () =>
    fc.oneof(option('dscp', number(63)), option('dscp-class', fc.constantFrom('EF', 'AF21', 'cs6', 'BE'))),
  pkttype: () => option('pkt-type', fc.constantFrom('unicast', 'broadcast', 'multicast', 'host')),
  iprange: (family) =>
    someOf(
      ['src-range', 'dst-range'].map((name) =>
        option(
          name,
          fc.tuple(address(family), address(family)).map(([min, max]) => `${min}-${max}`),
        ),
      ),
      1,
    ),
  addrtype: () =>
    someOf(
      ['src-type', 'dst-type'].map((name) =>
        option(name, listOf(['LOCAL', 'UNICAST', 'MULTICAST', 'UNSPEC'])),
      ),
      1,
    ),
  statistic: () =>
    fc.oneof(
      fc
        .double({ min: 0, max: 1, noNaN: true })
        .map((probability) => `--mode random --probability ${probability.toFixed(9)}`),
      fc
        .integer({ min: 1, max: 1000 })
        .chain((every) =>
          fc.nat(every - 1).map((packet) => `--mode nth --every ${every} --packet ${packet}`),
        ),
    ),
  comment: () => quoted(200).map((text) => `--comment ${text}`),
};
const ONLY_IPV4: typeof MATCHES = {
  ttl: () => fc.oneof(option('ttl', number(255)), option('ttl-lt', number(255), false)),
};
const ONLY_IPV6: typeof MATCHES = {
  hl: () => fc.oneof(option('hl-eq', number(255)), option('hl-gt', number(255), false)),
  frag: () =>
    someOf([
      option('fragid', numberRange(0xffff_ffff)),
      fc.constantFrom('--fragmore', '--fraglast'),
      fc.constant('--fragres'),
      fc.constant('--fragfirst'),
    ]),
  ah: () =>
    someOf([
      option('ahspi', numberRange(0xffff_ffff)),
      option('ahlen', number(1000)),
      fc.constant('--ahres'),
    ]),
};

const TARGETS = (family: Family): fc.Arbitrary<string> =>
  fc.oneof(
    fc.constantFrom('', '-j ACCEPT', '-j DROP', '-j RETURN', '-j user', '-g user'),
    fc
      .constantFrom(
        ...(family === 'ipv4'
          ? ['icmp-host-unreachable', 'icmp-admin-prohibited', 'net-prohib']
          : ['icmp6-no-route', 'adm-prohibited', 'icmp6-policy-fail']),
      )
      .map((kind) => `-j REJECT --reject-with ${kind}`),
    fc
      .tuple(quoted(29), fc.nat(7), fc.boolean())
      .filter(([prefix]) => !/[äß]/.test(prefix))
      .map(
        ([prefix, level, uid]) =>
          `-j LOG --log-prefix ${prefix} --log-level ${level}${uid ? ' --log-uid' : ''}`,
      ),
    fc
      .tuple(fc.constantFrom('set-mark', 'set-xmark', 'and-mark', 'or-mark', 'xor-mark'), number(0xffff_ffff))
      .map(([name, value]) => `-j MARK --${name} ${value}`),
  );

/** Conditions of one rule for a chain that any device may be named in (FORWARD). */
export function randomRule(family: Family): fc.Arbitrary<string> {
  const transport = fc
    .constantFrom(...Object.keys(TRANSPORTS))
    .chain((name) => TRANSPORTS[name]!.map((text) => `-p ${name} ${text}`));
  const kinds = { ...MATCHES, ...(family === 'ipv4' ? ONLY_IPV4 : ONLY_IPV6) };
  const match = fc
    .constantFrom(...Object.keys(kinds))
    .chain((name) => kinds[name]!(family).map((text) => `-m ${name} ${text}`));
  const plain = fc.constantFrom('-p all', '! -p udp', '-p gre', '-p 200', '-p OSPF');
  const base = someOf([
    fc.oneof(
      option('source', maskedAddress(family)),
      maskedAddress(family).map((text) => `-s ${text}`),
    ),
    option('dst', maskedAddress(family)),
    option('in-interface', device),
    device.map((name) => `-o ${name}`),
    ...(family === 'ipv4' ? [fc.constantFrom('-f', '! -f', '--fragments')] : []),
  ]);
  return fc
    .tuple(
      base,
      fc.oneof(transport, plain, fc.constant('')),
      fc.array(match, { maxLength: 3 }),
      TARGETS(family),
    )
    .chain(([address, protocol, matches, target]) =>
      // Options of a match come after it; whole parts may stand in any order.
      fc.shuffledSubarray([address, protocol, ...matches, target], { minLength: 3 + matches.length }),
    )
    .map((parts) => parts.filter((part) => part !== '').join(' '));
}

/** A filter table with these rules in FORWARD, and one user chain they may call. */
export function tableWith(rules: readonly string[]): string {
  return `*filter\n:INPUT ACCEPT [0:0]\n:FORWARD DROP [0:0]\n:OUTPUT ACCEPT [0:0]\n:user - [0:0]\n${rules
    .map((rule) => `-A FORWARD ${rule}`.trimEnd())
    .join('\n')}\n-A user -j RETURN\nCOMMIT\n`;
}
