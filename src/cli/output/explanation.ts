import type { PathExplanation, ReplayPacket } from '../../host/index.ts';
import { type Explanation, printRule } from '../../rules/index.ts';
import { packetLine } from './packet.ts';

/** Each rule of a packet's way with what failed, then one sentence. A word instead of an explanation: no rule is asked. */
export function explanationText(
  packet: ReplayPacket,
  explanation: Explanation | PathExplanation | string,
): string {
  const head = `${packetLine(packet)}\n`;
  if (typeof explanation === 'string') return `${head}  no rule is asked: ${explanation}\n`;
  const lines: string[] = [];
  let place = '';
  for (const step of explanation.steps) {
    if (step.kind === 'note') {
      lines.push(`  · ${step.text}`);
      place = '';
      continue;
    }
    const here = `${step.table} ${step.chain}`;
    if (here !== place) lines.push(`  ${here}`);
    place = here;
    const rule = printRule(step.rule, step.chain, packet.ip?.family ?? 'ipv4').replace(/^-A \S+ ?/, '');
    lines.push(
      `  ${step.matched ? '✓' : '✗'} ${String(step.number).padStart(4)}  ${rule === '' ? '(every packet)' : rule}`,
    );
    if (step.reason !== undefined) lines.push(`          ${step.reason}`);
  }
  return `${head}${lines.join('\n')}\n${explanation.sentence}\n`;
}

/** The same as data: `{"explain":{"version":1,"packet":N,"steps":[…],"verdict":…,"sentence":…}}`. */
export function explanationJson(
  packet: ReplayPacket,
  explanation: Explanation | PathExplanation | string,
): Readonly<Record<string, unknown>> {
  if (typeof explanation === 'string') {
    return {
      explain: { version: 1, packet: packet.number, steps: [], verdict: 'ACCEPT', reason: explanation },
    };
  }
  const steps = explanation.steps.map((step) =>
    step.kind === 'note'
      ? { note: step.text }
      : {
          table: step.table,
          chain: step.chain,
          rule: step.number,
          text: printRule(step.rule, step.chain, packet.ip?.family ?? 'ipv4'),
          matched: step.matched,
          ...(step.reason === undefined ? {} : { reason: step.reason }),
        },
  );
  const { outcome, sentence } = explanation;
  return { explain: { version: 1, packet: packet.number, steps, verdict: outcome.verdict, sentence } };
}
