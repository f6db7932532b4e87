/** `-j MARK`: net/netfilter/xt_mark.c mark_tg, revision 2: mark = (mark & ~mask) ^ value. */
import { defineTarget, OptionError, type TargetExtension } from '../../extension.ts';
import { boundedNumber, UINT32_MAX } from '../../text/bounded.ts';
import { type MaskedMark, parseMaskedMark } from '../../text/mark.ts';
import { hex } from '../../text/number.ts';
import { readMaskedMark, writeMaskedMark } from '../../uapi/payload.ts';
import { exclusiveOptions } from '../exclusive-option.ts';

interface MarkState {
  mark: MaskedMark | undefined;
}

const option = exclusiveOptions<'mark', MaskedMark>('mark', 'only one of the options of MARK is possible');

function bits(text: string): number {
  return boundedNumber(text, 0, UINT32_MAX);
}

/** The shortest of the ways to say it, as `iptables -L` does. */
function listMark({ value, mask }: MaskedMark): string {
  if (value === 0) return `and ${hex(~mask)}`;
  if (value === mask) return `or ${hex(value)}`;
  if (mask === 0) return `xor ${hex(value)}`;
  if (mask === UINT32_MAX) return `set ${hex(value)}`;
  return `xset ${hex(value)}/${hex(mask)}`;
}

export const mark: TargetExtension = defineTarget<MarkState>({
  name: 'MARK',
  families: ['ipv4', 'ipv6'],
  summary: "Changes the packet's mark and goes on",
  options: [
    option('set-xmark', 'value[/mask]', 'Clears the bits of the mask, then XORs the value', parseMaskedMark),
    option(
      'set-mark',
      'value[/mask]',
      'Clears the bits of mask and value, then sets those of the value',
      (text) => {
        const { value, mask } = parseMaskedMark(text);
        return { value, mask: (value | mask) >>> 0 };
      },
    ),
    option('and-mark', 'bits', 'ANDs the mark with the bits', (text) => ({
      value: 0,
      mask: ~bits(text) >>> 0,
    })),
    option('or-mark', 'bits', 'ORs the mark with the bits', (text) => ({
      value: bits(text),
      mask: bits(text),
    })),
    option('xor-mark', 'bits', 'XORs the mark with the bits', (text) => ({ value: bits(text), mask: 0 })),
  ],
  initial: () => ({ mark: undefined }),
  finish(state) {
    if (state.mark === undefined)
      throw new OptionError('an option is missing', {
        hint: 'one of --set-mark, --set-xmark, --and-mark, --or-mark, --xor-mark',
      });
  },
  list: (state) => ` MARK ${listMark(state.mark!)}`,
  print: (state) => ` --set-xmark ${hex(state.mark!.value)}/${hex(state.mark!.mask)}`,
  // struct xt_mark_tginfo2
  abi: [
    {
      name: 'MARK',
      revision: 2,
      size: 8,
      decode: (view) => ({ mark: readMaskedMark(view, 0) }),
      encode(state, view) {
        writeMaskedMark(view, 0, state.mark!);
      },
    },
  ],
  semantics: {
    evaluate(state, packet) {
      packet.mark = ((packet.mark & ~state.mark!.mask) ^ state.mark!.value) >>> 0;
      return 'continue';
    },
    lower: (state) => ({ kind: 'mark', value: state.mark!.value, mask: state.mark!.mask }),
  },
});
