/** iptables' own extension tests: `rule;saved form or "=";OK|FAIL`, for every extension that is known here. */
import { describe, expect, it } from 'vitest';
import type { Family } from '../../src/net/index.ts';
import { formatDiagnostic, parseRuleset, printRuleset } from '../../src/rules/index.ts';
import { readSharedText, sharedDataExists, sharedDataFiles } from '../support/shared-data.ts';

interface Case {
  readonly file: string;
  readonly line: number;
  readonly family: Family;
  readonly table: string;
  readonly chain: string;
  readonly rule: string;
  /** Canonical form, or `undefined` where the rule has to be refused. */
  readonly saved: string | undefined;
}

function* casesOf(file: string): Iterable<Case> {
  const families: readonly Family[] = file.startsWith('libipt_')
    ? ['ipv4']
    : file.startsWith('libip6t_')
      ? ['ipv6']
      : ['ipv4', 'ipv6'];
  let chains: readonly string[] = [];
  let table = 'filter';
  for (const [index, text] of readSharedText('iptables-ext-tests', file).split('\n').entries()) {
    if (text === '' || text.startsWith('#') || text.startsWith('@')) continue;
    if (text.startsWith(':')) {
      chains = text.slice(1).split(',');
      continue;
    }
    if (text.startsWith('*')) {
      table = text.slice(1);
      continue;
    }
    const [rule, saved, outcome, backend] = text.split(';');
    if (rule === undefined || outcome === undefined || backend === 'NFT') continue;
    for (const family of families) {
      // Tests for both families are written with IPv4 addresses.
      if (family === 'ipv6' && families.length === 2 && /[0-9]+(\.[0-9]+){3}/.test(rule)) continue;
      for (const chain of chains)
        yield {
          file,
          line: index + 1,
          family,
          table,
          chain,
          rule,
          saved: outcome === 'OK' ? (saved === '=' ? rule : saved) : undefined,
        };
    }
  }
}

interface Known {
  readonly differs: readonly string[];
  readonly unknown: number;
  readonly compared: number;
}

/** Refused for what the machine lacks, an nfacct object and sets, and not for their text. */
const ENVIRONMENT = /--nfacct-name wrong|--(match|add)-set foo src,dst/;

/** Names that the rule uses and that are not known here: such cases are counted, not compared. */
const FOREIGN: ReadonlySet<string> = new Set(['UNKNOWN_MATCH', 'UNKNOWN_TARGET']);

function run(files: readonly string[]): Known {
  const differs: string[] = [];
  let unknown = 0;
  let compared = 0;
  for (const file of files) {
    for (const { line, family, table, chain, rule, saved } of casesOf(file)) {
      const text = `*${table}\n-A ${chain} ${rule}\nCOMMIT\n`;
      const { ruleset, diagnostics } = parseRuleset(text, { file, family });
      const errors = diagnostics.filter(({ severity }) => severity === 'error');
      if (errors.some(({ code }) => FOREIGN.has(code))) {
        unknown++;
        continue;
      }
      compared++;
      const printed = printRuleset(ruleset)
        .split('\n')
        .filter((one) => one.startsWith('-A'));
      const wanted = `-A ${chain} ${saved}`.trim();
      if (saved === undefined && errors.length === 0 && !ENVIRONMENT.test(rule))
        differs.push(`${file}:${line} ${family} accepts ${rule}`);
      if (saved !== undefined && errors.length > 0)
        differs.push(`${file}:${line} ${family} ${formatDiagnostic(errors[0]!)}`);
      if (saved !== undefined && errors.length === 0 && printed.join('\n') !== wanted)
        differs.push(`${file}:${line} ${family} wanted ${wanted} but is ${printed.join(' | ')}`);
    }
  }
  return { differs, unknown, compared };
}

/** Files for arptables and ebtables. */
const FOREIGN_FILES = /^lib(arpt|ebt)_/;

describe.skipIf(!sharedDataExists('iptables-ext-tests'))('extension tests of iptables', () => {
  it('are accepted, printed and refused as they say', () => {
    const files = sharedDataFiles('iptables-ext-tests').filter((file) => !FOREIGN_FILES.test(file));
    const { differs, unknown, compared } = run(files);
    console.log(`${compared} cases compared, ${unknown} of extensions that are not known`);
    expect(differs).toEqual([]);
    expect(unknown).toBe(0);
    expect(compared).toBeGreaterThan(2700);
  });
});
