/**
 * The look-up cases of the kernel's own acceptance tests as data: who listens where, what programs do, and which server
 * gets the client. Run in the kernel and in the netstack.
 */

export interface ServerCase {
  readonly address: string;
  readonly port: number;
  readonly reusePort?: boolean;
}

/** What one attached program does with every look-up. */
export type Action = 'pass' | 'drop' | 'redirect' | 'redirect-no-reuseport' | 'drop-on-lo';

export interface LookupCase {
  readonly name: string;
  readonly protocol: 'tcp' | 'udp';
  /** Where the client sends to. */
  readonly target: { readonly address: string; readonly port: number };
  readonly servers: Readonly<Record<'A' | 'B' | 'C', ServerCase | undefined>>;
  readonly programs: readonly Action[];
  /** What the reuseport program of A's group does: nothing without. */
  readonly reuseport?: 'B' | 'drop';
  /** A connected socket is in the group besides. */
  readonly connectedMember?: boolean;
  readonly expect: 'A' | 'B' | 'C' | 'refused';
}

const EXT = { ipv4: '127.0.0.1', ipv6: 'fd00::1' } as const;
const INT = { ipv4: '127.0.0.2', ipv6: 'fd00::2' } as const;
const MAPPED = '::ffff:127.0.0.2';
const EXT_PORT = 7007;
const INT_PORT = 8008;
type Family = 'ipv4' | 'ipv6';

function single(
  name: string,
  protocol: 'tcp' | 'udp',
  family: Family,
  server: ServerCase,
  programs: readonly Action[] = ['redirect'],
  expect: LookupCase['expect'] = 'A',
): LookupCase {
  const servers = { A: server, B: undefined, C: undefined };
  return { name, protocol, target: { address: EXT[family], port: EXT_PORT }, servers, programs, expect };
}

function* cases(): Generator<LookupCase> {
  const text = { ipv4: 'IPv4', ipv6: 'IPv6' } as const;
  for (const protocol of ['tcp', 'udp'] as const) {
    const upper = protocol.toUpperCase();
    for (const family of ['ipv4', 'ipv6'] as const) {
      const title = `${upper} ${text[family]}`;
      yield single(`${title} redir port`, protocol, family, { address: EXT[family], port: INT_PORT });
      yield single(`${title} redir addr`, protocol, family, { address: INT[family], port: EXT_PORT });
      if (family === 'ipv4')
        yield single(`${upper} IPv4->IPv6 redir port`, protocol, 'ipv4', { address: MAPPED, port: INT_PORT });
      const target = { address: EXT[family], port: EXT_PORT };
      const member = { address: INT[family], port: INT_PORT, reusePort: true };
      const servers = { A: member, B: member, C: undefined };
      const base = { protocol, target, servers, programs: ['redirect'] as Action[], reuseport: 'B' as const };
      yield { ...base, name: `${title} redir with reuseport`, expect: 'B' };
      if (protocol === 'udp')
        yield {
          ...base,
          name: `${title} redir and reuseport with conns`,
          connectedMember: true,
          expect: 'B',
        };
      yield {
        ...base,
        name: `${title} redir skip reuseport`,
        programs: ['redirect-no-reuseport'],
        expect: 'A',
      };
      const real = { address: EXT[family], port: EXT_PORT };
      yield single(`${title} drop on lookup`, protocol, family, real, ['drop'], 'refused');
      yield single(`${title} drop on valid ifindex`, protocol, family, real, ['drop-on-lo'], 'refused');
      yield {
        name: `${title} drop on reuseport`,
        protocol,
        target,
        servers: { A: member, B: undefined, C: { ...real, reusePort: true } },
        programs: ['redirect'],
        reuseport: 'drop',
        expect: 'refused',
      };
    }
  }
  const real = { address: EXT.ipv4, port: EXT_PORT };
  const elsewhere = { address: INT.ipv4, port: EXT_PORT };
  const several: readonly (readonly [Action, Action, LookupCase['expect']])[] = [
    ['pass', 'pass', 'C'],
    ['drop', 'drop', 'refused'],
    ['pass', 'drop', 'refused'],
    ['drop', 'pass', 'refused'],
    ['pass', 'redirect', 'A'],
    ['redirect', 'pass', 'A'],
    ['drop', 'redirect', 'A'],
    ['redirect', 'drop', 'A'],
    ['redirect', 'redirect', 'A'],
  ];
  for (const [first, second, expected] of several) {
    yield {
      name: `multi prog - ${first}, ${second}`,
      protocol: 'tcp',
      target: real,
      servers: { A: elsewhere, B: undefined, C: real },
      programs: [first, second],
      expect: expected,
    };
  }
}

/** The cases that end with a client and a server; the rest asks for values, see where they are run. */
export const LOOKUP_CASES: readonly LookupCase[] = [...cases()];

/** The addresses at which narrow loads of the context are compared, by the name of the case. */
export const NARROW_CASES = [
  ['narrow access to ctx v4', '127.0.0.1'],
  ['narrow access to ctx v6', 'fd00::1'],
] as const;

/** Sockets that cannot be selected, by the name of the case. */
export const REJECTED_CASES = [
  ['sk_assign rejects TCP established', 'tcp'],
  ['sk_assign rejects UDP connected', 'udp'],
] as const;

/** The subtests of the kernel's prog_tests/sk_lookup.c, one test each in either engine. */
export const ACCEPTANCE_NAMES: readonly string[] = [
  'query lookup prog',
  ...LOOKUP_CASES.map(({ name }) => name),
  'sk_assign returns EEXIST',
  'sk_assign honors F_REPLACE',
  'sk_assign accepts NULL socket',
  'access ctx->sk',
  ...NARROW_CASES.map(([name]) => name),
  ...REJECTED_CASES.map(([name]) => name),
];
