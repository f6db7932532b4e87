/** `-m cpu`: net/netfilter/xt_cpu.c. */
import { defineMatch, type MatchExtension } from '../../extension.ts';
import { boundedNumber, UINT32_MAX } from '../../text/bounded.ts';
import { requireAll } from '../../text/requirement.ts';
import { refuse } from '../../uapi/errno.ts';

interface CpuState {
  cpu?: number;
  negate: boolean;
}

export const cpu: MatchExtension = defineMatch<CpuState>({
  name: 'cpu',
  families: ['ipv4', 'ipv6'],
  summary: 'The processor that handles the packet',
  options: [
    {
      name: 'cpu',
      arguments: 1,
      negatable: true,
      syntax: 'number',
      summary: 'Its number, from 0',
      apply(state, [value], negated) {
        state.cpu = boundedNumber(value!, 0, UINT32_MAX);
        state.negate = negated;
      },
    },
  ],
  initial: () => ({ negate: false }),
  finish(state) {
    requireAll('cpu', { cpu: state.cpu !== undefined });
  },
  print: (state) => `${state.negate ? ' !' : ''} --cpu ${state.cpu}`,
  // struct xt_cpu_info
  abi: [
    {
      name: 'cpu',
      revision: 0,
      everyFamily: true,
      size: 8,
      decode(view) {
        const invert = view.getUint32(4, true);
        if (invert > 1) refuse('cpu is negated by 1');
        return { cpu: view.getUint32(0, true), negate: invert === 1 };
      },
      encode({ cpu: number, negate }, view) {
        view.setUint32(0, number!, true);
        view.setUint32(4, negate ? 1 : 0, true);
      },
    },
  ],
});
