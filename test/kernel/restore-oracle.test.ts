/** The real iptables-restore and the parser agree about which shared rulesets are in order, and where the others are not. */
import { describe, expect, it } from 'vitest';
import type { Family } from '../../src/net/index.ts';
import { COMMIT_CODES, parseRuleset } from '../../src/rules/index.ts';
import { readRuleset, rulesetPaths } from '../support/corpus.ts';
import { iptablesMissing, restore } from '../support/iptables.ts';
import { sharedDataExists } from '../support/shared-data.ts';

const FAMILIES: readonly Family[] = ['ipv4', 'ipv6'];
const missing = iptablesMissing ?? (sharedDataExists('rulesets') ? undefined : 'needs the shared rulesets');

/**
 * What depends on the machine, not on the text: sets that would have to exist, and kernel modules that do not
 * (the tool says so and goes on, the kernel refuses at COMMIT).
 */
const ENVIRONMENT = /Set \S+ doesn't exist|Warning: Extension .* not supported, missing kernel module/m;

/** First line of the table that is committed at `commit`: the kernel's refusals belong to any line from there. */
function tableStart(lines: readonly string[], commit: number): number {
  for (let line = commit; line > 0; line--) if (lines[line - 1]!.startsWith('*')) return line;
  return 1;
}

describe.skipIf(missing !== undefined)(
  `iptables-restore${missing === undefined ? '' : ` [skipped: ${missing}]`}`,
  () => {
    it('names the same line as the first error, or none', () => {
      const wrong: string[] = [];
      let compared = 0;
      let environment = 0;
      for (const path of rulesetPaths().values()) {
        const text = readRuleset(path);
        const lines = text.split('\n');
        for (const family of FAMILIES) {
          const real = restore(text, family);
          if (ENVIRONMENT.test(real.message)) {
            environment++;
            continue;
          }
          const { diagnostics } = parseRuleset(text, { file: path, family });
          const atCommit = real.line !== undefined && lines[real.line - 1] === 'COMMIT';
          const first = diagnostics.find(
            ({ severity, code }) => severity === 'error' && (atCommit || !COMMIT_CODES.has(code)),
          );
          compared++;
          const agreed =
            real.line === undefined
              ? first === undefined
              : first !== undefined &&
                first.span.line <= real.line &&
                first.span.line >= (atCommit ? tableStart(lines, real.line) : real.line);
          if (!agreed)
            wrong.push(
              `${family} ${path}: iptables says ${real.line ?? 'nothing'} ${real.message}; we say ${first?.span.line ?? 'nothing'} ${first?.message ?? ''}`,
            );
        }
      }
      expect(wrong).toEqual([]);
      expect(compared).toBeGreaterThan(500);
      expect(environment).toBeLessThan(100);
    });
  },
);
