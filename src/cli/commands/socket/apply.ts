import {
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

function planText({ added, removed, moved, kept }: BindingPlan, dryRun: boolean): string {
  const lines = [
    ...removed.toSorted(compareBindings).map((binding) => `- ${formatBinding(binding)}`),
    ...added.toSorted(compareBindings).map((binding) => `+ ${formatBinding(binding)}`),
    ...moved.map(({ from, to }) => `~ ${formatBinding(to)} (was ${from.label})`),
    `${added.length} added, ${removed.length} removed, ${moved.length} moved, ${kept} kept${dryRun ? '; nothing changed (dry run)' : ''}`,
  ];
  return `${lines.join('\n')}\n`;
}

export const socketApply: Command = {
  name: 'socket apply',
  summary: 'replace all bindings by those of a file, at once',
  description:
    'Shows what changes, then puts the whole set in force by one store: no packet meets a part of it. A file with errors changes nothing.\nLines: LABEL tcp|udp PREFIX PORT[-PORT]|all [from PREFIX] [remote-port N] [in DEVICE], and label NAME [when-empty drop|pass] [spread reuseport|hash] [flows keep|forget]. A JSON form is taken too.',
  arguments: [{ name: 'FILE', summary: 'bindings, text or JSON; "-" for standard input' }],
  options: [NETNS_OPTION, { long: 'dry-run', short: 'n', summary: 'show what would change, change nothing' }],
  async run(invocation, environment) {
    const path = invocation.arguments[0]!;
    const text = new TextDecoder().decode(await readInput(path, environment));
    const file = parseBindings(text, path === '-' ? '<stdin>' : path);
    const dryRun = invocation.flag('dry-run');
    return await withSteering(invocation, async (steering) => {
      const plan = dryRun ? steering.plan(file) : await steering.apply(file);
      await answer(invocation, environment, planText(plan, dryRun), {
        apply: {
          version: 1,
          dryRun,
          added: plan.added.map(bindingJson),
          removed: plan.removed.map(bindingJson),
          moved: plan.moved.map(({ from, to }) => ({ from: bindingJson(from), to: bindingJson(to) })),
          kept: plan.kept,
        },
      });
      return ExitCode.OK;
    });
  },
};
