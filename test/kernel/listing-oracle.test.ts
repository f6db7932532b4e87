/** Random rules: the columns that the real iptables -L prints of them are those that the listing has. */
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Family } from '../../src/net/index.ts';
import { listTable, parseRuleset } from '../../src/rules/index.ts';
import { inScratchNetns, iptablesMissing, restoreProgram } from '../support/iptables.ts';
import { randomRule, tableWith } from '../support/random-rules.ts';

const SOAK = process.env.SLUICE_SOAK === '1' ? 20 : 1;

describe.skipIf(iptablesMissing !== undefined)(
  `iptables -L${iptablesMissing === undefined ? '' : ` [skipped: ${iptablesMissing}]`}`,
  () => {
    const counters = fc
      .tuple(
        fc.constantFrom(0n, 99_999n, 100_000n, 9_999_499n, 9_999_500n, 123_456_789_012n),
        fc.bigInt(0n, 2n ** 60n),
      )
      .map(([packets, bytes]) => `[${packets}:${bytes}]`);
    it.each<Family>(['ipv4', 'ipv6'])('shows random %s rules in the same columns', (family) => {
      fc.assert(
        fc.property(
          fc.array(fc.tuple(counters, randomRule(family)), { minLength: 1, maxLength: 60 }),
          fc.record({ verbose: fc.boolean(), exact: fc.boolean(), numbered: fc.boolean() }),
          (rules, options) => {
            const counts = rules.map(([count]) => count).values();
            const text = tableWith(rules.map(([, rule]) => rule)).replaceAll(
              /^-A FORWARD/gm,
              (start) => `${counts.next().value} ${start}`,
            );
            const { ruleset, diagnostics } = parseRuleset(text, { file: 'rules', family });
            // What cannot be restored cannot be listed.
            fc.pre(diagnostics.every(({ severity }) => severity !== 'error'));
            const words = [
              options.verbose ? '-v' : '',
              options.exact ? '-x' : '',
              options.numbered ? '--line-numbers' : '',
            ].join(' ');
            const program = restoreProgram(family);
            const list = `${program.replace('-restore', '')} -L -n ${words}`;
            const { stdout, stderr, status } = inScratchNetns(`${program} -c "$INPUT" && ${list}`, text);
            expect(status, stderr).toBe(0);
            expect(listTable(ruleset.tables[0]!, family, options).split('\n')).toEqual(stdout.split('\n'));
          },
        ),
        { numRuns: 40 * SOAK },
      );
    });

    const BOTH = [
      '-m mac --mac-source 00:11:22:33:44:55',
      '-m mac ! --mac-source 00:11:22:33:44:ee',
      '-p tcp -m multiport ! --ports 1,2:3',
      '-m statistic --mode random ! --probability 0.5',
      '-m statistic --mode nth ! --every 5 --packet 0',
      '-m addrtype --src-type LOCAL --limit-iface-in',
      '-p tcp -m tcp ! --sport 0:65535',
      '-p sctp -m sctp --chunk-types any ALL',
      '-p sctp -m sctp ! --chunk-types only NONE',
      '-p tcp -j REJECT --reject-with tcp-reset',
      '-j LOG --log-tcp-sequence',
      '-m string ! --string "a b" --algo kmp --from 4 --to 90 --icase',
      '-m string --hex-string "|0a|" --algo bm',
      '-m u32 ! --u32 "0x0=0x0:0x5"',
      '-p tcp -m tcpmss ! --mss 42:100',
      '-m connbytes ! --connbytes 5 --connbytes-mode bytes --connbytes-dir reply',
      '-p tcp -m ecn ! --ecn-tcp-ece --ecn-tcp-cwr ! --ecn-ip-ect 2',
      '-m physdev ! --physdev-is-in ! --physdev-in lo+',
    ];
    const OWN = {
      ipv4: [
        '-p icmp -m icmp --icmp-type 8',
        '-p icmp -m icmp ! --icmp-type 3/1',
        '-p icmp -m icmp ! --icmp-type any',
        '-p ah -m ah --ahspi 5',
      ],
      ipv6: [
        '-p icmpv6 -m icmp6 --icmpv6-type 128',
        '-p icmpv6 -m icmp6 ! --icmpv6-type 1/3',
        '-p mh -m mh ! --mh-type 1:5',
        '-p mh -m mh',
        '-m frag ! --fragid 1 --fraglen 5',
      ],
    };
    it.each<Family>(['ipv4', 'ipv6'])('shows what random %s rules seldom have', (family) => {
      const text = tableWith([...BOTH, ...OWN[family]]);
      const { ruleset, diagnostics } = parseRuleset(text, { file: 'rules', family });
      expect(diagnostics).toEqual([]);
      const program = restoreProgram(family);
      const { stdout } = inScratchNetns(
        `${program} "$INPUT" && ${program.replace('-restore', '')} -L -n`,
        text,
      );
      expect(listTable(ruleset.tables[0]!, family).split('\n')).toEqual(stdout.split('\n'));
    });
  },
);
