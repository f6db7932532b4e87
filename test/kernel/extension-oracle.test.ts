/** Random rules of every extension: the real iptables-restore and iptables-save make of them what parser and printer make of them. */
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Family } from '../../src/net/index.ts';
import { formatDiagnostic, parseRuleset, printRuleset } from '../../src/rules/index.ts';
import { iptablesMissing, restore } from '../support/iptables.ts';
import { randomExtensionRuleset } from '../support/random-extension-rules.ts';

const SOAK = process.env.SLUICE_SOAK === '1' ? 40 : 1;

/** Rules table by table, whatever the order of the tables: that of the file is not that of iptables-save. */
function rulesByTable(text: string): Record<string, string[]> {
  const tables: Record<string, string[]> = {};
  let rules: string[] = [];
  for (const line of text.split('\n')) {
    if (line.startsWith('*')) {
      rules = [];
      tables[line.slice(1)] = rules;
    } else if (line.startsWith('-A')) rules.push(line);
  }
  return tables;
}

describe.skipIf(iptablesMissing !== undefined)(
  `iptables-save of extensions${iptablesMissing === undefined ? '' : ` [skipped: ${iptablesMissing}]`}`,
  () => {
    it.each<Family>(['ipv4', 'ipv6'])('prints random %s rules the same', (family) => {
      fc.assert(
        fc.property(randomExtensionRuleset(family), (text) => {
          const { ruleset, diagnostics } = parseRuleset(text, { file: 'rules', family });
          const real = restore(text, family);
          const errors = diagnostics.filter(({ severity }) => severity === 'error');
          const refusal = real.accepted ? '' : `${real.message} ${text.split('\n')[(real.line ?? 0) - 1]}`;
          expect(refusal).toBe('');
          expect(errors.map(formatDiagnostic)).toEqual([]);
          expect(rulesByTable(printRuleset(ruleset))).toEqual(rulesByTable(real.saved));
        }),
        { numRuns: 50 * SOAK },
      );
    });
  },
);
