/** `-m ipvs`: net/netfilter/xt_ipvs.c. */
import { defineMatch, type MatchExtension, OptionError, type OptionSpec } from '../../extension.ts';
import { parseProtocol } from '../../names/protocols.ts';
import { parsePort } from '../../names/services.ts';
import { formatHostMask, type HostMask, parseHostMask } from '../../text/host.ts';
import { refuse, unwritten } from '../../uapi/errno.ts';
import { readAddress, writeBytes } from '../../uapi/payload.ts';

const DIRECTIONS = ['ORIGINAL', 'REPLY'] as const;
const METHODS = ['GATE', 'IPIP', 'MASQ'] as const;

/** IP_VS_CONN_F_* of each method, in their order. */
const METHOD_NUMBERS: readonly number[] = [3, 2, 0];
/** XT_IPVS_* */
const Property = {
  IPVS: 0x01,
  PROTOCOL: 0x02,
  ADDRESS: 0x04,
  PORT: 0x08,
  DIRECTION: 0x10,
  METHOD: 0x20,
  CONTROL_PORT: 0x40,
} as const;

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
  // struct xt_ipvs_mtinfo; ports are in network order.
  abi: [
    {
      name: 'ipvs',
      revision: 0,
      everyFamily: true,
      size: 40,
      decode(view, { family }) {
        const [invert, given] = [view.getUint8(38), view.getUint8(39)];
        const condition = <T>(property: number, value: T): Condition<T> | undefined =>
          (given & property) === 0 ? undefined : { value, negate: (invert & property) !== 0 };
        const method = METHODS[METHOD_NUMBERS.indexOf(view.getUint8(35))];
        if (method === undefined) unwritten('ipvs: the method is unknown');
        const negate = (invert & Property.IPVS) !== 0;
        if (given === 0) refuse('ipvs looks at nothing');
        return {
          ipvs: (given & Property.IPVS) === 0 ? undefined : { negate },
          protocol: condition(Property.PROTOCOL, view.getUint8(34)),
          address: condition(Property.ADDRESS, {
            address: readAddress(view, 0, family),
            mask: readAddress(view, 16, family),
          }),
          port: condition(Property.PORT, view.getUint16(32)),
          direction:
            (given & Property.DIRECTION) === 0
              ? undefined
              : (invert & Property.DIRECTION) !== 0
                ? 'REPLY'
                : 'ORIGINAL',
          method: condition(Property.METHOD, method),
          controlPort: condition(Property.CONTROL_PORT, view.getUint16(36)),
        };
      },
      encode({ ipvs, protocol, address, port, direction, method, controlPort }, view) {
        let [given, invert] = [0, 0];
        const set = (property: number, one: { readonly negate: boolean } | undefined): void => {
          if (one !== undefined) given |= property;
          if (one?.negate === true) invert |= property;
        };
        set(Property.IPVS, ipvs ?? { negate: false });
        set(Property.PROTOCOL, protocol);
        set(Property.ADDRESS, address);
        set(Property.PORT, port);
        if (direction !== undefined) set(Property.DIRECTION, { negate: direction === 'REPLY' });
        set(Property.METHOD, method);
        set(Property.CONTROL_PORT, controlPort);
        if (address !== undefined) {
          writeBytes(view, 0, address.value.address);
          writeBytes(view, 16, address.value.mask);
        }
        view.setUint16(32, port?.value ?? 0);
        view.setUint8(34, protocol?.value ?? 0);
        view.setUint8(35, method === undefined ? 0 : METHOD_NUMBERS[METHODS.indexOf(method.value)]!);
        view.setUint16(36, controlPort?.value ?? 0);
        view.setUint8(38, invert);
        view.setUint8(39, given);
      },
    },
  ],
});
