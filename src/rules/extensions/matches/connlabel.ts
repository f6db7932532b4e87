/** `-m connlabel`: net/netfilter/xt_connlabel.c. Labels are known by their number only: names are in a file of the host. */
import { defineMatch, type MatchExtension, OptionError } from '../../extension.ts';
import { parseUnsigned } from '../../text/number.ts';
import { requireAll } from '../../text/requirement.ts';
import { refuse } from '../../uapi/errno.ts';

/** XT_CONNLABEL_MAXBIT */
const LAST_LABEL = 127;

/** XT_CONNLABEL_OP_* */
const INVERT = 0x1;
const SET = 0x2;

interface ConnlabelState {
  label: number | undefined;
  negate: boolean;
  set: boolean;
}

export const connlabel: MatchExtension = defineMatch<ConnlabelState>({
  name: 'connlabel',
  families: ['ipv4', 'ipv6'],
  summary: 'Labels of the connection',
  options: [
    {
      name: 'label',
      arguments: 1,
      negatable: true,
      syntax: 'number',
      summary: 'The connection has the label',
      apply(state, [value], negated) {
        state.label = parseUnsigned(value!, 0, Number.MAX_SAFE_INTEGER);
        if (state.label === undefined)
          throw new OptionError(`label "${value}" is not a number`, {
            hint: 'names of labels are known only to the host (/etc/xtables/connlabel.conf): write the number',
          });
        state.negate = negated;
      },
    },
    {
      name: 'set',
      arguments: 0,
      summary: 'Gives the connection the label',
      apply(state) {
        state.set = true;
      },
    },
  ],
  initial: () => ({ label: undefined, negate: false, set: false }),
  finish: (state) => requireAll('connlabel', { label: state.label !== undefined }),
  admit({ label }) {
    if (label! > LAST_LABEL)
      throw new OptionError(`label ${label} is beyond the last one, ${LAST_LABEL}`, { argument: -1 });
  },
  print: (state) => `${state.negate ? ' !' : ''} --label "${state.label}"${state.set ? ' --set' : ''}`,
  // struct xt_connlabel_mtinfo
  abi: [
    {
      name: 'connlabel',
      revision: 0,
      everyFamily: true,
      size: 4,
      decode(view) {
        const options = view.getUint16(2, true);
        if ((options & ~(INVERT | SET)) !== 0)
          refuse(`connlabel has unknown flags 0x${options.toString(16)}`);
        return {
          label: view.getUint16(0, true),
          negate: (options & INVERT) !== 0,
          set: (options & SET) !== 0,
        };
      },
      encode({ label, negate, set }, view) {
        view.setUint16(0, label!, true);
        view.setUint16(2, (negate ? INVERT : 0) | (set ? SET : 0), true);
      },
    },
  ],
});
