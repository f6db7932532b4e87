import { type LogEvent, LogReader, livePolicies, logLine, PolicyError } from '../../host/index.ts';
import type { Command } from '../command.ts';
import { ExitCode } from '../exit.ts';
import { POLICY_OPTION } from '../policies.ts';

const POLL_MS = 500;
const NS_PER_US = 1000n;
const US_PER_S = 1_000_000n;

/** "[  123.456789] " as dmesg shows it. */
function clockText(timeNs: bigint): string {
  const us = timeNs / NS_PER_US;
  return `[${String(us / US_PER_S).padStart(5)}.${String(us % US_PER_S).padStart(6, '0')}] `;
}

function eventJson(event: LogEvent): Readonly<Record<string, unknown>> {
  const { policy, cookie, timeNs, point, mark, length, inDevice, outDevice, link, owner, packet } = event;
  return {
    policy,
    netnsCookie: String(cookie),
    timeNs: String(timeNs),
    ...(point === undefined ? {} : { prefix: point.prefix, level: point.level, rule: point.rule }),
    inDevice,
    outDevice,
    link: { deviceType: link.deviceType, header: Buffer.from(link.bytes).toString('hex') },
    ...(owner === undefined ? {} : { owner }),
    mark,
    length,
    packet: Buffer.from(packet).toString('hex'),
    line: logLine(event),
  };
}

export const watch: Command = {
  name: 'watch',
  summary: 'print what LOG rules report, in the form of the kernel log, as it happens',
  description: 'One reader at a time: each record is handed out once. With --json one object a line.',
  arguments: [],
  options: [POLICY_OPTION, { long: 'count', value: 'N', summary: 'end after this many records' }],
  async run(invocation, environment) {
    const wanted = invocation.number('count', { min: 1, max: Number.MAX_SAFE_INTEGER }) ?? Infinity;
    const policy = invocation.text('policy');
    const names = [...new Set(livePolicies({ policy }).map((live) => live.policy))];
    const reader = new LogReader(names);
    try {
      if (reader.sources === 0) {
        const what =
          policy === undefined ? 'no live policy has a LOG rule' : `no live policy ${policy} has a LOG rule`;
        throw new PolicyError('HOST_POLICY_NONE', what, 'see: sluice status, sluice list');
      }
      const events: LogEvent[] = [];
      for (let printed = 0; printed < wanted; ) {
        await reader.read((event) => events.push(event), POLL_MS);
        for (const event of events.splice(0).slice(0, wanted - printed)) {
          printed++;
          await environment.stdout.write(
            invocation.flag('json')
              ? `${JSON.stringify({ log: { version: 1, ...eventJson(event) } })}\n`
              : `${clockText(event.timeNs)}${logLine(event)}\n`,
          );
        }
      }
      return ExitCode.OK;
    } finally {
      reader.close();
    }
  },
};
