/** IP sets of live policies: one command an operation, each done in place while packets are looked up. */
import {
  createLiveSet,
  destroyLiveSet,
  type LiveSet,
  liveSet,
  liveSets,
  PolicyError,
} from '../../host/index.ts';
import {
  formatCreate,
  formatElement,
  formatEntry,
  formatSet,
  parseCreate,
  parseEntry,
  parseExtras,
  type SetElement,
} from '../../rules/index.ts';
import type { Command, CommandArgument, Invocation } from '../command.ts';
import type { CliEnvironment } from '../environment.ts';
import { ExitCode } from '../exit.ts';
import { NETNS_OPTION, POLICY_OPTION, selectionOf } from '../policies.ts';

const NAME: CommandArgument = { name: 'NAME', summary: 'name of the set' };
const ENTRY: CommandArgument = { name: 'ENTRY', summary: 'the entry, its parts separated by commas' };
const WHERE = [POLICY_OPTION, NETNS_OPTION];
const EXIST = { long: 'exist', summary: 'no error when there is nothing to do; a new timeout begins' };

async function say(
  invocation: Invocation,
  environment: CliEnvironment,
  name: string,
  values: Readonly<Record<string, unknown>>,
): Promise<void> {
  if (!invocation.flag('json')) return;
  await environment.stdout.write(`${JSON.stringify({ [name]: { version: 1, ...values } })}\n`);
}

/** Elements that the words of a command stand for. */
function elementsOf({ definition }: LiveSet, [, entry, ...options]: readonly string[]): SetElement[] {
  const extras = parseExtras(definition, options, 0);
  return parseEntry(definition, entry!).map((key) => ({ key, ...extras }));
}

export const setAdd: Command = {
  name: 'set add',
  summary: 'add an entry to a set of a live policy',
  description:
    'The entry counts from the next packet on; nothing is loaded again. Behind the entry may stand: timeout SECONDS, packets N, bytes N,\ncomment TEXT, skbmark 0xMARK/0xMASK, skbprio MAJOR:MINOR, skbqueue N, nomatch.',
  arguments: [
    NAME,
    ENTRY,
    { name: 'OPTION', summary: 'as ipset add has them', optional: true, repeatable: true },
  ],
  options: [EXIST, ...WHERE],
  examples: [
    { line: 'sluice set add blocked 192.0.2.7 timeout 600', says: 'for ten minutes' },
    { line: 'sluice set add nets 198.51.100.0/24 --exist', says: 'whether or not it is there' },
  ],
  async run(invocation, environment) {
    const [name = ''] = invocation.arguments;
    const exist = invocation.flag('exist');
    const added = await liveSet(selectionOf(invocation), name, (set) => {
      let count = 0;
      for (const element of elementsOf(set, invocation.arguments)) {
        const outcome = set.table.add(element, exist);
        if (outcome === 'full') {
          throw new PolicyError(
            'HOST_SET_FULL',
            `set ${name} has the ${set.definition.maxelem} entries that it may have`,
            'delete some, or create a set with a larger maxelem',
          );
        }
        if (outcome === 'exists')
          throw new PolicyError(
            'HOST_SET_ENTRY',
            `${formatEntry(set.definition, element.key)} is in the set ${name} already`,
            'use --exist',
          );
        count += 1;
      }
      return count;
    });
    await say(invocation, environment, 'setAdd', { set: name, entries: added });
    return ExitCode.OK;
  },
};

export const setDel: Command = {
  name: 'set del',
  summary: 'delete an entry from a set of a live policy',
  arguments: [NAME, ENTRY],
  options: [EXIST, ...WHERE],
  async run(invocation, environment) {
    const [name = '', entry = ''] = invocation.arguments;
    const deleted = await liveSet(selectionOf(invocation), name, (set) => {
      let count = 0;
      for (const key of parseEntry(set.definition, entry)) {
        if (set.table.delete(key)) count += 1;
        else if (!invocation.flag('exist'))
          throw new PolicyError('HOST_SET_ENTRY', `${entry} is not in the set ${name}`, 'use --exist');
      }
      return count;
    });
    await say(invocation, environment, 'setDel', { set: name, entries: deleted });
    return ExitCode.OK;
  },
};

export const setTest: Command = {
  name: 'set test',
  summary: 'say whether an entry is in a set of a live policy; exit code 1 when it is not',
  arguments: [NAME, ENTRY],
  options: WHERE,
  async run(invocation, environment) {
    const [name = '', entry = ''] = invocation.arguments;
    const found = await liveSet(selectionOf(invocation), name, ({ definition, table }) => {
      const keys = parseEntry(definition, entry);
      // A network is looked for as it is, an address in the networks around it.
      const seen = keys.map((key) => (entry.includes('/') ? table.get(key) : table.lookUp(key)));
      return seen.every((element) => element !== undefined && element.nomatch !== true);
    });
    if (invocation.flag('json')) await say(invocation, environment, 'setTest', { set: name, entry, found });
    else await environment.stdout.write(`${entry} is ${found ? '' : 'NOT '}in set ${name}.\n`);
    return found ? ExitCode.OK : ExitCode.FINDING;
  },
};

export const setFlush: Command = {
  name: 'set flush',
  summary: 'take all entries out of a set of a live policy',
  arguments: [NAME],
  options: WHERE,
  async run(invocation, environment) {
    const [name = ''] = invocation.arguments;
    await liveSet(selectionOf(invocation), name, ({ table }) => table.flush());
    await say(invocation, environment, 'setFlush', { set: name });
    return ExitCode.OK;
  },
};

export const setCreate: Command = {
  name: 'set create',
  summary: 'make an empty set in a live policy, for rules that are applied next',
  arguments: [
    NAME,
    { name: 'TYPE', summary: 'hash:ip, hash:net, hash:ip,port, bitmap:port, …' },
    { name: 'OPTION', summary: 'as ipset create has them', optional: true, repeatable: true },
  ],
  options: WHERE,
  examples: [{ line: 'sluice set create blocked hash:ip timeout 600', says: 'entries stay ten minutes' }],
  async run(invocation, environment) {
    const definition = parseCreate(invocation.arguments);
    await createLiveSet(selectionOf(invocation), definition);
    await say(invocation, environment, 'setCreate', { set: definition.name });
    return ExitCode.OK;
  },
};

export const setDestroy: Command = {
  name: 'set destroy',
  summary: 'take a set that no rule names out of a live policy',
  arguments: [NAME],
  options: WHERE,
  async run(invocation, environment) {
    const [name = ''] = invocation.arguments;
    await destroyLiveSet(selectionOf(invocation), name);
    await say(invocation, environment, 'setDestroy', { set: name });
    return ExitCode.OK;
  },
};

const ONE: CommandArgument = { ...NAME, optional: true };

export const setList: Command = {
  name: 'set list',
  summary: 'list the sets of live policies, with their entries and memory',
  arguments: [ONE],
  options: [{ long: 'terse', short: 't', summary: 'without entries' }, ...WHERE],
  async run(invocation, environment) {
    const [name] = invocation.arguments;
    const described = await liveSets(selectionOf(invocation), (sets) =>
      sets
        .filter(({ definition }) => name === undefined || definition.name === name)
        .map(({ policy, definition, table }) => ({
          policy,
          name: definition.name,
          type: definition.type.name,
          create: formatCreate(definition),
          entries: definition.type.method === 'list' ? definition.members.length : table.count,
          bytes: table.bytes,
          members: invocation.flag('terse')
            ? []
            : [
                ...definition.members.map((member) => member.name + member.options),
                ...Array.from(table.elements(), (element) =>
                  formatElement(definition, element).slice(5 + definition.name.length),
                ),
              ],
        })),
    );
    if (name !== undefined && described.length === 0)
      throw new PolicyError('HOST_SET_NONE', `no live policy here has a set ${name}`, 'see: sluice set list');
    if (invocation.flag('json')) {
      await environment.stdout.write(`${JSON.stringify({ setList: { version: 1, sets: described } })}\n`);
      return ExitCode.OK;
    }
    for (const { policy, name: own, create, entries, bytes, members } of described) {
      const header = create.split(' ').slice(3).join(' ');
      await environment.stdout.write(
        `Name: ${own}\nType: ${create.split(' ')[2]}\nPolicy: ${policy}\nHeader: ${header}\nSize in memory: ${bytes}\nNumber of entries: ${entries}\n`,
      );
      if (!invocation.flag('terse'))
        await environment.stdout.write(`Members:\n${members.map((line) => `${line}\n`).join('')}`);
      await environment.stdout.write('\n');
    }
    return ExitCode.OK;
  },
};

export const setSave: Command = {
  name: 'set save',
  summary: 'print the sets of live policies as ipset save does',
  arguments: [ONE],
  options: WHERE,
  async run(invocation, environment) {
    const [name] = invocation.arguments;
    const texts = await liveSets(selectionOf(invocation), (sets) =>
      sets
        .filter(({ definition }) => name === undefined || definition.name === name)
        .map(({ definition, table }) => formatSet({ definition, elements: [...table.elements()] })),
    );
    if (name !== undefined && texts.length === 0)
      throw new PolicyError('HOST_SET_NONE', `no live policy here has a set ${name}`, 'see: sluice set list');
    if (invocation.flag('json')) await say(invocation, environment, 'setSave', { text: texts.join('') });
    else for (const text of texts) await environment.stdout.write(text);
    return ExitCode.OK;
  },
};
