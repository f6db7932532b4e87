/**
 * Listings of small rulesets, to be read: what a rule becomes, and that the same input gives the same program. A changed
 * listing is read before it is accepted (vitest -u). What holds of each of them:
 *
 * - every block says what it is for, rules in their own words; no block is without a way to it
 * - nothing is loaded, stored or compared that nobody asks for: a header's ports are left alone where rules want its flags
 * - no jump leads to a jump or to what follows anyway, and no branch leads around a jump
 * - a bound is checked once: total length against header length where padding can lie behind a packet (not at netfilter), header
 *   length against 20 everywhere, the transport header's bytes at the first rule that needs them
 * - words that rules compare lie at odd multiples of four, so that the verifier does not tell apart what rules have left behind
 * - `may_goto` stands at the head of every loop, a chain with several callers included, and leads to a drop
 * - counters are plain where only softirq runs, atomic where process context does
 */
import { describe, expect, test } from 'vitest';
import {
  type AttachPoint,
  annotate,
  buildDispatcher,
  type CompileOptions,
  compilePolicy,
  entryIndex,
  ruleTexts,
} from '../../src/compile/index.ts';
import type { Family } from '../../src/net/index.ts';
import { parseRuleset, type Ruleset } from '../../src/rules/index.ts';

interface Golden {
  readonly name: string;
  readonly family?: Family;
  readonly options: CompileOptions;
  readonly point: AttachPoint;
  readonly lines: readonly string[];
}

const INPUT: AttachPoint = { flavour: 'netfilter', group: 'filter', family: 'ipv4', hook: 1 };
const NETFILTER: CompileOptions = { hooks: ['netfilter'] };

const GOLDEN: readonly Golden[] = [
  {
    // The three rules of the bpfilter RFC of 2018.
    name: 'bpfilter-rfc',
    options: { hooks: ['xdp'] },
    point: { flavour: 'xdp' },
    lines: [
      '-A INPUT -s 127.0.0.2/32 -d 127.0.0.1/32 -i lo -j DROP',
      '-A INPUT -s 127.0.0.4/32 -d 127.0.0.3/32 -i lo -j DROP',
      '-A INPUT -s 127.0.0.5/32 -i lo -j DROP',
    ],
  },
  {
    name: 'ports',
    options: NETFILTER,
    point: INPUT,
    lines: ['-A INPUT -p tcp -m multiport --dports 22,80,8000:8080 -j ACCEPT'],
  },
  {
    name: 'negations',
    options: NETFILTER,
    point: INPUT,
    lines: ['-A INPUT ! -s 10.0.0.0/8 ! -i eth+ ! -p udp -j DROP'],
  },
  {
    name: 'tcp-flags',
    options: NETFILTER,
    point: INPUT,
    lines: ['-A INPUT -p tcp -m tcp --tcp-flags SYN,RST,ACK,FIN SYN -j DROP'],
  },
  {
    name: 'fragments',
    options: NETFILTER,
    point: INPUT,
    lines: ['-A INPUT -f -j DROP', '-A INPUT ! -f -j ACCEPT'],
  },
  {
    name: 'state',
    options: NETFILTER,
    point: INPUT,
    lines: [
      '-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT',
      '-A INPUT -m conntrack --ctstate INVALID -j DROP',
    ],
  },
  {
    name: 'chains',
    options: NETFILTER,
    point: INPUT,
    lines: [
      '-A INPUT -s 10.0.0.0/8 -j inner',
      '-A INPUT -s 192.168.0.0/16 -g inner',
      '-A INPUT -p udp -j inner',
      '-A inner -p tcp -j RETURN',
      '-A inner -d 10.0.0.1/32 -j ACCEPT',
    ],
  },
  {
    name: 'limit-log',
    options: NETFILTER,
    point: INPUT,
    lines: ['-A INPUT -m limit --limit 5/min -j LOG --log-prefix "seen: "'],
  },
  {
    name: 'reject',
    options: NETFILTER,
    point: INPUT,
    lines: ['-A INPUT -p tcp -j REJECT --reject-with tcp-reset'],
  },
  {
    name: 'ipv6',
    family: 'ipv6',
    options: NETFILTER,
    point: { ...INPUT, family: 'ipv6' },
    lines: ['-A INPUT -s 2001:db8::/48 -p tcp -m tcp --dport 443 -j ACCEPT'],
  },
  {
    name: 'tcx-egress',
    options: { hooks: ['tcx-egress'] },
    point: { flavour: 'tcx', direction: 'egress' },
    lines: ['-A OUTPUT -o eth0 -p udp -m udp --dport 53 -j ACCEPT'],
  },
  {
    name: 'cgroup-egress',
    options: { hooks: ['cgroup-egress'] },
    point: { flavour: 'cgroup', direction: 'egress' },
    lines: ['-A OUTPUT -d 169.254.169.254/32 -j DROP'],
  },
];

function parse({ family = 'ipv4', lines }: Golden): Ruleset {
  const users = new Set(
    lines.map((line) => line.split(' ')[1]!).filter((chain) => chain !== chain.toUpperCase()),
  );
  const text = [
    '*filter',
    ':INPUT DROP [0:0]',
    ':FORWARD DROP [0:0]',
    ':OUTPUT ACCEPT [0:0]',
    ...[...users].map((chain) => `:${chain} - [0:0]`),
    ...lines,
    'COMMIT',
    '',
  ].join('\n');
  const { ruleset, diagnostics } = parseRuleset(text, { file: 'golden', family });
  expect(diagnostics).toEqual([]);
  return ruleset;
}

describe('golden listings', () => {
  for (const golden of GOLDEN) {
    test(golden.name, async () => {
      const ruleset = parse(golden);
      const policy = compilePolicy([ruleset], golden.options);
      const program = policy.programs.find(({ point }) => entryIndex(point) === entryIndex(golden.point))!;
      const listing = annotate(program, ruleTexts([ruleset]));
      await expect(`${golden.lines.join('\n')}\n\n${listing}\n`).toMatchFileSnapshot(
        `golden/${golden.name}.txt`,
      );
      expect(compilePolicy([parse(golden)], golden.options)).toEqual(policy);
    });
  }

  test('dispatcher', async () => {
    const program = buildDispatcher(INPUT, 'later');
    await expect(`${annotate(program, () => undefined)}\n`).toMatchFileSnapshot('golden/dispatcher.txt');
  });
});
