import {
  type Diagnostic,
  formatDiagnostic,
  type KnownSets,
  placesInOrder,
  type Ruleset,
  unsupportedRules,
} from '../../rules/index.ts';
import type { Command } from '../command.ts';
import type { CliEnvironment } from '../environment.ts';
import { ExitCode } from '../exit.ts';
import { diagnosticJson } from '../failure.ts';
import { counted } from '../output/count.ts';
import { located, RULE_FILE_ARGUMENT, RULE_FILES, type RuleFile, readRuleFiles } from '../rulesets.ts';
import { readSetFile, SETS_OPTION } from '../sets.ts';

/** Rules that can be read and printed, but that no program and no evaluation of rules alone can run. */
function unsupportedFindings(file: RuleFile, sets: KnownSets): Diagnostic[] {
  const nowhere = new Set(unsupportedRules(file.ruleset, true, sets).map(({ span }) => span));
  return unsupportedRules(file.ruleset, false, sets).map(({ what, span, table, chain, number }) => {
    const place = `(${table} ${chain} rule ${number})`;
    return nowhere.has(span)
      ? located([file], span, {
          code: 'UNSUPPORTED',
          message: `${what} cannot be run ${place}`,
          hint: 'docs/reference/iptables.md says what can be run, and where',
        })
      : located([file], span, {
          code: 'UNSUPPORTED',
          message: `${what} runs in the netstack only ${place}`,
          hint: 'try it with: sluice run --engine netstack',
        });
  });
}

function totals(ruleset: Ruleset): { tables: number; chains: number; rules: number } {
  const chains = ruleset.tables.flatMap((table) => table.chains);
  return {
    tables: ruleset.tables.length,
    chains: chains.length,
    rules: chains.reduce((sum, chain) => sum + chain.rules.length, 0),
  };
}

async function report(
  file: RuleFile,
  findings: readonly Diagnostic[],
  json: boolean,
  environment: CliEnvironment,
): Promise<void> {
  const errors = findings.filter(({ severity }) => severity === 'error').length;
  const { family } = file.ruleset;
  const sums = totals(file.ruleset);
  if (json) {
    for (const finding of findings) {
      const kind = finding.severity === 'error' ? 'error' : 'warning';
      await environment.stdout.write(`${JSON.stringify({ [kind]: diagnosticJson(finding) })}\n`);
    }
    const line = {
      version: 1,
      file: file.file,
      family,
      ...sums,
      errors,
      warnings: findings.length - errors,
    };
    await environment.stdout.write(`${JSON.stringify({ check: line })}\n`);
    return;
  }
  for (const finding of findings) await environment.stdout.write(`${formatDiagnostic(finding)}\n`);
  const { tables, chains, rules } = sums;
  const verdict = errors === 0 ? 'sound' : counted(errors, 'error');
  await environment.stdout.write(
    `${file.file}: ${verdict}: ${family}, ${counted(tables, 'table')}, ${counted(chains, 'chain')}, ${counted(rules, 'rule')}\n`,
  );
}

export const check: Command = {
  name: 'check',
  summary: 'read rulesets and list every rule that is wrong or cannot be run',
  description:
    'Reads files as iptables-restore does, goes on after an error, and shows every finding with its line, a caret and a way out.\nExit code 1 when there is an error. With --json: a line {"error":…} or {"warning":…} for each finding, then {"check":…} for each file.',
  arguments: [RULE_FILE_ARGUMENT],
  options: [...RULE_FILES, SETS_OPTION],
  examples: [
    { line: 'sluice check /etc/iptables/rules.v4', says: 'before restoring it' },
    { line: 'iptables-save | sluice check -4 -', says: 'what of the rules here Sluice could run' },
  ],
  async run(invocation, environment) {
    let wrong = false;
    const sets = await readSetFile(invocation, environment);
    const known = placesInOrder(sets?.sets);
    for (const finding of sets?.diagnostics ?? []) {
      wrong = true;
      const text = invocation.flag('json')
        ? JSON.stringify({ error: diagnosticJson(finding) })
        : formatDiagnostic(finding);
      await environment.stdout.write(`${text}\n`);
    }
    for (const file of await readRuleFiles(invocation, environment)) {
      const findings = [...file.diagnostics, ...unsupportedFindings(file, known)].sort(
        (a, b) => a.span.line - b.span.line || a.span.column - b.span.column,
      );
      await report(file, findings, invocation.flag('json'), environment);
      wrong ||= findings.some(({ severity }) => severity === 'error');
    }
    return wrong ? ExitCode.FINDING : ExitCode.OK;
  },
};
