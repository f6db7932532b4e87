/** The body of REJECT for both families: it answers the sender, then drops (net/ipv4/netfilter/ipt_REJECT.c, net/ipv6/netfilter/ip6t_REJECT.c). */
import { Hook } from '../../ir/index.ts';
import type { Family } from '../../net/index.ts';
import { defineTarget, OptionError, type TargetExtension } from '../extension.ts';
import { Protocol } from '../names/protocols.ts';
import { didYouMean } from '../suggestion.ts';
import { refuse, unwritten } from '../uapi/errno.ts';

/** A kind of answer: its names, and its number in enum ipt_reject_with or ip6t_reject_with. */
export interface RejectKind {
  readonly name: string;
  readonly alias: string;
  readonly number: number;
}

interface RejectState {
  kind: RejectKind;
}

const TCP_RESET = 'tcp-reset';
/** IPT_ICMP_ECHOREPLY, IP6T_ICMP6_ECHOREPLY: the kernel refuses them by name. */
const ECHO_REPLY: Readonly<Record<Family, number>> = { ipv4: 4, ipv6: 5 };

/** The target for one family; `standard` is the answer when none is asked for. */
export function defineReject(
  family: Family,
  kinds: readonly RejectKind[],
  standard: string,
): TargetExtension {
  const find = (text: string): RejectKind | undefined => {
    const lower = text.toLowerCase();
    return kinds.find(({ name, alias }) => name.startsWith(lower) || alias.startsWith(lower));
  };
  const names = kinds.map(({ name }) => name);
  return defineTarget<RejectState>({
    name: 'REJECT',
    families: [family],
    summary: 'Tells the sender that the packet is refused, and drops it',
    where: (state) => ({
      tables: ['filter'],
      hooks: [Hook.LOCAL_IN, Hook.FORWARD, Hook.LOCAL_OUT],
      ...(state.kind.name === TCP_RESET ? { protocols: [Protocol.TCP] } : {}),
    }),
    options: [
      {
        name: 'reject-with',
        arguments: 1,
        syntax: 'kind',
        summary: `The answer: ${names.join(', ')}; ${standard} when not given`,
        apply(state, [value]) {
          const kind = find(value!);
          if (kind === undefined)
            throw new OptionError(`unknown kind of refusal "${value}"`, {
              hint: didYouMean(value!, names) ?? `one of ${names.join(', ')}`,
            });
          state.kind = kind;
        },
      },
    ],
    initial: () => ({ kind: kinds.find(({ name }) => name === standard)! }),
    list: (state) => ` reject-with ${state.kind.name}`,
    print: (state) => ` --reject-with ${state.kind.name}`,
    // struct ipt_reject_info, struct ip6t_reject_info
    abi: [
      {
        name: 'REJECT',
        revision: 0,
        size: 4,
        decode(view) {
          const number = view.getUint32(0, true);
          const kind = kinds.find((one) => one.number === number);
          if (number === ECHO_REPLY[family]) refuse('REJECT no longer answers with an echo reply');
          if (kind === undefined) unwritten(`REJECT has no answer number ${number}`);
          return { kind };
        },
        encode: (state, view) => view.setUint32(0, state.kind.number, true),
      },
    ],
    effect(state, _packet, host) {
      host.refuse(state.kind.number);
      return 'drop';
    },
    semantics: {
      evaluate: () => 'drop',
      lower: (state) => ({ kind: 'reject', with: state.kind.number }),
    },
  });
}
