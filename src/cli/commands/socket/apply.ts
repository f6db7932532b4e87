import {
  type Binding,
  type BindingPlan,
  bindingJson,
  compareBindings,
  formatBinding,
  parseBindings,
} from '../../../sklookup/index.ts';
import type { Command } from '../../command.ts';
import { readInput } from '../../environment.ts';
import { ExitCode } from '../../exit.ts';
import { answer, NETNS_OPTION, withSteering } from '../../sockets.ts';

/** Changes of one kind that are printed: a file may have a million. */
const MOST_SHOWN = 1000;

function shown(sign: string, bindings: readonly Binding[]): string[] {
  const lines = bindings
    .slice(0, MOST_SHOWN)
    .sort(compareBindings)
    .map((binding) => `${sign} ${formatBinding(binding)}`);
  const more = bindings.length - MOST_SHOWN;
  return more > 0 ? [...lines, `${sign} … and ${more} more`] : lines;
}

function planText({ added, removed, moved, kept }: BindingPlan, dryRun: boolean): string {
  const lines = [
    ...shown('-', removed),
    ...shown('+', added),
    ...moved.slice(0, MOST_SHOWN).map(({ from, to }) => `~ ${formatBinding(to)} (was ${from.label})`),
    ...(moved.length > MOST_SHOWN ? [`~ … and ${moved.length - MOST_SHOWN} more`] : []),
    `${added.length} added, ${removed.length} removed, ${moved.length} moved, ${kept} kept${dryRun ? '; nothing changed (dry run)' : ''}`,
  ];
  return `${lines.join('\n')}\n`;
}

export const socketApply: Command = {
  name: 'socket apply',
  summary: 'replace all bindings by those of a file, at once',
  description:
    'Shows what changes (of each kind the first 1,000; with --json all), then puts the whole set in force by one store: no packet meets a part of it. A file with errors changes nothing.\nLines: LABEL tcp|udp PREFIX PORT[-PORT]|all [from PREFIX] [remote-port N] [in DEVICE], and label NAME [when-empty drop|pass] [spread reuseport|hash] [flows keep|forget]. A JSON form is taken too.',
  arguments: [{ name: 'FILE', summary: 'bindings, text or JSON; "-" for standard input' }],
  options: [NETNS_OPTION, { long: 'dry-run', short: 'n', summary: 'show what would change, change nothing' }],
  async run(invocation, environment) {
    const path = invocation.arguments[0]!;
    const text = new TextDecoder().decode(await readInput(path, environment));
    const file = parseBindings(text, path === '-' ? '<stdin>' : path);
    const dryRun = invocation.flag('dry-run');
    return await withSteering(invocation, async (steering) => {
      const plan = dryRun ? steering.plan(file) : await steering.apply(file);
      // A million bindings as JSON are made only for those who ask for it.
      const data = (): Readonly<Record<string, unknown>> => ({
        apply: {
          version: 1,
          dryRun,
          added: plan.added.map(bindingJson),
          removed: plan.removed.map(bindingJson),
          moved: plan.moved.map(({ from, to }) => ({ from: bindingJson(from), to: bindingJson(to) })),
          kept: plan.kept,
        },
      });
      await answer(invocation, environment, planText(plan, dryRun), invocation.flag('json') ? data() : {});
      return ExitCode.OK;
    });
  },
};
