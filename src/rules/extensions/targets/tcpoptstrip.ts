/** `-j TCPOPTSTRIP`: net/netfilter/xt_TCPOPTSTRIP.c. */
import { defineTarget, OptionError, type TargetExtension } from '../../extension.ts';
import { Protocol } from '../../names/protocols.ts';
import { parseUnsigned } from '../../text/number.ts';

const NAMES: ReadonlyMap<string, number> = new Map([
  ['wscale', 3],
  ['mss', 2],
  ['sack-permitted', 4],
  ['sack', 5],
  ['timestamp', 8],
  ['md5', 19],
]);

function parseKinds(text: string): Set<number> {
  const kinds = new Set<number>();
  for (const word of text.split(',')) {
    const kind = NAMES.get(word) ?? parseUnsigned(word, 0, 255);
    if (kind === undefined)
      throw new OptionError(`"${word}" is not a TCP option`, {
        hint: `a kind from 2 to 255, or one of ${[...NAMES.keys()].join(', ')}`,
      });
    if (kind < 2) throw new OptionError('options 0 and 1 are padding and cannot be stripped');
    if (kinds.has(kind)) throw new OptionError(`option ${word} is named twice`);
    kinds.add(kind);
  }
  return kinds;
}

export const tcpoptstrip: TargetExtension = defineTarget<{ kinds: ReadonlySet<number> }>({
  name: 'TCPOPTSTRIP',
  families: ['ipv4', 'ipv6'],
  summary: 'Overwrites TCP options with padding and goes on',
  where: { tables: ['mangle'], protocols: [Protocol.TCP] },
  options: [
    {
      name: 'strip-options',
      arguments: 1,
      syntax: 'kind[,…]',
      summary: 'The options, by kind or name',
      apply(state, [value]) {
        state.kinds = parseKinds(value!);
      },
    },
  ],
  initial: () => ({ kinds: new Set() }),
  print({ kinds }) {
    if (kinds.size === 0) return '';
    return ` --strip-options ${[...kinds].sort((a, b) => a - b).join(',')}`;
  },
  // struct xt_tcpoptstrip_target_info
  abi: [
    {
      name: 'TCPOPTSTRIP',
      revision: 0,
      size: 32,
      decode(view) {
        const all = Array.from({ length: 256 }, (_, kind) => kind);
        return { kinds: new Set(all.filter((kind) => (view.getUint8(kind >> 3) & (1 << (kind & 7))) !== 0)) };
      },
      encode({ kinds }, view) {
        for (const kind of kinds) view.setUint8(kind >> 3, view.getUint8(kind >> 3) | (1 << (kind & 7)));
      },
    },
  ],
});
