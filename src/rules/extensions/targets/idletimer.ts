/** `-j IDLETIMER`: net/netfilter/xt_IDLETIMER.c, revision 1. */
import { defineTarget, OptionError, type TargetExtension } from '../../extension.ts';
import { boundedNumber, UINT32_MAX } from '../../text/bounded.ts';
import { requireAll } from '../../text/requirement.ts';
import { cutToBytes } from '../../text/utf8.ts';
import { AbiErrno, AbiError, refuse } from '../../uapi/errno.ts';
import { readText, writeText } from '../../uapi/payload.ts';

/** MAX_IDLETIMER_LABEL_SIZE - 1 */
const LABEL_BYTES = 27;
/** The timer counts milliseconds in 31 bits. */
const TIMEOUT_END_SEC = 2_147_483;
/** Names that the files of a sysfs device have already. */
const TAKEN_LABELS = ['power', 'subsystem', 'uevent'];

interface IdletimerState {
  timeoutSec: number | undefined;
  label: string | undefined;
  alarm: boolean;
}

/** XT_IDLETIMER_ALARM */
const ALARM = 1;

/** What both structures begin with. */
function readTimer(view: DataView): Pick<IdletimerState, 'timeoutSec' | 'label'> {
  return { timeoutSec: view.getUint32(0, true), label: readText(view, 4, LABEL_BYTES + 1) };
}

function writeTimer({ timeoutSec, label }: IdletimerState, view: DataView): void {
  view.setUint32(0, timeoutSec!, true);
  writeText(view, 4, LABEL_BYTES + 1, label!);
}

export const idletimer: TargetExtension = defineTarget<IdletimerState>({
  name: 'IDLETIMER',
  families: ['ipv4', 'ipv6'],
  summary: 'Starts a timer that reports when no packet came for a while, and goes on',
  options: [
    {
      name: 'timeout',
      arguments: 1,
      syntax: 'seconds',
      summary: 'How long',
      apply(state, [value]) {
        state.timeoutSec = boundedNumber(value!, 0, UINT32_MAX);
      },
    },
    {
      name: 'label',
      arguments: 1,
      syntax: 'name',
      summary: 'Name of the timer; rules with the same name share it',
      apply(state, [value]) {
        state.label = cutToBytes(value!, LABEL_BYTES);
      },
    },
    {
      name: 'alarm',
      arguments: 0,
      summary: 'The timer runs while the host is suspended',
      apply(state) {
        state.alarm = true;
      },
    },
  ],
  initial: () => ({ timeoutSec: undefined, label: undefined, alarm: false }),
  finish({ timeoutSec, label }) {
    requireAll('IDLETIMER', { timeout: timeoutSec !== undefined, label: label !== undefined });
  },
  admit({ timeoutSec, label }) {
    if (timeoutSec === 0 || timeoutSec! >= TIMEOUT_END_SEC)
      throw new OptionError(`the timeout is 1 to ${TIMEOUT_END_SEC - 1} seconds`, { argument: -1 });
    if (label === '' || TAKEN_LABELS.includes(label!))
      throw new OptionError(`"${label}" cannot be the name of a timer`, { argument: -1 });
  },
  print: ({ timeoutSec, label, alarm }) =>
    ` --timeout ${timeoutSec} --label ${label}${alarm ? ' --alarm' : ''}`,
  // struct idletimer_tg_info_v1 and idletimer_tg_info
  abi: [
    {
      name: 'IDLETIMER',
      revision: 1,
      size: 48,
      userSize: 40,
      decode(view) {
        if (view.getUint8(32) !== 0) throw new AbiError(AbiErrno.EOPNOTSUPP, 'a timer sends no messages');
        const kind = view.getUint8(33);
        if (kind > ALARM) refuse(`there is no timer of kind ${kind}`);
        return { ...readTimer(view), alarm: kind === ALARM };
      },
      encode(state, view) {
        writeTimer(state, view);
        view.setUint8(33, state.alarm ? ALARM : 0);
      },
    },
    {
      name: 'IDLETIMER',
      revision: 0,
      size: 40,
      userSize: 32,
      decode: (view) => ({ ...readTimer(view), alarm: false }),
      encode: writeTimer,
    },
  ],
});
