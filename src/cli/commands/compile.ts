import {
  type ChainReport,
  type CompiledPolicy,
  type CompiledProgram,
  compilePolicy,
  formatAttachPoint,
  formatWeakened,
  HOOK_NAMES,
  type HookName,
  listPrograms,
  ruleTexts,
} from '../../compile/index.ts';
import { encodeProgram, formatInstruction, formatReference, slotsOf } from '../../isa/index.ts';
import { placesInOrder } from '../../rules/index.ts';
import { type Command, UsageError } from '../command.ts';
import { ExitCode } from '../exit.ts';
import { RULE_FILES, readRuleFiles, refusing, requireOnePolicy } from '../rulesets.ts';
import { requireSets, SETS_OPTION } from '../sets.ts';

const FORMATS = ['asm', 'json', 'raw'] as const;
const FRAGMENTS = ['rules', 'drop', 'first-only', 'track'] as const;

/** Instructions as data: slot, bytes, text, the rule it belongs to, what it refers to. */
function programJson(program: CompiledProgram): Readonly<Record<string, unknown>> {
  const { code } = program;
  const bytes = encodeProgram(code.instructions);
  const instructions: unknown[] = [];
  for (let slot = 0; slot < code.instructions.length; ) {
    const wide = slotsOf(code.instructions[slot]!);
    const tag = code.tags[slot];
    const reference = code.references.get(slot);
    instructions.push({
      slot,
      bytes: Buffer.from(bytes.subarray(slot * 8, (slot + wide) * 8)).toString('hex'),
      text: formatInstruction(code.instructions, slot),
      ...(tag === undefined ? {} : { rule: tag }),
      ...(reference === undefined ? {} : { refersTo: formatReference(reference) }),
    });
    slot += wide;
  }
  return {
    name: program.name,
    point: program.point,
    type: program.type,
    attachType: program.attachType,
    instructions,
  };
}

function explainText(policy: CompiledPolicy): string {
  const lines = policy.programs.map((program, index) => {
    const choice = policy.choices[index]!;
    const slots = program.code.instructions.length;
    return `${formatAttachPoint(program.point)}: strategy ${choice.strategy} (${choice.reason}), ${choice.rules} rules, ${slots} instructions`;
  });
  return [
    ...lines,
    ...policy.chains.map(chainText),
    ...(policy.classifier === undefined ? [] : [`${policy.classifier.size} bytes of tables`]),
    `${policy.counters} counters, ${policy.state.length} state words`,
    ...policy.notices,
    '',
  ].join('\n');
}

function chainText(chain: ChainReport): string {
  const place = `  ${chain.family} ${chain.table} ${chain.chain}: ${chain.rules} rules`;
  if (chain.form === 'linear') return `${place}, one by one, ${chain.bytes} bytes`;
  const found = [
    ...(chain.sources > 0 ? [`${chain.sources} source ranges`] : []),
    ...(chain.destinations > 0 ? [`${chain.destinations} destination ranges`] : []),
    ...chain.services.map(({ fields, classes }) => `${classes} classes of ${fields.join(', ')}`),
    ...(chain.asked > 0 ? [`${chain.asked} rules with conditions asked at their turn`] : []),
  ];
  return `${place}, by vectors: ${found.join('; ')}; ${chain.bytes} bytes`;
}

export const compile: Command = {
  name: 'compile',
  summary: 'turn rules into eBPF and print the programs',
  description:
    'Needs no kernel and changes nothing. Every rule that the hook cannot run is listed, with the hooks that could; then nothing is printed and the exit code is 3.',
  arguments: [
    {
      name: 'RULES',
      summary: 'iptables-save file; say -4 or -6 where its family does not follow from it',
      optional: true,
      repeatable: true,
    },
  ],
  options: [
    ...RULE_FILES,
    SETS_OPTION,
    {
      long: 'hook',
      value: 'HOOK',
      repeatable: true,
      choices: HOOK_NAMES,
      completes: 'choices',
      summary: 'where the programs are to run (netfilter)',
    },
    {
      long: 'format',
      value: 'FORMAT',
      choices: FORMATS,
      completes: 'choices',
      summary: 'listing with the rule beside each block, data, or bytecode of the only program (asm)',
    },
    { long: 'explain', summary: 'say what strategy each program has, and how large it is' },
    {
      long: 'fragments',
      value: 'STRATEGY',
      choices: FRAGMENTS,
      completes: 'choices',
      summary: 'what becomes of fragments',
    },
    { long: 'allow-partial', summary: 'replace rules that cannot be compiled by what is at least as strict' },
  ],
  examples: [
    { line: 'sluice compile rules.v4 --hook xdp', says: 'the program that would run at the driver' },
  ],
  async run(invocation, environment) {
    const files = await readRuleFiles(invocation, environment);
    requireOnePolicy(files);
    const rulesets = files.map(({ ruleset }) => ruleset);
    const sets = await requireSets(invocation, environment);
    const given = invocation.list('hook') as readonly HookName[];
    const fragments = invocation.text('fragments') as (typeof FRAGMENTS)[number] | undefined;
    const policy = refusing(files, () =>
      compilePolicy(rulesets, {
        hooks: given.length === 0 ? ['netfilter'] : given,
        sets: placesInOrder(sets),
        ...(fragments === undefined ? {} : { fragments }),
        allowPartial: invocation.flag('allow-partial'),
      }),
    );
    for (const weakened of policy.weakened)
      await environment.stderr.write(`PARTIAL: ${formatWeakened(weakened)}\n`);
    for (const notice of policy.notices) await environment.stderr.write(`note: ${notice}\n`);
    if (invocation.flag('explain')) {
      await environment.stdout.write(explainText(policy));
      return ExitCode.OK;
    }
    const format = invocation.flag('json') ? 'json' : (invocation.text('format') ?? 'asm');
    if (format === 'raw') {
      const programs = new Map(policy.programs.map((program) => [program.code, program]));
      const [only, ...others] = programs.values();
      if (only === undefined || others.length > 0) {
        const points = policy.programs.map(({ point }) => formatAttachPoint(point)).join(', ');
        throw new UsageError(
          `--format raw prints one program, these rules make ${programs.size}: ${points}`,
          'use --format json',
        );
      }
      await environment.stdout.write(encodeProgram(only.code.instructions));
    } else if (format === 'json') {
      const { maps, counters, notices } = policy;
      const programs = policy.programs.map(programJson);
      const weakened = policy.weakened.map(formatWeakened);
      const text = JSON.stringify({ compile: { version: 1, programs, maps, counters, weakened, notices } });
      await environment.stdout.write(`${text}\n`);
    } else {
      const textOf = ruleTexts(rulesets);
      for (const { title, program, text } of listPrograms(policy.programs, textOf))
        await environment.stdout.write(`# ${title}: ${program.name}, ${program.type}\n${text}\n`);
    }
    return ExitCode.OK;
  },
};
