import { parsePrefix, prefixesOverlap } from '../../../net/index.ts';
import {
  type BindingFile,
  bindingFileJson,
  formatInPrecedence,
  inPrecedence,
} from '../../../sklookup/index.ts';
import { type Command, type Invocation, UsageError } from '../../command.ts';
import { ExitCode } from '../../exit.ts';
import { NETNS_OPTION, protocolOf, withSteering } from '../../sockets.ts';

function filtered(file: BindingFile, invocation: Invocation): BindingFile {
  const [protocol, prefixText] = ['protocol', 'prefix'].map((name) => invocation.text(name));
  const prefix = prefixText === undefined ? undefined : parsePrefix(prefixText);
  if (prefixText !== undefined && prefix === undefined) throw new UsageError(`"${prefixText}" is no prefix`);
  const port = invocation.number('port', { min: 1, max: 65535 });
  const label = invocation.text('label');
  const wanted = protocol === undefined ? undefined : protocolOf(protocol);
  const bindings = file.bindings.filter(
    (binding) =>
      (label === undefined || binding.label === label) &&
      (wanted === undefined || binding.protocol === wanted) &&
      (prefix === undefined || prefixesOverlap(binding.prefix, prefix)) &&
      (port === undefined || (binding.ports.min <= port && port <= binding.ports.max)),
  );
  return { ...file, bindings };
}

export const socketBindings: Command = {
  name: 'socket bindings',
  summary: 'print the bindings in force, in the order of precedence',
  description: 'The output is a bindings file: socket apply takes it.',
  arguments: [],
  options: [
    NETNS_OPTION,
    { long: 'label', value: 'LABEL', summary: 'only of this label' },
    { long: 'protocol', value: 'PROTOCOL', choices: ['tcp', 'udp'], summary: 'only of this protocol' },
    { long: 'prefix', value: 'PREFIX', summary: 'only those that overlap this prefix' },
    { long: 'port', value: 'PORT', summary: 'only those that take this port' },
  ],
  async run(invocation, environment) {
    return await withSteering(invocation, async (steering) => {
      const file = filtered(steering.bindings(), invocation);
      const text = invocation.flag('json')
        ? `${JSON.stringify(bindingFileJson({ ...file, bindings: inPrecedence(file.bindings) }))}\n`
        : formatInPrecedence(file);
      await environment.stdout.write(text);
      return ExitCode.OK;
    });
  },
};
