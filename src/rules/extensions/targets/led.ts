/** `-j LED`: net/netfilter/xt_LED.c. */
import { defineTarget, OptionError, type TargetExtension } from '../../extension.ts';
import { boundedNumber, UINT32_MAX } from '../../text/bounded.ts';
import { requireAll } from '../../text/requirement.ts';
import { byteLength } from '../../text/utf8.ts';

/** sizeof(id) of struct xt_led_info less "netfilter-" and the terminator. */
const TRIGGER_BYTES = 16;

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
});
