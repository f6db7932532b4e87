/** `-m tos`: net/netfilter/xt_dscp.c tos_mt, revision 1. */
import { defineMatch, type MatchExtension, OptionError } from '../../extension.ts';
import { didYouMean } from '../../suggestion.ts';
import { parseUnsigned } from '../../text/number.ts';
import { requireAll } from '../../text/requirement.ts';
import { fieldIs, tosOf } from '../header.ts';

interface TosState {
  tos: { readonly value: number; readonly mask: number } | undefined;
  negate: boolean;
}

const SYMBOLS = [
  ['Minimize-Delay', 0x10],
  ['Maximize-Throughput', 0x08],
  ['Maximize-Reliability', 0x04],
  ['Minimize-Cost', 0x02],
  ['Normal-Service', 0x00],
] as const;
/** Names leave the two ECN bits alone. */
const SYMBOL_MASK = 0x3f;

function parseTos(text: string): { readonly value: number; readonly mask: number } {
  const symbol = SYMBOLS.find(([name]) => name.toLowerCase() === text.toLowerCase());
  if (symbol !== undefined) return { value: symbol[1], mask: SYMBOL_MASK };
  const [first, second, ...rest] = text.split('/');
  const value = parseUnsigned(first!, 0, 255);
  const mask = second === undefined ? 255 : parseUnsigned(second, 0, 255);
  if (value === undefined || mask === undefined || rest.length > 0) {
    const names = SYMBOLS.map(([name]) => name);
    throw new OptionError(`"${text}" is not a TOS value`, {
      hint:
        didYouMean(text, names) ?? `a value up to 255 with or without /mask, or one of ${names.join(', ')}`,
    });
  }
  return { value, mask };
}

function formatByte(value: number): string {
  return `0x${value.toString(16).padStart(2, '0')}`;
}

function formatTos(tos: { readonly value: number; readonly mask: number }): string {
  return `${formatByte(tos.value)}/${formatByte(tos.mask)}`;
}

export const tos: MatchExtension = defineMatch<TosState>({
  name: 'tos',
  families: ['ipv4', 'ipv6'],
  summary: 'TOS byte of IPv4, traffic class of IPv6',
  options: [
    {
      name: 'tos',
      arguments: 1,
      negatable: true,
      syntax: 'value[/mask]|name',
      summary: 'The byte under the mask equals the value',
      apply(state, [value], negated) {
        state.tos = parseTos(value!);
        state.negate = negated;
      },
    },
  ],
  initial: () => ({ tos: undefined, negate: false }),
  finish: (state) => requireAll('tos', { tos: state.tos !== undefined }),
  print: (state) => `${state.negate ? ' !' : ''} --tos ${formatTos(state.tos!)}`,
  semantics: {
    evaluate: (state, packet) => ((tosOf(packet) & state.tos!.mask) === state.tos!.value) !== state.negate,
    lower: (state) => [fieldIs('ip.tos', state.tos!.value, state.negate, state.tos!.mask)],
    explain: (state, packet) =>
      `TOS ${formatByte(tosOf(packet))} is ${state.negate ? '' : 'not '}${formatTos(state.tos!)}`,
  },
});
