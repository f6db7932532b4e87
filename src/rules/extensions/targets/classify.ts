/** `-j CLASSIFY`: net/netfilter/xt_CLASSIFY.c. */
import { Hook } from '../../../ir/index.ts';
import { defineTarget, OptionError, type TargetExtension } from '../../extension.ts';
import { requireAll } from '../../text/requirement.ts';

function hex4(value: number): string {
  return value.toString(16).padStart(4, '0');
}

export const classify: TargetExtension = defineTarget<{
  class: { readonly major: number; readonly minor: number } | undefined;
}>({
  name: 'CLASSIFY',
  families: ['ipv4', 'ipv6'],
  summary: 'Puts the packet into a traffic class and goes on',
  where: { hooks: [Hook.FORWARD, Hook.LOCAL_OUT, Hook.POST_ROUTING] },
  options: [
    {
      name: 'set-class',
      arguments: 1,
      syntax: 'major:minor',
      summary: 'The class, in hexadecimal',
      apply(state, [value]) {
        const match = /^\s*(?:0x)?([0-9a-f]{1,4}):\s*(?:0x)?([0-9a-f]{1,4})$/i.exec(value!);
        if (match === null)
          throw new OptionError(`"${value}" is not a traffic class`, {
            hint: 'two numbers of up to four hexadecimal digits, such as 1:10',
          });
        state.class = { major: Number.parseInt(match[1]!, 16), minor: Number.parseInt(match[2]!, 16) };
      },
    },
  ],
  initial: () => ({ class: undefined }),
  finish: (state) => requireAll('CLASSIFY', { 'set-class': state.class !== undefined }),
  print: (state) => ` --set-class ${hex4(state.class!.major)}:${hex4(state.class!.minor)}`,
  // struct xt_classify_target_info
  abi: [
    {
      name: 'CLASSIFY',
      revision: 0,
      size: 4,
      decode: (view) => ({ class: { major: view.getUint16(2, true), minor: view.getUint16(0, true) } }),
      encode(state, view) {
        view.setUint16(0, state.class!.minor, true);
        view.setUint16(2, state.class!.major, true);
      },
    },
  ],
  effect(state, _packet, host) {
    host.setPriority(((state.class!.major << 16) | state.class!.minor) >>> 0);
    return 'continue';
  },
});
