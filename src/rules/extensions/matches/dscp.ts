/** `-m dscp`: net/netfilter/xt_dscp.c dscp_mt; classes of RFC 2474, 2597 and 3246. */
import { defineMatch, type MatchExtension, OptionError } from '../../extension.ts';
import { didYouMean } from '../../suggestion.ts';
import { boundedNumber } from '../../text/bounded.ts';
import { fieldIs, tosOf } from '../header.ts';

interface DscpState {
  /** -1 until an option was seen. */
  codepoint: number;
  negate: boolean;
}

/** The codepoint is the upper six bits of the byte. */
const SHIFT = 2;

const CLASSES: ReadonlyMap<string, number> = new Map([
  ...Array.from({ length: 8 }, (_, number): [string, number] => [`CS${number}`, number << 3]),
  ['BE', 0],
  ...[1, 2, 3, 4].flatMap((group) =>
    [1, 2, 3].map((drop): [string, number] => [`AF${group}${drop}`, (group << 3) | (drop << 1)]),
  ),
  ['EF', 0x2e],
]);

function setCodepoint(state: DscpState, codepoint: number, negated: boolean): void {
  if (state.codepoint >= 0)
    throw new OptionError('only one of --dscp and --dscp-class is possible', { argument: -1 });
  state.codepoint = codepoint;
  state.negate = negated;
}

function formatCodepoint(codepoint: number): string {
  return `0x${codepoint.toString(16).padStart(2, '0')}`;
}

export const dscp: MatchExtension = defineMatch<DscpState>({
  name: 'dscp',
  families: ['ipv4', 'ipv6'],
  summary: 'DiffServ codepoint: the upper six bits of the TOS byte or traffic class',
  options: [
    {
      name: 'dscp',
      arguments: 1,
      negatable: true,
      syntax: 'value',
      summary: 'The codepoint, 0 to 63',
      apply(state, [value], negated) {
        setCodepoint(state, boundedNumber(value!, 0, 63), negated);
      },
    },
    {
      name: 'dscp-class',
      arguments: 1,
      negatable: true,
      syntax: 'class',
      summary: 'The codepoint of a class: BE, EF, AF11 to AF43, CS0 to CS7',
      apply(state, [value], negated) {
        const codepoint = CLASSES.get(value!.toUpperCase());
        if (codepoint === undefined) {
          const hint = didYouMean(value!, CLASSES.keys());
          throw new OptionError(`unknown DSCP class "${value}"`, {
            hint: hint ?? 'classes are BE, EF, AF11 to AF43 and CS0 to CS7',
          });
        }
        setCodepoint(state, codepoint, negated);
      },
    },
  ],
  initial: () => ({ codepoint: -1, negate: false }),
  finish(state) {
    if (state.codepoint < 0)
      throw new OptionError('an option is missing', { hint: '--dscp or --dscp-class' });
  },
  print: (state) => `${state.negate ? ' !' : ''} --dscp ${formatCodepoint(state.codepoint)}`,
  semantics: {
    evaluate: (state, packet) => (tosOf(packet) >> SHIFT === state.codepoint) !== state.negate,
    lower: (state) => [fieldIs('ip.tos', state.codepoint << SHIFT, state.negate, 0xfc)],
    explain: (state, packet) =>
      `DSCP ${formatCodepoint(tosOf(packet) >> SHIFT)} is ${state.negate ? '' : 'not '}${formatCodepoint(state.codepoint)}`,
  },
});
