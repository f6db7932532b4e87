/** Random rules about IP sets, as people might write them, and the sets that they name. */
import * as fc from 'fast-check';
import type { Family } from '../../src/net/index.ts';
import { listOf, number, option, someOf } from './random-rules.ts';

/** Names by the number of their dimensions. */
const NAMES = { one: 1, pair: 2, three: 3 } as const;

/** What ipset-restore makes them from. */
export const RULE_SETS: Readonly<Record<Family, string>> = {
  ipv4: setsOf('inet'),
  ipv6: setsOf('inet6'),
};

function setsOf(family: 'inet' | 'inet6'): string {
  return [
    `create one hash:ip family ${family} counters skbinfo timeout 100`,
    `create pair hash:ip,port family ${family} counters`,
    `create three hash:ip,port,ip family ${family}`,
    '',
  ].join('\n');
}

const reference = fc
  .constantFrom(...Object.entries(NAMES))
  .chain(([name, dimensions]) =>
    fc
      .array(fc.constantFrom('src', 'dst'), { minLength: dimensions, maxLength: dimensions })
      .map((directions) => `${name} ${directions.join(',')}`),
  );

const counters = (what: 'packets' | 'bytes'): fc.Arbitrary<string> =>
  fc.oneof(
    option(`${what}-eq`, number(0xffff_ffff)),
    fc
      .tuple(fc.constantFrom('lt', 'gt'), number(0xffff_ffff))
      .map(([compare, value]) => `--${what}-${compare} ${value}`),
  );

const match = fc
  .tuple(
    option('match-set', reference),
    someOf([
      fc.constant('--return-nomatch'),
      fc.constantFrom('! --update-counters', '--update-counters'),
      fc.constant('! --update-subcounters'),
      counters('packets'),
      counters('bytes'),
    ]),
  )
  .map((parts) => `-m set ${parts.join(' ')}`.trimEnd());

const target = fc
  .tuple(
    fc.subarray(['add', 'del', 'map'], { minLength: 1 }),
    reference,
    reference,
    listOf(['mark', 'prio', 'queue']),
    fc.constantFrom('', '--exist', '--timeout 77', '--exist --timeout 0'),
  )
  .map(([operations, first, second, mapped, more]) =>
    [
      '-j SET',
      operations.includes('add') ? `--add-set ${first} ${more}`.trimEnd() : '',
      operations.includes('del') ? `--del-set ${second}` : '',
      operations.includes('map')
        ? `--map-set one src ${[...new Set(mapped.split(','))].map((word) => `--map-${word}`).join(' ')}`
        : '',
    ]
      .filter((word) => word !== '')
      .join(' '),
  );

/** Rules of table mangle's chain POSTROUTING, where everything about sets is possible. */
export function randomSetRuleset(): fc.Arbitrary<string> {
  const rule = fc.oneof(
    match,
    target,
    fc.tuple(match, target).map((parts) => parts.join(' ')),
  );
  return fc
    .array(rule, { minLength: 1, maxLength: 10 })
    .map(
      (rules) =>
        `*security\nCOMMIT\n*mangle\n${rules.map((text) => `-A POSTROUTING ${text}\n`).join('')}COMMIT\n`,
    );
}
