/** `-j CONNSECMARK`: net/netfilter/xt_CONNSECMARK.c. */
import { defineTarget, type OptionSpec, type TargetExtension } from '../../extension.ts';
import { requireOne } from '../../text/requirement.ts';
import { refuse } from '../../uapi/errno.ts';

/** CONNSECMARK_* */
const SAVE = 1;
const RESTORE = 2;

interface ConnsecmarkState {
  save: boolean;
  restore: boolean;
}

function option(name: 'save' | 'restore', summary: string): OptionSpec<ConnsecmarkState> {
  return {
    name,
    arguments: 0,
    summary,
    apply(state) {
      state[name] = true;
    },
  };
}

export const connsecmark: TargetExtension = defineTarget<ConnsecmarkState>({
  name: 'CONNSECMARK',
  families: ['ipv4', 'ipv6'],
  summary: 'Copies the security mark between packet and connection, and goes on',
  where: { tables: ['mangle', 'security'] },
  options: [
    option('save', 'The connection gets the mark of the packet, if it has none'),
    option('restore', 'The packet gets the mark of the connection, if it has none'),
  ],
  initial: () => ({ save: false, restore: false }),
  finish: ({ save, restore }) => requireOne('CONNSECMARK', { save, restore }),
  print: ({ save }) => (save ? ' --save' : ' --restore'),
  // struct xt_connsecmark_target_info
  abi: [
    {
      name: 'CONNSECMARK',
      revision: 0,
      size: 1,
      decode(view) {
        const mode = view.getUint8(0);
        if (mode !== SAVE && mode !== RESTORE) refuse(`CONNSECMARK has the unknown mode ${mode}`);
        return { save: mode === SAVE, restore: mode === RESTORE };
      },
      encode: ({ save }, view) => view.setUint8(0, save ? SAVE : RESTORE),
    },
  ],
});
