/**
 * Other people's iptables calls under `sluice exec`: the extension tests of iptables itself, and scripts that generators of
 * rules have written. What is refused, saved and deleted is what the kernel refuses, saves and deletes.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, expect, test } from 'vitest';
import type { Family } from '../../src/net/index.ts';
import { builtinChains, parseRuleset, type TableName, unsupportedRules } from '../../src/rules/index.ts';
import { commandLists } from '../support/command-lists.ts';
import { ENVIRONMENT, type ExtensionCase, extensionCases } from '../support/extension-cases.ts';
import { inScratchNetns } from '../support/iptables.ts';
import { describeKernel } from '../support/kernel.ts';
import { sharedDataExists } from '../support/shared-data.ts';
import { superviseScript, supervisionMissing } from '../support/supervised.ts';

const SOAK = process.env.SLUICE_SOAK === '1';
/** Calls that have to fail are one process each. */
const REFUSED = SOAK ? Number.POSITIVE_INFINITY : 60;
const missing = sharedDataExists('iptables-ext-tests') ? supervisionMissing : 'needs the shared data';

/** Sets, objects and labels that the machine lacks. */
const NEEDS_MORE = /--(match|add|del|map)-set|nfacct|rateest|--selctx|--label|--rateest-name/;

/** The rule runs in the netstack, by which it is taken here. */
function runs({ family, table, chain, rule }: ExtensionCase): boolean {
  const text = `*${table}\n-A ${chain} ${rule}\nCOMMIT\n`;
  const { ruleset, diagnostics } = parseRuleset(text, { file: 'case', family });
  return (
    diagnostics.every(({ severity }) => severity !== 'error') && unsupportedRules(ruleset, true).length === 0
  );
}

function sampled<T>(all: readonly T[], most: number): readonly T[] {
  if (all.length <= most) return all;
  return fc.sample(fc.subarray([...all], { minLength: most, maxLength: most }), 1)[0]!;
}

/** Text for iptables-restore -n with each rule of the cases after this command. */
function restoreText(cases: readonly ExtensionCase[], command: '-A' | '-D'): string {
  const tables = new Map<string, string[]>();
  for (const { table, chain, rule } of cases)
    tables.set(table, [...(tables.get(table) ?? []), `${command} ${chain} ${rule}`]);
  return [...tables].map(([table, lines]) => `*${table}\n${lines.join('\n')}\nCOMMIT\n`).join('');
}

/** Why what a script left behind cannot be here: rules that the netstack does not run are refused. */
function whyLeftOut(output: string): string | undefined {
  for (const family of ['ipv4', 'ipv6'] as const) {
    const text = output.split(`@${family}\n`)[1]?.split('@')[0] ?? '';
    const [refused] = unsupportedRules(parseRuleset(text, { file: 'saved', family }).ruleset, true);
    if (refused !== undefined) return refused.what;
  }
  return undefined;
}

/** Text for iptables-restore that leaves a table as it is in a new namespace. */
function printEmpty(table: string): string {
  const chains = builtinChains(table as TableName).map((chain) => `:${chain} ACCEPT [0:0]\n`);
  return `*${table}\n${chains.join('')}COMMIT\n`;
}

function withoutComments(text: string): string {
  return text.replace(/^#.*\n/gm, '');
}

describeKernel(
  "other people's calls",
  () => {
    const folder = mkdtempSync(join(tmpdir(), 'slc-corpus-'));
    afterAll(() => rmSync(folder, { recursive: true, force: true }));
    const both = (script: string): [ours: string, kernel: string] => {
      const kernel = inScratchNetns(script);
      const ours = superviseScript(script, ['--save', join(folder, 'policy')]);
      return [ours.stdout + ours.stderr, kernel.stdout + kernel.stderr];
    };

    test.each<Family>(['ipv4', 'ipv6'])(
      '%s rules of the extension tests are added, saved and deleted',
      (family) => {
        const program = family === 'ipv4' ? 'iptables-legacy' : 'ip6tables-legacy';
        const cases = extensionCases().filter(
          (one) =>
            one.family === family && one.saved !== undefined && !NEEDS_MORE.test(one.rule) && runs(one),
        );
        const [added, deleted] = ['added', 'deleted'].map((name) => join(folder, `${family}-${name}`));
        writeFileSync(added!, restoreText(cases, '-A'));
        writeFileSync(deleted!, restoreText(cases, '-D'));
        const [ours, kernel] = both(
          `${program}-restore -n ${added} && ${program}-save; ${program}-restore -n ${deleted} && ${program}-save`,
        );
        expect(withoutComments(ours)).toBe(withoutComments(kernel));
        const saved = ours.split('\n').filter((line) => line.startsWith('-A'));
        const wanted = cases.map((one) => `-A ${one.chain} ${one.saved}`.trim());
        expect([...saved].sort()).toEqual(wanted.sort());
        expect(cases.length).toBeGreaterThan(400);
      },
    );

    test('what the extension tests say fails, fails', () => {
      const all = extensionCases().filter(
        ({ saved, rule }) => saved === undefined && !ENVIRONMENT.test(rule),
      );
      const cases = sampled(all, REFUSED);
      const calls = cases.map(({ family, table, chain, rule }) => {
        const program = family === 'ipv4' ? 'iptables-legacy' : 'ip6tables-legacy';
        return `${program} -t ${table} -A ${chain} ${rule} >/dev/null 2>&1; echo $?`;
      });
      const codes = superviseScript(calls.join('\n'), ['--save', join(folder, 'policy')])
        .stdout.trim()
        .split('\n');
      expect(codes).toHaveLength(cases.length);
      const accepted = cases.filter((_, index) => codes[index] === '0');
      expect(accepted.map(({ file, line, family }) => `${file}:${line} ${family}`)).toEqual([]);
    });

    test('scripts of generators end as with the kernel', () => {
      const { lists, others } = commandLists();
      const left = new Map<string, number>();
      const leaveOut = (reason: string): void => void left.set(reason, (left.get(reason) ?? 0) + 1);
      for (const [, reason] of others) leaveOut(reason);
      const empty = join(folder, 'empty');
      writeFileSync(empty, ['filter', 'nat', 'mangle', 'raw'].map((table) => printEmpty(table)).join(''));
      const scripts = lists.map(({ name, families, script }) => {
        const programs = families.map((family) => (family === 'ipv4' ? 'iptables' : 'ip6tables'));
        const reset = programs.map((program) => `${program}-legacy-restore < ${empty}`);
        const saved = families.map((family, index) => `echo "@${family}"; ${programs[index]}-legacy-save`);
        return [`echo "== ${name}"`, ...reset, script, ...saved].join('\n');
      });
      const [ours, kernel] = both(`exec 2>&1\n${scripts.join('\n')}`).map((text) =>
        withoutComments(text).split('== ').slice(1),
      );
      const different: string[] = [];
      let compared = 0;
      for (const [index, text] of kernel!.entries()) {
        const reason = whyLeftOut(text);
        if (reason !== undefined) leaveOut(reason);
        else compared++;
        if (reason === undefined && ours![index] !== text)
          different.push(`${text}\n-- here: ${ours![index]}`);
      }
      const reasons = [...left].map(([reason, count]) => `${count} ${reason}`);
      console.log(
        `scripts of generators: ${lists.length + others.length}, compared ${compared}; left out: ${reasons.join(', ')}`,
      );
      expect(different).toEqual([]);
      expect(compared).toBeGreaterThan(lists.length / 2);
    });
  },
  missing,
);
