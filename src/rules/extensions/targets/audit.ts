/** `-j AUDIT`: net/netfilter/xt_AUDIT.c. */
import { defineTarget, OptionError, type TargetExtension } from '../../extension.ts';
import { requireAll } from '../../text/requirement.ts';
import { AbiErrno, AbiError } from '../../uapi/errno.ts';

const TYPES = ['accept', 'drop', 'reject'] as const;

export const audit: TargetExtension = defineTarget<{ type: (typeof TYPES)[number] | undefined }>({
  name: 'AUDIT',
  families: ['ipv4', 'ipv6'],
  summary: 'Writes the packet to the audit log and goes on',
  options: [
    {
      name: 'type',
      arguments: 1,
      syntax: TYPES.join('|'),
      summary: 'What the record says of the packet',
      apply(state, [value]) {
        state.type = TYPES.find((known) => known === value!.toLowerCase());
        if (state.type === undefined)
          throw new OptionError(`unknown type "${value}"`, { hint: `write ${TYPES.join(', ')}` });
      },
    },
  ],
  initial: () => ({ type: undefined }),
  finish: (state) => requireAll('AUDIT', { type: state.type !== undefined }),
  print: (state) => ` --type ${state.type}`,
  // struct xt_audit_info
  abi: [
    {
      name: 'AUDIT',
      revision: 0,
      everyFamily: true,
      size: 1,
      decode(view) {
        const type = TYPES[view.getUint8(0)];
        if (type === undefined) throw new AbiError(AbiErrno.ERANGE, `AUDIT has no type ${view.getUint8(0)}`);
        return { type };
      },
      encode: ({ type }, view) => view.setUint8(0, TYPES.indexOf(type!)),
    },
  ],
});
