/** `-j ECN`: net/ipv4/netfilter/ipt_ECN.c; RFC 3168. */
import { defineTarget, OptionError, type OptionSpec, type TargetExtension } from '../../extension.ts';
import { Protocol } from '../../names/protocols.ts';
import { boundedNumber } from '../../text/bounded.ts';
import { refuse } from '../../uapi/errno.ts';

interface EcnState {
  /** New values of the TCP flags and of the codepoint in the IP header. */
  ece: number | undefined;
  cwr: number | undefined;
  ect: number | undefined;
}

/** IPT_ECN_OP_* */
const Operation = { ECT: 0x01, ECE: 0x10, CWR: 0x20, UNKNOWN: 0xce } as const;
/** Bits of the TCP flags. */
const TcpFlag = { ECE: 0x1, CWR: 0x2 } as const;

function option(name: string, key: keyof EcnState, max: number, summary: string): OptionSpec<EcnState> {
  return {
    name,
    arguments: 1,
    syntax: max === 1 ? '0|1' : '0|1|2|3',
    summary,
    apply(state, [value]) {
      if (state[key] !== undefined) refuseTwice();
      state[key] = boundedNumber(value!, 0, max);
    },
  };
}

function refuseTwice(): never {
  throw new OptionError('--ecn-tcp-remove cannot be used together with --ecn-tcp-cwr or --ecn-tcp-ece', {
    argument: -1,
  });
}

export const ecn: TargetExtension = defineTarget<EcnState>({
  name: 'ECN',
  families: ['ipv4'],
  summary: 'Changes the bits of explicit congestion notification and goes on',
  where: ({ ece, cwr }) => ({
    tables: ['mangle'],
    ...(ece === undefined && cwr === undefined ? {} : { protocols: [Protocol.TCP] }),
  }),
  options: [
    {
      name: 'ecn-tcp-remove',
      arguments: 0,
      summary: 'Clears both TCP flags',
      apply(state) {
        if (state.ece !== undefined || state.cwr !== undefined) refuseTwice();
        state.ece = 0;
        state.cwr = 0;
      },
    },
    option('ecn-tcp-cwr', 'cwr', 1, 'Sets or clears the TCP flag CWR'),
    option('ecn-tcp-ece', 'ece', 1, 'Sets or clears the TCP flag ECE'),
    option('ecn-ip-ect', 'ect', 3, 'Sets the codepoint in the IP header'),
  ],
  initial: () => ({ ece: undefined, cwr: undefined, ect: undefined }),
  finish({ ece, cwr, ect }) {
    if (ece === undefined && cwr === undefined && ect === undefined)
      throw new OptionError('an option is missing', {
        hint: 'one of --ecn-tcp-remove, --ecn-tcp-cwr, --ecn-tcp-ece, --ecn-ip-ect',
      });
  },
  print({ ece, cwr, ect }) {
    if (ece === 0 && cwr === 0 && ect === undefined) return ' --ecn-tcp-remove';
    let text = ece === undefined ? '' : ` --ecn-tcp-ece ${ece}`;
    if (cwr !== undefined) text += ` --ecn-tcp-cwr ${cwr}`;
    return ect === undefined ? text : `${text} --ecn-ip-ect ${ect}`;
  },
  // struct ipt_ECN_info
  abi: [
    {
      name: 'ECN',
      revision: 0,
      size: 3,
      decode(view) {
        const [operation, ect, tcp] = [view.getUint8(0), view.getUint8(1), view.getUint8(2)];
        if ((operation & Operation.UNKNOWN) !== 0) refuse('ECN does something unknown');
        if (ect > 3) refuse(`there is no codepoint ${ect}`);
        const value = (done: number, bit: number): number | undefined =>
          (operation & done) === 0 ? undefined : (tcp & bit) === 0 ? 0 : 1;
        return {
          ece: value(Operation.ECE, TcpFlag.ECE),
          cwr: value(Operation.CWR, TcpFlag.CWR),
          ect: (operation & Operation.ECT) === 0 ? undefined : ect,
        };
      },
      encode({ ece, cwr, ect }, view) {
        let operation = ece === undefined ? 0 : Operation.ECE;
        if (cwr !== undefined) operation |= Operation.CWR;
        if (ect !== undefined) operation |= Operation.ECT;
        view.setUint8(0, operation);
        view.setUint8(1, ect ?? 0);
        view.setUint8(2, (ece === 1 ? TcpFlag.ECE : 0) | (cwr === 1 ? TcpFlag.CWR : 0));
      },
    },
  ],
});
