/** `-j CONNMARK`: net/netfilter/xt_connmark.c connmark_tg, revision 2. */
import { defineTarget, OptionError, type OptionSpec, type TargetExtension } from '../../extension.ts';
import { boundedNumber, UINT32_MAX } from '../../text/bounded.ts';
import { type MaskedMark, parseMaskedMark } from '../../text/mark.ts';
import { hex } from '../../text/number.ts';
import { allowOne } from '../../text/requirement.ts';
import { unwritten } from '../../uapi/errno.ts';
import type { AbiForm } from '../../uapi/payload.ts';

type Operation = 'set' | 'save' | 'restore';

interface ConnmarkState {
  operation: Operation | undefined;
  value: number;
  /** Of the mark of the connection, and of the packet. */
  connectionMask: number;
  packetMask: number;
  /** Options that set masks. */
  readonly masks: Set<'ctmask' | 'nfmask' | 'mask'>;
  shiftBits: number;
  shiftRight: boolean;
}

/** The most that iptables reads; the kernel takes one less. */
const MAXIMUM_SHIFT = 32;

function bits(text: string): number {
  return boundedNumber(text, 0, UINT32_MAX);
}

function begin(state: ConnmarkState, operation: Operation): void {
  if (state.operation !== undefined)
    throw new OptionError('only one operation is possible', {
      hint: 'one of --set-mark, --set-xmark, --and-mark, --or-mark, --xor-mark, --save-mark, --restore-mark',
      argument: -1,
    });
  state.operation = operation;
}

function change(
  name: string,
  syntax: string,
  summary: string,
  parse: (text: string) => MaskedMark,
): OptionSpec<ConnmarkState> {
  return {
    name,
    arguments: 1,
    syntax,
    summary,
    apply(state, [value]) {
      const mark = parse(value!);
      begin(state, 'set');
      state.value = mark.value;
      state.connectionMask = mark.mask;
    },
  };
}

function copy(name: string, operation: Operation, summary: string): OptionSpec<ConnmarkState> {
  return {
    name,
    arguments: 0,
    summary,
    apply(state) {
      begin(state, operation);
    },
  };
}

function shift(name: string, right: boolean, summary: string): OptionSpec<ConnmarkState> {
  return {
    name,
    arguments: 1,
    syntax: 'bits',
    summary,
    apply(state, [value]) {
      state.shiftBits = boundedNumber(value!, 0, MAXIMUM_SHIFT);
      state.shiftRight = right;
    },
  };
}

function mask(name: 'ctmask' | 'nfmask' | 'mask', summary: string): OptionSpec<ConnmarkState> {
  return {
    name,
    arguments: 1,
    syntax: 'bits',
    summary,
    apply(state, [value]) {
      const written = bits(value!);
      state.masks.add(name);
      if (name !== 'nfmask') state.connectionMask = written;
      if (name !== 'ctmask') state.packetMask = written;
    },
  };
}

function shifted({ shiftBits, shiftRight }: ConnmarkState, mark: number): number {
  return (shiftRight ? mark >>> shiftBits : mark << shiftBits) >>> 0;
}

/** By number of XT_CONNMARK_*. */
const OPERATIONS = ['set', 'save', 'restore'] as const;

function connmarkForm(revision: 1 | 2): AbiForm<ConnmarkState> {
  const modeAt = revision === 2 ? 14 : 12;
  return {
    name: 'CONNMARK',
    revision,
    size: 16,
    decode(view) {
      const operation = OPERATIONS[view.getUint8(modeAt)];
      if (operation === undefined) unwritten(`CONNMARK has the unknown mode ${view.getUint8(modeAt)}`);
      return {
        operation,
        value: view.getUint32(0, true),
        connectionMask: view.getUint32(4, true),
        packetMask: view.getUint32(8, true),
        masks: new Set(),
        shiftRight: revision === 2 && view.getUint8(12) !== 0,
        shiftBits: revision === 2 ? view.getUint8(13) : 0,
      };
    },
    encode(state, view) {
      view.setUint32(0, state.value, true);
      view.setUint32(4, state.connectionMask, true);
      view.setUint32(8, state.packetMask, true);
      if (revision === 2) {
        view.setUint8(12, state.shiftRight ? 1 : 0);
        view.setUint8(13, state.shiftBits);
      }
      view.setUint8(modeAt, OPERATIONS.indexOf(state.operation!));
    },
  };
}

export const connmark: TargetExtension = defineTarget<ConnmarkState>({
  name: 'CONNMARK',
  families: ['ipv4', 'ipv6'],
  summary: 'Changes the mark of the connection, or copies marks between packet and connection, and goes on',
  options: [
    change('set-xmark', 'value[/mask]', 'Clears the bits of the mask, then XORs the value', parseMaskedMark),
    change(
      'set-mark',
      'value[/mask]',
      'Clears the bits of mask and value, then sets those of the value',
      (text) => {
        const mark = parseMaskedMark(text);
        return { value: mark.value, mask: (mark.value | mark.mask) >>> 0 };
      },
    ),
    change('and-mark', 'bits', 'ANDs the mark with the bits', (text) => ({
      value: 0,
      mask: ~bits(text) >>> 0,
    })),
    change('or-mark', 'bits', 'ORs the mark with the bits', (text) => ({
      value: bits(text),
      mask: bits(text),
    })),
    change('xor-mark', 'bits', 'XORs the mark with the bits', (text) => ({ value: bits(text), mask: 0 })),
    copy('save-mark', 'save', 'The connection gets the mark of the packet'),
    copy('restore-mark', 'restore', 'The packet gets the mark of the connection'),
    shift('left-shift-mark', false, 'Shifts the mark to the left before it is stored'),
    shift('right-shift-mark', true, 'Shifts the mark to the right before it is stored'),
    mask('ctmask', 'Bits of the mark of the connection that take part'),
    mask('nfmask', 'Bits of the mark of the packet that take part'),
    mask('mask', 'Bits of both marks that take part'),
  ],
  initial: () => ({
    operation: undefined,
    value: 0,
    connectionMask: UINT32_MAX,
    packetMask: UINT32_MAX,
    masks: new Set(),
    shiftBits: 0,
    shiftRight: false,
  }),
  finish({ operation, masks }) {
    if (operation === undefined)
      throw new OptionError('an operation is missing', {
        hint: 'one of --set-mark, --set-xmark, --and-mark, --or-mark, --xor-mark, --save-mark, --restore-mark',
      });
    allowOne({ ctmask: masks.has('ctmask'), mask: masks.has('mask') });
    allowOne({ nfmask: masks.has('nfmask'), mask: masks.has('mask') });
  },
  admit({ shiftBits }) {
    if (shiftBits === MAXIMUM_SHIFT)
      throw new OptionError(`marks are shifted by less than ${MAXIMUM_SHIFT} bits`, { argument: -1 });
  },
  print(state) {
    let text =
      state.operation === 'set'
        ? ` --set-xmark ${hex(state.value)}/${hex(state.connectionMask)}`
        : ` --${state.operation}-mark --nfmask ${hex(state.packetMask)} --ctmask ${hex(state.connectionMask)}`;
    if (state.shiftBits !== 0)
      text += ` --${state.shiftRight ? 'right' : 'left'}-shift-mark ${state.shiftBits}`;
    return text;
  },
  // struct xt_connmark_tginfo2; revision 1 cannot shift
  abi: [connmarkForm(2), connmarkForm(1)],
  effect(state, packet, host) {
    const { connectionMark } = host;
    if (connectionMark === undefined) return 'continue';
    const { connectionMask, packetMask } = state;
    if (state.operation === 'restore') {
      packet.mark = ((packet.mark & ~packetMask) ^ shifted(state, connectionMark & connectionMask)) >>> 0;
    } else if (state.operation === 'save') {
      host.connectionMark =
        ((connectionMark & ~connectionMask) ^ shifted(state, packet.mark & packetMask)) >>> 0;
    } else {
      host.connectionMark = shifted(state, (connectionMark & ~connectionMask) ^ state.value);
    }
    return 'continue';
  },
});
