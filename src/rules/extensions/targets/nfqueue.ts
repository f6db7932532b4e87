/** `-j NFQUEUE`: net/netfilter/xt_NFQUEUE.c, revision 3. */
import { jhash2, reciprocalScale } from '../../../net/index.ts';
import type { EvaluationPacket } from '../../evaluate/packet.ts';
import { defineTarget, OptionError, type OptionSpec, type TargetExtension } from '../../extension.ts';
import { boundedNumber, numberRange64 } from '../../text/bounded.ts';
import { allowOne, requireWith } from '../../text/requirement.ts';
import { refuse } from '../../uapi/errno.ts';
import type { AbiForm } from '../../uapi/payload.ts';

const LAST_QUEUE = 0xffff;

interface NfqueueState {
  number: number | undefined;
  /** Inclusive. */
  balance: { readonly first: number; readonly last: number } | undefined;
  bypass: boolean;
  cpuFanout: boolean;
}

function flag(name: string, key: 'bypass' | 'cpuFanout', summary: string): OptionSpec<NfqueueState> {
  return {
    name,
    arguments: 0,
    summary,
    apply(state) {
      state[key] = true;
    },
  };
}

/** NFQ_FLAG_* */
const BYPASS = 0x1;
const CPU_FANOUT = 0x2;

function queueForm(revision: 0 | 1 | 2 | 3): AbiForm<NfqueueState> {
  return {
    name: 'NFQUEUE',
    revision,
    everyFamily: true,
    size: [2, 4, 6, 6][revision]!,
    decode(view) {
      const number = view.getUint16(0, true);
      const total = revision === 0 ? 1 : view.getUint16(2, true);
      const flags = revision < 2 ? 0 : view.getUint16(4, true);
      if (total === 0 || number + total - 1 > LAST_QUEUE) refuse('there are no such queues');
      if ((flags & ~(revision === 3 ? BYPASS | CPU_FANOUT : BYPASS)) !== 0)
        refuse(`NFQUEUE has unknown flags 0x${flags.toString(16)}`);
      return {
        number: total === 1 ? number : undefined,
        balance: total === 1 ? undefined : { first: number, last: number + total - 1 },
        bypass: (flags & BYPASS) !== 0,
        cpuFanout: (flags & CPU_FANOUT) !== 0,
      };
    },
    encode({ number = 0, balance, bypass, cpuFanout }, view) {
      view.setUint16(0, balance?.first ?? number, true);
      if (revision > 0) view.setUint16(2, balance === undefined ? 1 : balance.last - balance.first + 1, true);
      if (revision > 1) view.setUint16(4, (bypass ? BYPASS : 0) | (cpuFanout ? CPU_FANOUT : 0), true);
    },
  };
}

/**
 * nfqueue_hash(): both directions of a connection go to the same queue. The kernel seeds its hash at boot, so that which one
 * it is cannot be told; here the seed is 0.
 */
function balancedQueue({ family, bytes, protocol }: EvaluationPacket, first: number, last: number): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const ordered = (one: number, other: number): [number, number] =>
    one < other ? [one, other] : [other, one];
  const word = (at: number): number => view.getUint32(at, true);
  const words =
    family === 'ipv4'
      ? [...ordered(word(12), word(16)), protocol & 0xff]
      : [...ordered(word(20), word(36)), ordered(word(12), word(28))[0]];
  return first + reciprocalScale(jhash2(words, 0), last - first + 1);
}

export const nfqueue: TargetExtension = defineTarget<NfqueueState>({
  name: 'NFQUEUE',
  families: ['ipv4', 'ipv6'],
  summary: 'Asks a program for the verdict',
  options: [
    {
      name: 'queue-num',
      arguments: 1,
      syntax: 'number',
      summary: 'The queue, 0 when not given',
      apply(state, [value]) {
        state.number = boundedNumber(value!, 0, LAST_QUEUE);
      },
    },
    {
      name: 'queue-balance',
      arguments: 1,
      syntax: 'number:number',
      summary: 'Connections are spread over these queues',
      apply(state, [value]) {
        const [first, last] = numberRange64(value!, BigInt(LAST_QUEUE));
        if (last === undefined)
          throw new OptionError(`"${value}" is not a range`, { hint: 'write first:last' });
        if (first! >= last) throw new OptionError(`${first} should be less than ${last}`);
        state.balance = { first: Number(first), last: Number(last) };
      },
    },
    flag('queue-bypass', 'bypass', 'The packet goes on to the next rule when no program listens'),
    flag('queue-cpu-fanout', 'cpuFanout', 'The queue is chosen by processor, not by connection'),
  ],
  initial: () => ({ number: undefined, balance: undefined, bypass: false, cpuFanout: false }),
  finish({ number, balance, cpuFanout }) {
    allowOne({ 'queue-num': number !== undefined, 'queue-balance': balance !== undefined });
    requireWith('queue-cpu-fanout', cpuFanout, 'queue-balance', balance !== undefined);
  },
  admit({ balance }) {
    if (balance !== undefined && balance.last - balance.first === LAST_QUEUE)
      throw new OptionError(`at most ${LAST_QUEUE} queues can share`, { argument: -1 });
  },
  print({ number, balance, bypass, cpuFanout }) {
    const text =
      balance === undefined
        ? ` --queue-num ${number ?? 0}`
        : ` --queue-balance ${balance.first}:${balance.last}`;
    return `${text}${bypass ? ' --queue-bypass' : ''}${cpuFanout ? ' --queue-cpu-fanout' : ''}`;
  },
  // struct xt_NFQ_info_v3 to v1 and xt_NFQ_info: each revision adds a field
  abi: [queueForm(3), queueForm(2), queueForm(1), queueForm(0)],
  effect({ number, balance, bypass, cpuFanout }, packet) {
    if (balance === undefined) return { queue: number ?? 0, bypass };
    // There is one processor here.
    const queue = cpuFanout ? balance.first : balancedQueue(packet, balance.first, balance.last);
    return { queue, bypass };
  },
});
