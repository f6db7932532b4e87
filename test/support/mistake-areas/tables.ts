/** Rules as data: the program that walks the tables, and what the tables say. */

import { MAX_LINEAR_RULES } from '../../../src/compile/strategies/classifier/index.ts';
import { HOOK_CHAINS } from '../../../src/ir/index.ts';
import type { Family } from '../../../src/net/index.ts';
import { caseSubject, connectionSubject, unreadSubject } from '../case-subjects.ts';
import { hookSubject, PLACES } from '../hook-cases.ts';
import { hookCases } from '../hook-rules.ts';
import { type MachineCase, machineCases } from '../machine-cases.ts';
import {
  addressKindCase,
  connectionCases,
  effectCases,
  focusedCases,
  headerCases,
  icmpCase,
  longChainCase,
  sample,
  truncatedCases,
} from '../mistake-cases.ts';
import type { Subject } from '../mistakes.ts';
import { edgeCases, kinds, listCases, setCases } from '../set-cases.ts';
import { hookTableCases, tableCases } from '../table-cases.ts';
import type { MistakeArea } from './area.ts';
import { editSubjects } from './edits.ts';

const FAMILIES = ['ipv4', 'ipv6'] as const;
const RULESETS = 4;
const PACKETS = 40;

/** Hooks whose chains are about different things. */
function isAsked({ group, hook }: MachineCase): boolean {
  return group === 'filter' ? hook === 1 || hook === 2 : group === 'mangle' && hook === 0;
}

/** Some of many that are made alike. */
function isOneOf(_: unknown, index: number): boolean {
  return index % 4 === 1;
}

function subjects(): Subject[] {
  const cases = FAMILIES.flatMap((family) => [
    ...focusedCases(family),
    ...[
      ...truncatedCases(family),
      ...headerCases(family),
      ...(family === 'ipv6' ? [longChainCase()] : []),
      ...connectionCases(family),
      icmpCase(family),
      addressKindCase(family),
      ...effectCases(family),
    ].flatMap(inBothForms),
    ...tableCases(family),
    ...setsInTables(family),
    ...sample(machineCases(family, PACKETS), RULESETS).flatMap((cases) => cases.filter(isAsked)),
  ]);
  return [
    ...FAMILIES.flatMap((family) => [
      connectionSubject(family, 'classifier'),
      unreadSubject(family, 'classifier'),
    ]),
    ...cases.flatMap((given) => caseSubject(given, 'classifier')),
    ...PLACES.filter(({ ways }) => ways === 'in')
      .flatMap((place) => [...hookCases(place).filter(isOneOf), ...hookTableCases(place)])
      .flatMap((given) => hookSubject({ ...given, strategy: 'classifier' }) ?? []),
    // Chains of several parts come of edits alone.
    ...editSubjects(1),
  ];
}

/** As it is, and with so many rules before its own, which no packet fits, that it is no linear chain. */
function inBothForms(given: MachineCase): MachineCase[] {
  const { family, hook, text } = given;
  const chain = `-A ${HOOK_CHAINS[hook]} `;
  const own = text.indexOf(chain, text.indexOf(`*${given.group}`));
  const others = Array.from({ length: MAX_LINEAR_RULES }, (_, at) =>
    family === 'ipv4' ? `-s 192.0.2.${at + 1}` : `-s 2001:db8:ffff::${at + 1}`,
  );
  const long = text.slice(0, own) + others.map((one) => `${chain}${one}\n`).join('') + text.slice(own);
  return text.split(chain).length > MAX_LINEAR_RULES ? [given] : [given, { ...given, text: long }];
}

/** Rules about sets of all types, and about lists of them. */
function setsInTables(family: Family): MachineCase[] {
  return [
    ...kinds(family).flatMap(([type, entries]) => sample(setCases(family, type, entries), 2)),
    ...sample(listCases(family, 'asked'), 4),
    ...sample(listCases(family, 'changed'), 4),
  ]
    .map(({ given }) => given)
    .concat(edgeCases(family));
}

/** One range too many is whatever lies behind the node. */
const BEHIND = 'numbers behind a node between which 1 or 2 lies';

export const TABLES: MistakeArea = {
  name: 'rules as tables',
  emitters:
    /^(strategies\/classifier\/(ask|bits|lookup|program|walk|tables|chains|nodes|trie|service|vectors)\.|emit\/blur|hooks\/netfiltergroup)/,
  subjects,
  share: 24,
  equivalent: {
    'strategies/classifier/tables.ts buildTables u32 1': 'for people who look at memory: no program reads it',
    'strategies/classifier/tables.ts buildTables u32 2': 'as above',
    'strategies/classifier/tables.ts buildTables u32 3': 'a number more that no chain has',
    'strategies/classifier/tables.ts buildTables u8 2':
      'a packet that is taken for a short one is asked all conditions one after the other',
    'strategies/classifier/tables.ts writeMarks u32 2':
      'whether a mark was set whole is asked where it cannot have been, and the answer is no',
    'strategies/classifier/service.ts writeService u32 3': 'no value is as large',
    'strategies/classifier/nodes.ts #one u32 word 4 6':
      'how many words an address has: programs know it of their family',
    'strategies/classifier/nodes.ts #one u32 word 7 7': 'what is 0 or 1 is at most 2, too',
    'strategies/classifier/nodes.ts #one u32 word 4 10': "type 0 is no address's",
    'strategies/classifier/nodes.ts module u32 word 4 1': 'what is taken out of a set has no timeout',
    'strategies/classifier/nodes.ts module u32 word 5 1': 'as above',
    'strategies/classifier/program.ts emitTcpFlags store 1':
      'packets without the header are odd ones, whose conditions are asked one after the other',
    'strategies/classifier/walk.ts #enterPart store 1': 'no records lie at 0 or 1',
    'strategies/classifier/walk.ts #return store 1': 'as above',
    'strategies/classifier/walk.ts #enterPart add 1':
      'any number at which no records lie says that a vector is empty',
    'strategies/classifier/walk.ts #simple and 1': 'the general way comes to the same rule',
    'strategies/classifier/program.ts emitLists store 2':
      'any number but 0 says that the routing decision is behind',
  },
  unseen: {
    'hooks/netfiltergroup.ts askPreemptible jump 1':
      'which additions are atomic: nothing interrupts the machine in the midst of one',
    'strategies/classifier/nodes.ts #scalar u32 word 5 3': BEHIND,
    'strategies/classifier/nodes.ts #one u32 word 5 8': BEHIND,
    'strategies/classifier/nodes.ts #one u32 word 3 11':
      "addresses that are the host's on one device only: test/kernel/surroundings-live.test.ts",
  },
};
