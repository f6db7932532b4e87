/** `-j LED`: net/netfilter/xt_LED.c. */
import { defineTarget, OptionError, type TargetExtension } from '../../extension.ts';
import { boundedNumber, UINT32_MAX } from '../../text/bounded.ts';
import { requireAll } from '../../text/requirement.ts';
import { byteLength } from '../../text/utf8.ts';
import { refuse, unwritten } from '../../uapi/errno.ts';
import { readBoolean, readText, writeText } from '../../uapi/payload.ts';

/** sizeof(id) of struct xt_led_info less "netfilter-" and the terminator. */
const TRIGGER_BYTES = 16;
/** How iptables begins the names of triggers. */
const PREFIX = 'netfilter-';
const ID_BYTES = 27;

interface LedState {
  trigger: string | undefined;
  delayMs: number | 'inf';
  alwaysBlink: boolean;
}

export const led: TargetExtension = defineTarget<LedState>({
  name: 'LED',
  families: ['ipv4', 'ipv6'],
  summary: 'Lights an LED when packets come, and goes on',
  options: [
    {
      name: 'led-trigger-id',
      arguments: 1,
      syntax: 'name',
      summary: `Name of the trigger, at most ${TRIGGER_BYTES} bytes`,
      apply(state, [value]) {
        if (value === '' || byteLength(value!) > TRIGGER_BYTES)
          throw new OptionError(`the name has 1 to ${TRIGGER_BYTES} bytes`);
        state.trigger = value;
      },
    },
    {
      name: 'led-delay',
      arguments: 1,
      syntax: 'ms|inf',
      summary: 'How long it stays on',
      apply(state, [value]) {
        state.delayMs = /^inf/i.test(value!) ? 'inf' : boundedNumber(value!, 0, UINT32_MAX);
      },
    },
    {
      name: 'led-always-blink',
      arguments: 0,
      summary: 'Blinks when it is on already',
      apply(state) {
        state.alwaysBlink = true;
      },
    },
  ],
  initial: () => ({ trigger: undefined, delayMs: 0, alwaysBlink: false }),
  finish: (state) => requireAll('LED', { 'led-trigger-id': state.trigger !== undefined }),
  print({ trigger, delayMs, alwaysBlink }) {
    let text = ` --led-trigger-id "${trigger!.replace(/["\\]/g, '\\$&')}"`;
    if (delayMs !== 0) text += ` --led-delay ${delayMs}`;
    return alwaysBlink ? `${text} --led-always-blink` : text;
  },
  // struct xt_led_info
  abi: [
    {
      name: 'LED',
      revision: 0,
      everyFamily: true,
      size: 40,
      userSize: 32,
      decode(view) {
        const id = readText(view, 0, ID_BYTES);
        if (id === '') refuse('LED: the name is empty');
        if (!id.startsWith(PREFIX)) unwritten(`LED: "${id}" is a name of something else`);
        const delayMs = view.getInt32(28, true);
        return {
          trigger: id.slice(PREFIX.length),
          delayMs: delayMs < 0 ? 'inf' : delayMs,
          alwaysBlink: readBoolean(view, 27),
        };
      },
      encode({ trigger, delayMs, alwaysBlink }, view) {
        writeText(view, 0, ID_BYTES, `${PREFIX}${trigger}`);
        view.setUint8(27, alwaysBlink ? 1 : 0);
        view.setInt32(28, delayMs === 'inf' ? -1 : delayMs, true);
      },
    },
  ],
});
