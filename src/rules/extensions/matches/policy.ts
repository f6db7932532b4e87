/** `-m policy`: net/netfilter/xt_policy.c, net/xfrm. */
import { Hook } from '../../../ir/index.ts';
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
  // The netstack has no IPsec. Programs cannot see the policy of a packet.
  semantics: {
    evaluate: ({ none }) => none,
    explain: () => 'the packet has nothing to do with IPsec',
  },
});
