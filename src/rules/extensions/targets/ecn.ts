/** `-j ECN`: net/ipv4/netfilter/ipt_ECN.c; RFC 3168. */
import { defineTarget, OptionError, type OptionSpec, type TargetExtension } from '../../extension.ts';
import { Protocol } from '../../names/protocols.ts';
import { boundedNumber } from '../../text/bounded.ts';

interface EcnState {
  /** New values of the TCP flags and of the codepoint in the IP header. */
  ece: number | undefined;
  cwr: number | undefined;
  ect: number | undefined;
}

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
});
