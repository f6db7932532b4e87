/** Every option of every extension, with values of all kinds: no crash, findings inside the text, and what is accepted reads back. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Family } from '../../src/net/index.ts';
import { allExtensions, parseRuleset, printRuleset } from '../../src/rules/index.ts';

const RUNS = process.env.SLUICE_SOAK === '1' ? 400_000 : 12_000;

/** Values that options take somewhere, right, at the edge and wrong. */
const VALUES = [
  ...[
    '0',
    '1',
    '-1',
    '7',
    '255',
    '256',
    '65535',
    '65536',
    '4294967295',
    '4294967296',
    '0x',
    '0xff',
    '0x1/0xff',
    '010',
    '1e3',
  ],
  ...[
    '1:2',
    '2:1',
    ':',
    '1:',
    ':9',
    '1-5',
    '5-1',
    '1,2,3',
    ',',
    '1,,2',
    '1:2:3',
    '22/tcp',
    '5/sec',
    '10/minute',
    '0/day',
    '9/fortnight',
    '100kb/s',
    '5mb/s',
    '1/0',
  ],
  ...[
    '10.0.0.0/8',
    '10.0.0.1',
    '10.0.0.1-10.0.0.9',
    '10.0.0.9-10.0.0.1',
    '256.1.1.1',
    '10.0.0.0/33',
    '255.0.255.0',
    '10.0.0.1:80',
    '10.0.0.1:80-90',
    '0.0.0.0/0',
  ],
  ...[
    '2001:db8::/32',
    '2001:db8::1',
    '::1',
    '[2001:db8::1]:80',
    '[::1',
    'ffff:ffff:ffff:ffff::',
    '2001:db8::/129',
  ],
  ...[
    'eth0',
    'eth+',
    '+',
    'averyveryverylongname',
    'NEW',
    'NEW,ESTABLISHED',
    'INVALID,',
    'SYN,ACK',
    'SYN',
    'ALL',
    'NONE',
    'tcp',
    'icmp',
    '6',
    'any',
    'echo-request',
    'all',
  ],
  ...[
    '|41 42|',
    '|4|',
    '|zz|',
    'a|0d0a|b',
    '"a b"',
    '"',
    '\\',
    "'",
    'x'.repeat(31),
    'x'.repeat(300),
    'é',
    '\u0000',
    '%n%s',
    '../../x',
    'a b',
    '!',
  ],
  ...[
    '00:11:22:33:44:55',
    '00:11:22:33:44',
    '12:30',
    '24:00',
    '2020-01-01T00:00:00',
    'Mon,Tue',
    'Mo',
    '1,15,31',
    '32',
    '0x0>>16&0xff=1',
    '0x0>>16&&',
    '4,48 0 0 9,21 0 1 6,6 0 0 1,6 0 0 0',
  ],
  ...[
    'srcip',
    'srcip,dstport',
    'src',
    'src,dst',
    'src,dst,src,dst,src,dst,src',
    'foo',
    'DEBUG',
    'warning',
    '8',
    'icmp-port-unreachable',
    'tcp-reset',
    'Minimize-Delay',
    'cs1',
    'af11',
    'EF',
    'BE',
  ],
];

const extensions = allExtensions();

const cases = fc
  .record({
    extension: fc.nat(extensions.length - 1),
    ipv6: fc.boolean(),
    protocol: fc.constantFrom(
      '',
      '-p tcp ',
      '-p udp ',
      '-p icmp ',
      '-p icmpv6 ',
      '! -p 6 ',
      '-p sctp ',
      '-p dccp ',
      '-p 51 ',
      '-p esp ',
    ),
    table: fc.constantFrom('filter', 'mangle', 'nat', 'raw'),
    options: fc.array(
      fc.record({
        pick: fc.nat(),
        negate: fc.integer({ min: 0, max: 5 }),
        values: fc.array(
          fc.oneof({ weight: 9, arbitrary: fc.constantFrom(...VALUES) }, fc.string({ maxLength: 12 })),
          { minLength: 2, maxLength: 2 },
        ),
      }),
      { maxLength: 4 },
    ),
  })
  .map(({ extension: index, ipv6, protocol, table, options }) => {
    const extension = extensions[index]!;
    const family: Family = extension.families.length === 1 ? extension.families[0]! : ipv6 ? 'ipv6' : 'ipv4';
    const words = options.flatMap(({ pick, negate, values }) => {
      const option = extension.options[pick % Math.max(1, extension.options.length)];
      if (option === undefined) return [];
      const count = option.arguments === 'optional' ? pick % 2 : option.arguments;
      return [...(negate === 0 ? ['!'] : []), `--${option.name}`, ...values.slice(0, count)];
    });
    const chain = table === 'filter' || table === 'mangle' ? 'FORWARD' : 'PREROUTING';
    const rule = `-A ${chain} ${protocol}${extension.kind === 'match' ? '-m' : '-j'} ${extension.name} ${words.join(' ')}`;
    // iptables-save prints some strings bare (names of recent, devices, pinned paths): with blanks, quotes or "!" in
    // them its own output does not read back either.
    const bare = options.every(({ values }) => values.every((value) => !/[\s"'\\!]/.test(value)));
    return { family, bare, text: `*${table}\n${rule}\nCOMMIT\n` };
  });

describe('option values', () => {
  it('are taken or refused in the text, and what is taken reads back as it is printed', () => {
    let accepted = 0;
    fc.assert(
      fc.property(cases, ({ family, bare, text }) => {
        const lines = text.split('\n');
        const { ruleset, diagnostics } = parseRuleset(text, { file: 'values', family });
        for (const { span } of diagnostics) {
          expect(span.line).toBeGreaterThan(0);
          expect(span.line).toBeLessThanOrEqual(lines.length);
          expect(span.column - 1).toBeLessThanOrEqual(lines[span.line - 1]!.length);
        }
        if (diagnostics.some(({ severity }) => severity === 'error') || !bare) return;
        accepted++;
        const printed = printRuleset(ruleset);
        const again = parseRuleset(printed, { file: 'again', family });
        expect(again.diagnostics.filter(({ severity }) => severity === 'error')).toEqual([]);
        expect(printRuleset(again.ruleset)).toBe(printed);
      }),
      { numRuns: RUNS },
    );
    expect(accepted).toBeGreaterThan(RUNS / 50);
  });
});
