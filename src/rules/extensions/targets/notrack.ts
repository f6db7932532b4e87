/** `-j NOTRACK`: another name of `-j CT --notrack`, net/netfilter/xt_CT.c. */
import { defineTarget, type TargetExtension } from '../../extension.ts';

/** XT_CT_NOTRACK and XT_CT_NOTRACK_ALIAS. */
const NOTRACK_ALIAS = 0x3;

function decodeAlias(view: DataView): Record<string, never> | undefined {
  return view.getUint16(0, true) === NOTRACK_ALIAS ? {} : undefined;
}

function encodeAlias(_state: Record<string, never>, view: DataView): void {
  view.setUint16(0, NOTRACK_ALIAS, true);
}

export const notrack: TargetExtension = defineTarget<Record<string, never>>({
  name: 'NOTRACK',
  families: ['ipv4', 'ipv6'],
  summary: 'The packet is not tracked',
  where: { tables: ['raw'] },
  options: [],
  initial: () => ({}),
  print: () => '',
  // Written as CT with a mark that it was called NOTRACK; the kernel has the old name too.
  abi: [
    { name: 'CT', revision: 2, size: 72, userSize: 64, decode: decodeAlias, encode: encodeAlias },
    { name: 'CT', revision: 1, size: 72, userSize: 64, decode: decodeAlias, encode: encodeAlias },
    { name: 'NOTRACK', revision: 0, size: 0, decode: () => ({}), encode() {} },
  ],
  effect(_state, _packet, host) {
    host.untrack();
    return 'continue';
  },
});
