/** `-m physdev`: net/netfilter/xt_physdev.c. */
import { Hook } from '../../../ir/index.ts';
import { defineMatch, type MatchExtension, OptionError, type OptionSpec } from '../../extension.ts';
import type { DeviceName } from '../../model.ts';
import { formatDevice, parseDevice } from '../../text/device.ts';
import { requireAny } from '../../text/requirement.ts';
import { decodeDevice, encodeDevice } from '../../uapi/base.ts';
import { refuse } from '../../uapi/errno.ts';

/** XT_PHYSDEV_OP_* */
const Op = { IN: 0x1, OUT: 0x2, BRIDGED: 0x4, IS_IN: 0x8, IS_OUT: 0x10, ALL: 0x1f } as const;

interface Flag {
  readonly negate: boolean;
}

interface PhysdevState {
  isIn?: Flag;
  in?: DeviceName;
  isOut?: Flag;
  out?: DeviceName;
  isBridged?: Flag;
}

function device(name: string, key: 'in' | 'out', summary: string): OptionSpec<PhysdevState> {
  return {
    name,
    arguments: 1,
    negatable: true,
    syntax: 'name[+]',
    summary,
    apply(state, [value], negated) {
      state[key] = parseDevice(value!, negated);
    },
  };
}

function flag(name: string, key: 'isIn' | 'isOut' | 'isBridged', summary: string): OptionSpec<PhysdevState> {
  return {
    name,
    arguments: 0,
    negatable: true,
    summary,
    apply(state, _values, negate) {
      state[key] = { negate };
    },
  };
}

function print(option: string, given: Flag | DeviceName | undefined): string {
  if (given === undefined) return '';
  return `${given.negate ? ' !' : ''} --physdev-${option}${'name' in given ? ` ${formatDevice(given)}` : ''}`;
}

const printAll = (state: PhysdevState): string =>
  print('is-in', state.isIn) +
  print('in', state.in) +
  print('is-out', state.isOut) +
  print('out', state.out) +
  print('is-bridged', state.isBridged);

/** Of a packet that has nothing to do with a bridge, every condition is false. */
function notBridged({ isIn, in: inPort, isOut, out: outPort, isBridged }: PhysdevState): boolean {
  return [isIn, inPort, isOut, outPort, isBridged].every((given) => given === undefined || given.negate);
}

export const physdev: MatchExtension = defineMatch<PhysdevState>({
  name: 'physdev',
  families: ['ipv4', 'ipv6'],
  summary: 'The bridge ports a packet came in and goes out by',
  options: [
    device('physdev-in', 'in', 'The port it came in by'),
    device('physdev-out', 'out', 'The port it goes out by'),
    flag('physdev-is-in', 'isIn', 'It came in by a bridge'),
    flag('physdev-is-out', 'isOut', 'It goes out by a bridge'),
    flag('physdev-is-bridged', 'isBridged', 'It is bridged, not routed'),
  ],
  initial: () => ({}),
  finish(state) {
    requireAny('physdev', {
      'physdev-in': state.in !== undefined,
      'physdev-out': state.out !== undefined,
      'physdev-is-in': state.isIn !== undefined,
      'physdev-is-out': state.isOut !== undefined,
      'physdev-is-bridged': state.isBridged !== undefined,
    });
  },
  admit(state, { hooks }) {
    const bridged = state.isBridged !== undefined && !state.isBridged.negate;
    if ((state.out || state.isOut) && !bridged && hooks.includes(Hook.LOCAL_OUT))
      throw new OptionError('in OUTPUT the outgoing port of a packet is not known yet', {
        hint: 'add --physdev-is-bridged, or move the rule to POSTROUTING or FORWARD',
        argument: -1,
      });
  },
  list: (state) => ` PHYSDEV match${printAll(state)}`,
  print: printAll,
  // struct xt_physdev_info
  abi: [
    {
      name: 'physdev',
      revision: 0,
      size: 66,
      decode(view) {
        const [given, invert] = [view.getUint8(65), view.getUint8(64)];
        if ((given & Op.ALL) === 0 || (given & ~Op.ALL) !== 0) refuse('physdev looks at nothing known');
        const flag = (op: number): Flag | undefined =>
          (given & op) === 0 ? undefined : { negate: (invert & op) !== 0 };
        const [isIn, isOut, isBridged] = [flag(Op.IS_IN), flag(Op.IS_OUT), flag(Op.BRIDGED)];
        const device = (op: number, at: number): DeviceName | undefined =>
          (given & op) === 0 ? undefined : decodeDevice(view, at, at + 16, (invert & op) !== 0);
        const [inDevice, outDevice] = [device(Op.IN, 0), device(Op.OUT, 32)];
        return {
          ...(isIn && { isIn }),
          ...(isOut && { isOut }),
          ...(isBridged && { isBridged }),
          ...(inDevice && { in: inDevice }),
          ...(outDevice && { out: outDevice }),
        };
      },
      encode(state, view) {
        let given = 0;
        let invert = 0;
        const set = (op: number, one: Flag | DeviceName | undefined): void => {
          if (one === undefined) return;
          given |= op;
          if (one.negate) invert |= op;
        };
        set(Op.IN, state.in);
        set(Op.OUT, state.out);
        set(Op.BRIDGED, state.isBridged);
        set(Op.IS_IN, state.isIn);
        set(Op.IS_OUT, state.isOut);
        encodeDevice(view, 0, 16, state.in);
        encodeDevice(view, 32, 48, state.out);
        view.setUint8(64, invert);
        view.setUint8(65, given);
      },
    },
  ],
  // The netstack has no bridges. What a program sees of one it cannot tell: the ports lie behind the packet's extensions.
  semantics: {
    evaluate: (state) => notBridged(state),
    explain: () => 'the packet came by no bridge',
  },
});
