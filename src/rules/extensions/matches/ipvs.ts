/** `-m ipvs`: net/netfilter/xt_ipvs.c. */
import { defineMatch, type MatchExtension, OptionError, type OptionSpec } from '../../extension.ts';
import { parseProtocol } from '../../names/protocols.ts';
import { parsePort } from '../../names/services.ts';
import { formatHostMask, type HostMask, parseHostMask } from '../../text/host.ts';

const DIRECTIONS = ['ORIGINAL', 'REPLY'] as const;
const METHODS = ['GATE', 'IPIP', 'MASQ'] as const;

interface Condition<T> {
  readonly value: T;
  readonly negate: boolean;
}

interface IpvsState {
  ipvs: { readonly negate: boolean } | undefined;
  protocol: Condition<number> | undefined;
  address: Condition<HostMask> | undefined;
  port: Condition<number> | undefined;
  direction: (typeof DIRECTIONS)[number] | undefined;
  method: Condition<(typeof METHODS)[number]> | undefined;
  controlPort: Condition<number> | undefined;
}

function parseWord<W extends string>(text: string, words: readonly W[]): W {
  const word = words.find((known) => known === text.toUpperCase());
  if (word === undefined)
    throw new OptionError(`unknown word "${text}"`, { hint: `write ${words.join(', ')}` });
  return word;
}

function port(name: string, key: 'port' | 'controlPort', summary: string): OptionSpec<IpvsState> {
  return {
    name,
    arguments: 1,
    negatable: true,
    syntax: 'port',
    summary,
    apply(state, [value], negate) {
      state[key] = { value: parsePort(value!), negate };
    },
  };
}

function hasProperty(state: IpvsState): boolean {
  const { protocol, address, port, direction, method, controlPort } = state;
  return [protocol, address, port, direction, method, controlPort].some((given) => given !== undefined);
}

function print<T>(option: string, condition: Condition<T> | undefined, format: (value: T) => string): string {
  if (condition === undefined) return '';
  return `${condition.negate ? ' !' : ''} --${option} ${format(condition.value)}`;
}

export const ipvs: MatchExtension = defineMatch<IpvsState>({
  name: 'ipvs',
  families: ['ipv4', 'ipv6'],
  summary: 'Connections that IPVS balances',
  options: [
    {
      name: 'ipvs',
      arguments: 0,
      negatable: true,
      summary: 'The packet belongs to a connection of IPVS',
      apply(state, _values, negate) {
        state.ipvs = { negate };
      },
    },
    {
      name: 'vproto',
      arguments: 1,
      negatable: true,
      syntax: 'protocol',
      summary: 'Protocol of the virtual service',
      apply(state, [value], negate) {
        const protocol = parseProtocol(value!);
        if (protocol === undefined) throw new OptionError(`unknown protocol "${value}"`);
        state.protocol = { value: protocol, negate };
      },
    },
    {
      name: 'vaddr',
      arguments: 1,
      negatable: true,
      syntax: 'address[/mask]',
      summary: 'Address of the virtual service',
      apply(state, [value], negate, { family }) {
        state.address = { value: parseHostMask(value!, family), negate };
      },
    },
    port('vport', 'port', 'Port of the virtual service'),
    {
      name: 'vdir',
      arguments: 1,
      syntax: DIRECTIONS.join('|'),
      summary: 'Direction of the packet in its connection',
      apply(state, [value]) {
        state.direction = parseWord(value!, DIRECTIONS);
      },
    },
    {
      name: 'vmethod',
      arguments: 1,
      negatable: true,
      syntax: METHODS.join('|'),
      summary: 'How the packet is forwarded',
      apply(state, [value], negate) {
        state.method = { value: parseWord(value!, METHODS), negate };
      },
    },
    port('vportctl', 'controlPort', 'Port of the virtual service of the controlling connection'),
  ],
  initial: () => ({
    ipvs: undefined,
    protocol: undefined,
    address: undefined,
    port: undefined,
    direction: undefined,
    method: undefined,
    controlPort: undefined,
  }),
  finish(state) {
    if (!hasProperty(state) && state.ipvs === undefined)
      throw new OptionError('an option is missing', { hint: '--ipvs, or a property of the service' });
    if (hasProperty(state) && state.ipvs?.negate === true)
      throw new OptionError('! --ipvs stands alone', { argument: -1 });
  },
  print(state) {
    if (!hasProperty(state)) return `${state.ipvs!.negate ? ' !' : ''} --ipvs`;
    return (
      print('vproto', state.protocol, String) +
      print('vaddr', state.address, formatHostMask) +
      print('vport', state.port, String) +
      (state.direction === undefined ? '' : ` --vdir ${state.direction}`) +
      print('vmethod', state.method, String) +
      print('vportctl', state.controlPort, String)
    );
  },
});
