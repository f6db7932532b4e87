/**
 * Arbitrary rulesets in iptables-save text that the kernel takes: all tables, user chains, jumps and gotos, every
 * condition that can be evaluated, negations. Each comes with the packets at its conditions' edges.
 */
import fc from 'fast-check';
import type { Family } from '../../../src/net/index.ts';
import type { Aim, Piece } from './aim.ts';
import {
  destinationPiece,
  fragmentPiece,
  inDevicePiece,
  negation,
  outDevicePiece,
  sourcePiece,
} from './base-pieces.ts';
import { generalPiece, type Standing } from './match-pieces.ts';
import { ah6Piece, protocolPieces } from './protocol-pieces.ts';

export interface GeneratedRule {
  readonly text: string;
  /** One list for each condition: mixing one of each gives packets near the rule. */
  readonly aims: readonly (readonly Aim[])[];
}

export interface GeneratedRuleset {
  readonly family: Family;
  readonly text: string;
  readonly rules: readonly GeneratedRule[];
  /** Some rule asks for the connection's state. */
  readonly stateful: boolean;
}

export interface RulesetOptions {
  readonly family: Family;
  /** Conditions on connections: such rulesets switch conntrack on. */
  readonly stateful?: boolean;
  /** Rules in a chain, at most. */
  readonly maximumRules?: number;
}

type TableName = Standing['table'];

const BASE_CHAINS: Readonly<Record<TableName, readonly string[]>> = {
  raw: ['PREROUTING', 'OUTPUT'],
  mangle: ['PREROUTING', 'INPUT', 'FORWARD', 'OUTPUT', 'POSTROUTING'],
  filter: ['INPUT', 'FORWARD', 'OUTPUT'],
};

const REJECTS: Readonly<Record<Family, readonly string[]>> = {
  ipv4: ['icmp-port-unreachable', 'icmp-net-unreachable', 'icmp-admin-prohibited'],
  ipv6: ['icmp6-port-unreachable', 'icmp6-no-route', 'icmp6-adm-prohibited'],
};

const STATES = ['NEW', 'ESTABLISHED', 'RELATED', 'INVALID', 'UNTRACKED'] as const;

const statePiece: fc.Arbitrary<Piece> = fc
  .tuple(
    fc.constantFrom('state', 'conntrack'),
    negation,
    fc.uniqueArray(fc.constantFrom(...STATES), { minLength: 1, maxLength: 3 }),
  )
  .map(([name, not, states]) => ({
    text: `-m ${name} ${not}--${name === 'state' ? 'state' : 'ctstate'} ${states.join(',')}`,
    aims: [],
  }));

const statusPiece: fc.Arbitrary<Piece> = fc
  .tuple(negation, fc.constantFrom('NONE', 'SEEN_REPLY', 'ASSURED', 'CONFIRMED', 'SEEN_REPLY,ASSURED'))
  .map(([not, status]) => ({ text: `-m conntrack ${not}--ctstatus ${status}`, aims: [] }));

const directionPiece: fc.Arbitrary<Piece> = fc
  .constantFrom('ORIGINAL', 'REPLY')
  .map((direction) => ({ text: `-m conntrack --ctdir ${direction}`, aims: [] }));

/** A condition on the packet's connection. */
export function connectionPiece(family: Family): fc.Arbitrary<Piece> {
  const addresses = fc
    .tuple(
      negation,
      fc.constantFrom('ctorigsrc', 'ctorigdst', 'ctreplsrc', 'ctrepldst'),
      fc.oneof(sourcePiece(family), destinationPiece(family)),
    )
    .map(([not, option, { text }]) => ({
      text: `-m conntrack ${not}--${option} ${text.split(' ').at(-1)}`,
      aims: [],
    }))
    // A mask that is no prefix cannot be said here.
    .filter(({ text }) => /\/\d+$/.test(text));
  const ports = fc
    .tuple(
      negation,
      fc.constantFrom('ctorigsrcport', 'ctorigdstport', 'ctreplsrcport', 'ctrepldstport'),
      fc.nat(65_535),
      fc.nat(65_535),
    )
    .map(([not, option, a, b]) => ({
      text: `-m conntrack ${not}--${option} ${Math.min(a, b)}:${Math.max(a, b)}`,
      aims: [],
    }));
  const protocol = fc
    .tuple(negation, fc.constantFrom('tcp', 'udp', family === 'ipv4' ? 'icmp' : 'ipv6-icmp'))
    .map(([not, name]) => ({ text: `-m conntrack ${not}--ctproto ${name}`, aims: [] }));
  return fc.oneof(
    { weight: 4, arbitrary: statePiece },
    statusPiece,
    directionPiece,
    addresses,
    ports,
    protocol,
  );
}

/** A condition that is there `there` times for every `absent` times that it is not. */
function maybe(absent: number, there: number, piece: fc.Arbitrary<Piece>): fc.Arbitrary<readonly Piece[]> {
  return fc.oneof(
    { weight: absent, arbitrary: fc.constant<readonly Piece[]>([]) },
    { weight: there, arbitrary: piece.map((one): readonly Piece[] => [one]) },
  );
}

const nothing: fc.Arbitrary<readonly Piece[]> = fc.constant<readonly Piece[]>([]);

/** Half of the rules name a protocol; three quarters of these have a match of its own. */
function protocol(family: Family): fc.Arbitrary<readonly Piece[]> {
  const named = protocolPieces(family).chain((chosen): fc.Arbitrary<readonly Piece[]> => {
    if (chosen.matches === undefined) return fc.constant([chosen.protocol]);
    return maybe(1, 3, chosen.matches).map((match) => [chosen.protocol, ...match]);
  });
  return fc.oneof(nothing, named);
}

function conditions(standing: Standing, stateful: boolean): fc.Arbitrary<readonly Piece[]> {
  const { family, chain, table } = standing;
  const input = chain !== 'OUTPUT' && chain !== 'POSTROUTING';
  const output = chain === 'FORWARD' || chain === 'POSTROUTING' || chain === 'user';
  return fc
    .tuple(
      maybe(3, 1, sourcePiece(family)),
      maybe(3, 1, destinationPiece(family)),
      input ? maybe(4, 1, inDevicePiece) : nothing,
      output ? maybe(4, 1, outDevicePiece(family)) : nothing,
      protocol(family),
      family === 'ipv4' ? maybe(6, 1, fragmentPiece) : maybe(8, 1, ah6Piece),
      maybe(2, 3, generalPiece(standing)),
      maybe(5, 1, generalPiece(standing)),
      stateful && table !== 'raw' ? maybe(1, 2, connectionPiece(family)) : nothing,
    )
    .map((pieces) => pieces.flat());
}

/** What the rule does. User chains are jumped to from earlier ones only, so that there is no loop. */
function target(standing: Standing, laterChains: readonly string[]): fc.Arbitrary<string> {
  const { family, table } = standing;
  const choices: { weight: number; arbitrary: fc.Arbitrary<string> }[] = [
    { weight: 6, arbitrary: fc.constant('') },
    { weight: 2, arbitrary: fc.constantFrom('-j ACCEPT', '-j DROP', '-j RETURN') },
    { weight: 1, arbitrary: fc.constant('-j LOG --log-prefix "seen: " --log-level 7') },
  ];
  if (laterChains.length > 0) {
    choices.push({
      weight: 6,
      arbitrary: fc
        .tuple(fc.constantFrom('-j', '-j', '-g'), fc.constantFrom(...laterChains))
        .map(([how, chain]) => `${how} ${chain}`),
    });
  }
  if (table === 'mangle') {
    choices.push({
      weight: 4,
      arbitrary: fc
        .tuple(
          fc.constantFrom('set-xmark', 'and-mark', 'or-mark', 'xor-mark', 'set-mark'),
          fc.constantFrom(1, 2, 3, 0x10, 0xf0),
        )
        .map(([how, value]) => `-j MARK --${how} 0x${value.toString(16)}`),
    });
  }
  if (table === 'filter') {
    choices.push({
      weight: 1,
      arbitrary: fc.constantFrom(...REJECTS[family]).map((reason) => `-j REJECT --reject-with ${reason}`),
    });
  }
  return fc.oneof(...choices);
}

function rule(
  standing: Standing,
  chainName: string,
  laterChains: readonly string[],
  stateful: boolean,
): fc.Arbitrary<GeneratedRule> {
  return fc.tuple(conditions(standing, stateful), target(standing, laterChains)).map(([pieces, action]) => ({
    text: ['-A', chainName, ...pieces.map(({ text }) => text), action]
      .filter((word) => word !== '')
      .join(' '),
    aims: pieces.map(({ aims }) => aims).filter((aims) => aims.length > 0),
  }));
}

function silences(table: TableName, chain: string): boolean {
  return table === 'raw' && chain === 'OUTPUT';
}

interface GeneratedTable {
  readonly text: string;
  readonly rules: readonly GeneratedRule[];
}

function table(name: TableName, options: RulesetOptions): fc.Arbitrary<GeneratedTable> {
  const { family, stateful = false, maximumRules = 8 } = options;
  return fc.integer({ min: 0, max: 4 }).chain((userChains) => {
    const users = Array.from({ length: userChains }, (_, index) => `chain-${index}`);
    const bases = BASE_CHAINS[name];
    const rulesOf = (
      chain: string,
      standing: string,
      later: readonly string[],
    ): fc.Arbitrary<GeneratedRule[]> =>
      fc.array(rule({ family, table: name, chain: standing }, chain, later, stateful), {
        maxLength: maximumRules,
      });
    const policy = fc.constantFrom('ACCEPT', 'ACCEPT', 'ACCEPT', 'DROP');
    return fc
      .tuple(
        // Raw OUTPUT only drops: what the host itself answers would move counters between two packets.
        fc.tuple(
          ...bases.map((chain) => (silences(name, chain) ? fc.constant([]) : rulesOf(chain, chain, users))),
        ),
        fc.tuple(...users.map((chain, index) => rulesOf(chain, 'user', users.slice(index + 1)))),
        fc.tuple(...bases.map(() => policy)),
      )
      .map(([baseRules, userRules, policies]) => {
        const rules = [...baseRules, ...userRules].flat();
        const head = [
          `*${name}`,
          ...bases.map(
            (chain, index) => `:${chain} ${silences(name, chain) ? 'DROP' : policies[index]} [0:0]`,
          ),
          ...users.map((chain) => `:${chain} - [0:0]`),
        ];
        return { text: [...head, ...rules.map(({ text }) => text), 'COMMIT', ''].join('\n'), rules };
      });
  });
}

/** Rulesets of a raw table that silences the host, a filter table, and a mangle table half of the time. */
export function generatedRuleset(options: RulesetOptions): fc.Arbitrary<GeneratedRuleset> {
  return fc
    .tuple(
      table('raw', { ...options, maximumRules: 2 }),
      fc.option(table('mangle', options), { freq: 1 }),
      table('filter', options),
    )
    .map((tables) => {
      const present = tables.filter((one) => one !== null);
      const text = present.map((one) => one.text).join('');
      return {
        family: options.family,
        text,
        rules: present.flatMap(({ rules }) => rules),
        // The kernel tracks connections, and gathers fragments for that, while there is a rule that asks for them.
        stateful: / -m (conntrack|state) /.test(text),
      };
    });
}
