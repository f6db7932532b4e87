import {
  type ApplyRequest,
  applyPolicy,
  type LivePolicy,
  planPolicy,
  policyAt,
  restorePolicy,
} from '../../host/index.ts';
import type { Family } from '../../net/index.ts';
import {
  inferFamily,
  parseRuleset,
  type Ruleset,
  RulesetError,
  TABLE_NAMES,
  type TableName,
} from '../../rules/index.ts';
import { type Command, type Invocation, optionName, UsageError } from '../command.ts';
import type { CliEnvironment } from '../environment.ts';
import { ExitCode } from '../exit.ts';
import { reportFailure } from '../failure.ts';
import { DEFAULT_POLICY, NETNS_OPTION, POLICY_OPTION, requestOf, selectionOf } from '../policies.ts';
import {
  parseRuleText,
  RULE_FILES,
  type RuleFile,
  type RuleText,
  readRuleTexts,
  refusing,
  refusingLater,
  requireSound,
} from '../rulesets.ts';
import { tellApplied } from './apply.ts';

type SavedPolicy = Omit<ApplyRequest, 'rulesets'> & {
  readonly rulesets: readonly { readonly family: Family; readonly text: string }[];
};

function savedPolicies({ text, file }: RuleText): readonly SavedPolicy[] {
  let saved: { save?: { version?: number; policies?: readonly SavedPolicy[] } };
  try {
    saved = JSON.parse(text) as typeof saved;
  } catch (cause) {
    throw Object.assign(new UsageError(`${file} is no JSON`, 'make it with: sluice save --json'), { cause });
  }
  if (saved.save?.version !== 1 || !Array.isArray(saved.save.policies))
    throw new UsageError(`${file} holds no policies of version 1`, 'make it with: sluice save --json');
  return saved.save.policies;
}

async function restoreSaved(
  saved: RuleText,
  invocation: Invocation,
  environment: CliEnvironment,
): Promise<number> {
  const given = TEXT_OPTIONS.map(optionName).find(
    (name) =>
      invocation.flag(name) || invocation.text(name) !== undefined || invocation.list(name).length > 0,
  );
  if (given !== undefined)
    throw new UsageError(
      `${given.length === 1 ? '-' : '--'}${given} goes with rules as iptables-save prints them`,
      `${saved.file} is of sluice save --json, which says all of it itself`,
    );
  const words = invocation.flag('json') ? ['--json'] : [];
  let worst: number = ExitCode.OK;
  for (const policy of savedPolicies(saved)) {
    try {
      const rulesets = policy.rulesets.map(({ family, text }) => {
        const name = `${saved.file}: ${policy.policy} ${family}`;
        const { ruleset, diagnostics } = parseRuleset(text, { file: name, family });
        if (diagnostics.some(({ severity }) => severity === 'error')) throw new RulesetError(diagnostics);
        return ruleset;
      });
      await tellApplied(await applyPolicy({ ...policy, rulesets }), invocation, environment);
    } catch (error) {
      worst = Math.max(worst, await reportFailure(error, words, environment));
    }
  }
  return worst;
}

/** One text after the other, as iptables-restore would do them, on what is live. @throws {RulesetError} */
function restoredFiles(
  texts: readonly RuleText[],
  live: readonly Ruleset[],
  invocation: Invocation,
): RuleFile[] {
  const bases = new Map(live.map((ruleset) => [ruleset.family, ruleset]));
  const table = invocation.text('table') as TableName | undefined;
  const files = texts.map((text) => {
    const family = text.family ?? inferFamily(text.text);
    const base = family === undefined ? undefined : bases.get(family);
    const file = parseRuleText(text, invocation, {
      noflush: invocation.flag('noflush'),
      passCounters: !invocation.flag('counters'),
      ...(base === undefined ? {} : { base }),
      ...(table === undefined ? {} : { table }),
    });
    bases.set(file.ruleset.family, file.ruleset);
    return file;
  });
  requireSound(files);
  return files;
}

async function restoreTexts(
  texts: readonly RuleText[],
  invocation: Invocation,
  environment: CliEnvironment,
): Promise<number> {
  const netns = invocation.text('netns');
  const policy = invocation.text('policy') ?? DEFAULT_POLICY;
  const namespaces = netns === undefined ? [] : [netns];
  const files: RuleFile[] = [];
  const restored = (live: LivePolicy | undefined): ApplyRequest => {
    files.push(...restoredFiles(texts, live?.rulesets ?? [], invocation));
    const rulesets = new Map([
      ...(live?.rulesets ?? []).map((ruleset) => [ruleset.family, ruleset] as const),
      ...files.map(({ ruleset }) => [ruleset.family, ruleset] as const),
    ]);
    if ([...rulesets.values()].every(({ tables }) => tables.length === 0))
      throw new UsageError('no table is named, and none is live', 'tables begin with a line as *filter');
    const manner = live === undefined ? { policy, hooks: ['netfilter'] as const } : requestOf(live);
    return { ...manner, namespaces, rulesets: [...rulesets.values()] };
  };
  const { cookie } = selectionOf(invocation);
  const place = { policy, cookie: cookie! };
  if (invocation.flag('test')) {
    const request = restored(policyAt(place));
    const plan = refusing(files, () => planPolicy(request));
    if (invocation.flag('json'))
      await environment.stdout.write(`${JSON.stringify({ plan: { version: 1, ...plan } })}\n`);
    return ExitCode.OK;
  }
  await tellApplied(await refusingLater(files, restorePolicy(place, restored)), invocation, environment);
  return ExitCode.OK;
}

const TEXT_OPTIONS: Command['options'] = [
  ...RULE_FILES,
  NETNS_OPTION,
  { ...POLICY_OPTION, summary: `name of the policy (${DEFAULT_POLICY})` },
  {
    long: 'noflush',
    short: 'n',
    summary:
      'keep the rules that are there: the text is done to them; chains of your own that it declares are emptied',
  },
  { long: 'counters', short: 'c', summary: "take the text's counters; without it they start from zero" },
  { long: 'test', short: 't', summary: 'read and compile everything, change nothing' },
  {
    long: 'table',
    short: 'T',
    value: 'TABLE',
    choices: TABLE_NAMES,
    completes: 'choices',
    summary: 'restore this table only',
  },
];

export const restore: Command = {
  name: 'restore',
  summary:
    'make saved rules live: texts of iptables-save as iptables-restore does, or policies of sluice save --json',
  description:
    'Texts change what iptables-restore would change, on the live policy of the namespace, without the iptables program: tables\n' +
    'that they name, of their family; other tables and the other family stay. All tables and both families come into force by one\n' +
    'commit or not at all, where iptables-restore commits table by table. Where no policy is live, one is made at the netfilter hooks.\n' +
    'What sluice save --json printed is made live again where and how it was, counters included, for the start of the machine: see the\n' +
    'service in packaging. A policy that cannot be restored does not keep the others from being.',
  arguments: [
    {
      name: 'FILE',
      summary:
        'rules as iptables-save or sluice save --json prints them, "-" or none for standard input; say -4 or -6 where the family does not follow from the rules, or call the file NAME.v4 or NAME.v6',
      optional: true,
      repeatable: true,
    },
  ],
  options: TEXT_OPTIONS,
  examples: [
    { line: 'sluice restore -4 rules.v4 -6 rules.v6 --netns web1', says: 'both families at once' },
    {
      line: 'sluice restore --noflush -4 -',
      says: 'do the lines of standard input to the rules that are live',
    },
    { line: 'sluice restore /etc/sluice/policies.json', says: 'what the service runs' },
  ],
  async run(invocation, environment) {
    const named = [...invocation.list('4'), ...invocation.list('6'), ...invocation.arguments];
    const texts = await readRuleTexts(invocation, environment, named.length === 0 ? ['-'] : undefined);
    const saved = texts.find(({ text }) => /^\s*\{/.test(text));
    if (saved === undefined) return await restoreTexts(texts, invocation, environment);
    if (texts.length > 1)
      throw new UsageError(
        `${saved.file} is of sluice save --json, and not the only file`,
        'restore it alone',
      );
    return await restoreSaved(saved, invocation, environment);
  },
};
