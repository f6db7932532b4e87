/** `-m policy`: net/netfilter/xt_policy.c, net/xfrm. */
import { Hook } from '../../../ir/index.ts';
import type { Family } from '../../../net/index.ts';
import {
  defineMatch,
  type MatchExtension,
  OptionError,
  type OptionSpec,
  type RuleContext,
} from '../../extension.ts';
import { formatProtocol, Protocol, parseProtocol } from '../../names/protocols.ts';
import { boundedNumber, UINT32_MAX } from '../../text/bounded.ts';
import { formatHostMask, type HostMask, parseHostMask } from '../../text/host.ts';
import { hex } from '../../text/number.ts';
import { refuse, unwritten } from '../../uapi/errno.ts';
import { readAddress, readFlags, writeBytes } from '../../uapi/payload.ts';

/** XT_POLICY_MAX_ELEM */
const MAXIMUM_ELEMENTS = 4;
const PROTOCOLS: readonly number[] = [Protocol.AH, Protocol.ESP, Protocol.IPCOMP];

interface Condition<T> {
  readonly value: T;
  readonly negate: boolean;
}

/** One transformation of the policy. */
interface Element {
  reqid?: Condition<number>;
  spi?: Condition<number>;
  protocol?: Condition<number>;
  mode?: Condition<'transport' | 'tunnel'>;
  tunnelDestination?: Condition<HostMask>;
  tunnelSource?: Condition<HostMask>;
}

interface PolicyState {
  direction: 'in' | 'out' | undefined;
  none: boolean;
  strict: boolean;
  readonly elements: Element[];
}

function ofElement<K extends keyof Element>(
  name: string,
  key: K,
  syntax: string,
  summary: string,
  parse: (text: string, context: RuleContext) => NonNullable<Element[K]>['value'],
): OptionSpec<PolicyState> {
  return {
    name,
    arguments: 1,
    negatable: true,
    repeatable: true,
    syntax,
    summary,
    apply(state, [value], negate, context) {
      const element = state.elements.at(-1)!;
      if (element[key] !== undefined)
        throw new OptionError(`--${name} stands twice for one element`, {
          hint: '--next begins another element',
          argument: -1,
        });
      element[key] = { value: parse(value!, context), negate } as NonNullable<Element[K]>;
    },
  };
}

function parseWord<W extends string>(text: string, words: readonly W[]): W {
  const word = words.find((known) => known === text);
  if (word === undefined)
    throw new OptionError(`"${text}" is not possible`, { hint: `write ${words.join(' or ')}` });
  return word;
}

function parseTransformation(text: string): number {
  const protocol = parseProtocol(text);
  if (protocol === undefined || !PROTOCOLS.includes(protocol))
    throw new OptionError(`"${text}" is not a protocol of IPsec`, { hint: 'write ah, esp or ipcomp' });
  return protocol;
}

function checkElement(element: Element, strict: boolean, index: number): void {
  if (strict && Object.keys(element).length === 0)
    throw new OptionError(`element ${index + 1} is empty`, {
      hint: 'with --strict it has at least one of --reqid, --spi, --proto, --mode, --tunnel-src, --tunnel-dst',
      argument: -1,
    });
  if (element.tunnelSource === undefined && element.tunnelDestination === undefined) return;
  // Without --mode the element holds 0, transport, which the check takes for the mode that was asked for.
  const mode = element.mode ?? { value: 'transport', negate: false };
  if ((mode.value === 'tunnel') === mode.negate)
    throw new OptionError('--tunnel-src and --tunnel-dst need --mode tunnel', { argument: -1 });
}

function print<T>(option: string, condition: Condition<T> | undefined, format: (value: T) => string): string {
  if (condition === undefined) return '';
  return `${condition.negate ? ' !' : ''} --${option} ${format(condition.value)}`;
}

function printElement(element: Element): string {
  return (
    print('reqid', element.reqid, String) +
    print('spi', element.spi, hex) +
    print('proto', element.protocol, formatProtocol) +
    print('mode', element.mode, String) +
    print('tunnel-dst', element.tunnelDestination, formatHostMask) +
    print('tunnel-src', element.tunnelSource, formatHostMask)
  );
}

/** XT_POLICY_MATCH_* */
const Flag = { IN: 0x1, OUT: 0x2, NONE: 0x4, STRICT: 0x8 } as const;
/** struct xt_policy_spec: a bit each, of what is compared and of what is inverted. */
const Spec = { SOURCE: 0x01, DESTINATION: 0x02, PROTOCOL: 0x04, MODE: 0x08, SPI: 0x10, REQID: 0x20 } as const;
const ELEMENT_BYTES = 76;
const MODES = ['transport', 'tunnel'] as const;

/** struct xt_policy_elem; the SPI stands as iptables writes it, in the order of the machine. */
function readElement(view: DataView, family: Family): Element {
  const [given, invert] = [readFlags(view, 74, 0x3f, 'policy'), readFlags(view, 75, 0x3f, 'policy')];
  const condition = <T>(spec: number, value: T): Condition<T> | undefined =>
    (given & spec) === 0 ? undefined : { value, negate: (invert & spec) !== 0 };
  const tunnel = (at: number): HostMask => ({
    address: readAddress(view, at, family),
    mask: readAddress(view, at + 16, family),
  });
  const mode = MODES[view.getUint8(73)];
  if (mode === undefined) unwritten('policy: the mode is unknown');
  const element: Partial<Record<keyof Element, unknown>> = {
    reqid: condition(Spec.REQID, view.getUint32(68, true)),
    spi: condition(Spec.SPI, view.getUint32(64, true)),
    protocol: condition(Spec.PROTOCOL, view.getUint8(72)),
    mode: condition(Spec.MODE, mode),
    tunnelSource: condition(Spec.SOURCE, tunnel(0)),
    tunnelDestination: condition(Spec.DESTINATION, tunnel(32)),
  };
  return Object.fromEntries(Object.entries(element).filter(([, one]) => one !== undefined)) as Element;
}

function writeElement(element: Element, view: DataView): void {
  const { reqid, spi, protocol, mode, tunnelSource, tunnelDestination } = element;
  let [given, invert] = [0, 0];
  const set = (spec: number, condition: Condition<unknown> | undefined): void => {
    if (condition !== undefined) given |= spec;
    if (condition?.negate === true) invert |= spec;
  };
  const tunnel = (at: number, condition: Condition<HostMask> | undefined): void => {
    if (condition === undefined) return;
    writeBytes(view, at, condition.value.address);
    writeBytes(view, at + 16, condition.value.mask);
  };
  set(Spec.REQID, reqid);
  set(Spec.SPI, spi);
  set(Spec.PROTOCOL, protocol);
  set(Spec.MODE, mode);
  set(Spec.SOURCE, tunnelSource);
  set(Spec.DESTINATION, tunnelDestination);
  tunnel(0, tunnelSource);
  tunnel(32, tunnelDestination);
  view.setUint32(64, spi?.value ?? 0, true);
  view.setUint32(68, reqid?.value ?? 0, true);
  view.setUint8(72, protocol?.value ?? 0);
  view.setUint8(73, mode === undefined ? 0 : MODES.indexOf(mode.value));
  view.setUint8(74, given);
  view.setUint8(75, invert);
}

function elementView(view: DataView, index: number): DataView {
  return new DataView(view.buffer, view.byteOffset + index * ELEMENT_BYTES, ELEMENT_BYTES);
}

export const policy: MatchExtension = defineMatch<PolicyState>({
  name: 'policy',
  families: ['ipv4', 'ipv6'],
  summary: 'The IPsec policy a packet came in by or goes out by',
  where: ({ direction }) => ({
    hooks:
      direction === 'in'
        ? [Hook.PRE_ROUTING, Hook.LOCAL_IN, Hook.FORWARD]
        : [Hook.FORWARD, Hook.LOCAL_OUT, Hook.POST_ROUTING],
  }),
  options: [
    {
      name: 'dir',
      arguments: 1,
      syntax: 'in|out',
      summary: 'The policy of decapsulation, or of encapsulation',
      apply(state, [value]) {
        state.direction = parseWord<'in' | 'out'>(value!, ['in', 'out']);
      },
    },
    {
      name: 'pol',
      arguments: 1,
      syntax: 'none|ipsec',
      summary: 'Whether IPsec is used at all',
      apply(state, [value]) {
        state.none = parseWord(value!, ['none', 'ipsec']) === 'none';
      },
    },
    {
      name: 'strict',
      arguments: 0,
      summary: 'The elements are the whole policy, else one of them is enough',
      apply(state) {
        state.strict = true;
      },
    },
    ofElement('reqid', 'reqid', 'number', 'Request number of the policy', (text) =>
      boundedNumber(text, 0, UINT32_MAX),
    ),
    ofElement('spi', 'spi', 'number', 'Security parameter index', (text) =>
      boundedNumber(text, 0, UINT32_MAX),
    ),
    ofElement('proto', 'protocol', 'ah|esp|ipcomp', 'Protocol of the element', parseTransformation),
    ofElement('mode', 'mode', 'transport|tunnel', 'Mode of the element', (text) =>
      parseWord(text, ['transport', 'tunnel']),
    ),
    ofElement('tunnel-src', 'tunnelSource', 'address[/mask]', 'Source of the tunnel', (text, { family }) =>
      parseHostMask(text, family),
    ),
    ofElement(
      'tunnel-dst',
      'tunnelDestination',
      'address[/mask]',
      'Destination of the tunnel',
      (text, { family }) => parseHostMask(text, family),
    ),
    {
      name: 'next',
      arguments: 0,
      repeatable: true,
      summary: 'Begins the next element (with --strict)',
      apply(state) {
        if (state.elements.length === MAXIMUM_ELEMENTS)
          throw new OptionError(`a policy has at most ${MAXIMUM_ELEMENTS} elements`, { argument: -1 });
        state.elements.push({});
      },
    },
  ],
  initial: () => ({ direction: undefined, none: false, strict: false, elements: [{}] }),
  finish({ direction, none, strict, elements }) {
    const refuse = (message: string): never => {
      throw new OptionError(message, { argument: -1 });
    };
    if (direction === undefined) refuse('policy needs --dir in or --dir out');
    if (elements.length > 1 && !strict) refuse('--next also needs --strict');
    if (!none) for (const [index, element] of elements.entries()) checkElement(element, strict, index);
    else if (strict || elements.length > 1) refuse('--pol none goes neither with --strict nor with --next');
  },
  print({ direction, none, strict, elements }) {
    const text = ` --dir ${direction} --pol ${none ? 'none' : 'ipsec'}${strict ? ' --strict' : ''}`;
    return none ? text : text + elements.map(printElement).join(' --next');
  },
  // struct xt_policy_info
  abi: [
    {
      name: 'policy',
      revision: 0,
      size: MAXIMUM_ELEMENTS * ELEMENT_BYTES + 4,
      decode(view, { family }) {
        const [flags, count] = [view.getUint16(304, true), view.getUint16(306, true)];
        const [into, out] = [(flags & Flag.IN) !== 0, (flags & Flag.OUT) !== 0];
        if (!into && !out) refuse('policy has no direction');
        if (count > MAXIMUM_ELEMENTS) refuse('policy has too many elements');
        const none = (flags & Flag.NONE) !== 0;
        if ((into && out) || (flags & ~0xf) !== 0 || (count === 0) !== none)
          unwritten('policy is asked for what iptables does not ask');
        return {
          direction: into ? 'in' : 'out',
          none,
          strict: (flags & Flag.STRICT) !== 0,
          // Without a policy the first element may be filled in, and is not looked at.
          elements: Array.from({ length: Math.max(1, count) }, (_, index) =>
            readElement(elementView(view, index), family),
          ),
        };
      },
      encode({ direction, none, strict, elements }, view) {
        let flags: number = direction === 'in' ? Flag.IN : Flag.OUT;
        if (none) flags |= Flag.NONE;
        if (strict) flags |= Flag.STRICT;
        for (const [index, element] of elements.entries()) writeElement(element, elementView(view, index));
        view.setUint16(304, flags, true);
        view.setUint16(306, none ? 0 : elements.length, true);
      },
    },
  ],
  // The netstack has no IPsec. Programs cannot see the policy of a packet.
  semantics: {
    evaluate: ({ none }) => none,
    explain: () => 'the packet has nothing to do with IPsec',
  },
});
