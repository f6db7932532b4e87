/** `-j NFQUEUE`: net/netfilter/xt_NFQUEUE.c, revision 3. */
import { defineTarget, OptionError, type OptionSpec, type TargetExtension } from '../../extension.ts';
import { boundedNumber, numberRange64 } from '../../text/bounded.ts';
import { allowOne, requireWith } from '../../text/requirement.ts';

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
});
