/** The running legacy tables, read from the kernel: what iptables-save prints of them, and a plan to take them over. */
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { runningRules } from '../../src/host/index.ts';
import type { Family } from '../../src/net/index.ts';
import { parseRuleset } from '../../src/rules/index.ts';
import { sluice } from '../support/cli.ts';
import { iptablesMissing, restoreProgram, saveProgram, withoutComments } from '../support/iptables.ts';
import { kernelMissing } from '../support/kernel.ts';
import { withNamespaces } from '../support/netns.ts';
import { randomRule, tableWith } from '../support/random-rules.ts';

const SOAK = process.env.SLUICE_SOAK === '1' ? 20 : 1;
const reason = kernelMissing ?? iptablesMissing;

describe.skipIf(reason !== undefined)(`import${reason === undefined ? '' : ` [skipped: ${reason}]`}`, () => {
  const counted = fc
    .tuple(fc.bigInt(0n, 2n ** 63n), fc.bigInt(0n, 2n ** 63n))
    .map((pair) => `[${pair.join(':')}]`);

  test.each<Family>(['ipv4', 'ipv6'])('random %s rules are read as iptables-save prints them', (family) =>
    withNamespaces(['a'], ({ a }) => {
      fc.assert(
        fc.property(
          fc.array(fc.tuple(counted, randomRule(family)), { minLength: 1, maxLength: 60 }),
          (rules) => {
            const counts = rules.map(([count]) => count).values();
            const text = tableWith(rules.map(([, rule]) => rule)).replaceAll(
              /^-A FORWARD/gm,
              (start) => `${counts.next().value} ${start}`,
            );
            const { diagnostics } = parseRuleset(text, { file: 'rules', family });
            fc.pre(diagnostics.every(({ severity }) => severity !== 'error'));
            a.exec(restoreProgram(family), ['-c'], { input: text });
            const saved = withoutComments(a.exec(saveProgram(family), ['-c']));
            const read = a.run(() => runningRules(family));
            expect(read?.unread).toEqual([]);
            expect(read?.text.split('\n')).toEqual(saved.split('\n'));
          },
        ),
        { numRuns: 30 * SOAK },
      );
    }),
  );

  test('the command prints all tables of both families and what cannot be taken over', () =>
    withNamespaces(['a'], async ({ a }) => {
      const none = await sluice(['import', '--netns', a.netnsName]);
      expect([none.code, none.stderr]).toEqual([2, expect.stringContaining('no iptables-legacy rules')]);
      a.exec('iptables-legacy', ['-A', 'INPUT', '-p', 'tcp', '--dport', '22', '-j', 'ACCEPT']);
      a.exec('iptables-legacy', ['-t', 'mangle', '-A', 'PREROUTING', '-j', 'MARK', '--set-mark', '7']);
      a.exec('ip6tables-legacy', ['-A', 'INPUT', '-p', 'udp', '-j', 'DROP']);
      const all = await sluice(['import', '--netns', a.netnsName]);
      expect(all.code).toBe(0);
      expect(all.stdout).toMatch(/^\*mangle$[\s\S]*^\*filter$[\s\S]*--dport 22 -j ACCEPT$/m);
      expect(all.stderr).toContain('all of it can be taken over');
      a.exec('iptables-legacy', ['-t', 'nat', '-A', 'POSTROUTING', '-j', 'MASQUERADE']);
      const more = await sluice(['import', '-4', '--json', '--netns', a.netnsName]);
      expect(more.code).toBe(1);
      const { problems, rulesets } = (
        JSON.parse(more.stdout) as {
          import: { problems: string[]; rulesets: { family: string; text: string }[] };
        }
      ).import;
      expect(problems.join()).toContain('MASQUERADE');
      expect(rulesets).toHaveLength(1);
      // What it prints is what it read: a file to apply.
      const { diagnostics } = parseRuleset(rulesets[0]!.text, { file: 'import', family: 'ipv4' });
      expect(diagnostics).toEqual([]);
    }));
});
