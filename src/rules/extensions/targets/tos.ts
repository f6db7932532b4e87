/** `-j TOS`: net/netfilter/xt_DSCP.c tos_tg, revision 1. */

import { defineTarget, OptionError, type TargetExtension } from '../../extension.ts';
import { boundedNumber } from '../../text/bounded.ts';
import { formatTos, type MaskedTos, parseTos } from '../../text/tos.ts';
import { exclusiveOptions } from '../exclusive-option.ts';
import { withDsField } from '../header-change.ts';

interface TosState {
  tos: MaskedTos | undefined;
}

const option = exclusiveOptions<'tos', MaskedTos>('tos', 'only one of the options of TOS is possible');

function bits(text: string): number {
  return boundedNumber(text, 0, 0xff);
}

export const tos: TargetExtension = defineTarget<TosState>({
  name: 'TOS',
  families: ['ipv4', 'ipv6'],
  summary: 'Changes the TOS byte or traffic class and goes on',
  where: { tables: ['mangle'] },
  options: [
    option('set-tos', 'value[/mask]|name', 'Clears the bits of the mask, then XORs the value', parseTos),
    option('and-tos', 'bits', 'ANDs the byte with the bits', (text) => ({
      value: 0,
      mask: ~bits(text) & 0xff,
    })),
    option('or-tos', 'bits', 'ORs the byte with the bits', (text) => ({
      value: bits(text),
      mask: bits(text),
    })),
    option('xor-tos', 'bits', 'XORs the byte with the bits', (text) => ({ value: bits(text), mask: 0 })),
  ],
  initial: () => ({ tos: undefined }),
  finish(state) {
    if (state.tos === undefined)
      throw new OptionError('an option is missing', {
        hint: 'one of --set-tos, --and-tos, --or-tos, --xor-tos',
      });
  },
  print: (state) => ` --set-tos ${formatTos(state.tos!)}`,
  // struct xt_tos_target_info
  abi: [
    {
      name: 'TOS',
      revision: 1,
      size: 2,
      decode: (view) => ({ tos: { value: view.getUint8(0), mask: view.getUint8(1) } }),
      encode(state, view) {
        view.setUint8(0, state.tos!.value);
        view.setUint8(1, state.tos!.mask);
      },
    },
  ],
  effect(state, packet, host) {
    const { value, mask } = state.tos!;
    host.replace(withDsField(packet, (field) => (field & ~mask) ^ value));
    return 'continue';
  },
});
