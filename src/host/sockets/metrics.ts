/** Counters of labels, and their Prometheus text form (exposition format 0.0.4). */
import type { BpfMap } from '../../kernel/index.ts';
import { METRIC_BYTES, Metric } from '../../sklookup/index.ts';
import type { SteeringStatus } from './steering.ts';

export interface LabelMetrics {
  /** What a binding of the label took: assigned, missed or failed. */
  readonly lookups: number;
  readonly assigned: number;
  readonly misses: number;
  /** Of those assigned, by a kept flow. */
  readonly keptFlows: number;
  readonly errors: Readonly<Record<ErrorReason, number>>;
}

export const ERROR_REASONS = ['wrongProtocol', 'wrongFamily', 'wrongState', 'taken', 'otherError'] as const;
export type ErrorReason = (typeof ERROR_REASONS)[number];

/** As labels of metrics spell them. */
const REASON_NAMES: Readonly<Record<ErrorReason, string>> = {
  wrongProtocol: 'wrong-protocol',
  wrongFamily: 'wrong-family',
  wrongState: 'wrong-state',
  taken: 'taken',
  otherError: 'other',
};

/** Sums the CPUs' counters of one destination (its index + 1), or with 0 of what no binding took. */
export function readMetrics(map: BpfMap, index: number): LabelMetrics {
  const bytes = map.lookup(index) ?? new Uint8Array(METRIC_BYTES);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const sum = (offset: number): number => {
    let total = 0n;
    for (let at = offset; at < bytes.length; at += METRIC_BYTES) total += view.getBigUint64(at, true);
    return Number(total);
  };
  const errors = Object.fromEntries(ERROR_REASONS.map((reason) => [reason, sum(Metric[reason])]));
  const [assigned, misses] = [sum(Metric.assigned), sum(Metric.misses)];
  return {
    lookups: Object.values(errors).reduce((total, each) => total + each, assigned + misses),
    assigned,
    misses,
    keptFlows: sum(Metric.keptFlows),
    errors: errors as Record<ErrorReason, number>,
  };
}

/** The status as metrics. Labels are words that need no escaping. */
export function prometheusText(status: SteeringStatus): string {
  const families: string[] = [];
  const family = (
    name: string,
    type: 'counter' | 'gauge',
    help: string,
    samples: readonly (readonly [labels: string, value: number])[],
  ): void => {
    const lines = samples.map(([labels, value]) => `${name}${labels === '' ? '' : `{${labels}}`} ${value}`);
    families.push(
      `# HELP ${name} ${help}\n# TYPE ${name} ${type}\n${lines.map((line) => `${line}\n`).join('')}`,
    );
  };
  const { destinations } = status;
  const each = (value: (destination: (typeof destinations)[number]) => number): [string, number][] =>
    destinations.map((destination) => [labelsOf(destination), value(destination)]);
  family(
    'sluice_socket_lookups_total',
    'counter',
    'Look-ups that a binding of the label took.',
    each(({ metrics }) => metrics.lookups),
  );
  family(
    'sluice_socket_assigned_total',
    'counter',
    'Look-ups that got a socket of the label.',
    each(({ metrics }) => metrics.assigned),
  );
  family(
    'sluice_socket_misses_total',
    'counter',
    'Look-ups that found the label without a live socket.',
    each(({ metrics }) => metrics.misses),
  );
  family(
    'sluice_socket_kept_flows_total',
    'counter',
    'Datagrams that followed the flow they belong to.',
    each(({ metrics }) => metrics.keptFlows),
  );
  family(
    'sluice_socket_errors_total',
    'counter',
    'Look-ups whose socket could not be taken, by reason.',
    destinations.flatMap((destination) =>
      ERROR_REASONS.map((reason): [string, number] => [
        `${labelsOf(destination)},reason="${REASON_NAMES[reason]}"`,
        destination.metrics.errors[reason],
      ]),
    ),
  );
  family(
    'sluice_socket_members',
    'gauge',
    'Live sockets of the label.',
    each(({ members }) => members.filter(({ cookie }) => cookie !== undefined).length),
  );
  family('sluice_socket_unbound_total', 'counter', 'Look-ups that no binding took.', [['', status.unbound]]);
  family('sluice_socket_bindings', 'gauge', 'Bindings in force.', [['', status.bindings]]);
  family('sluice_socket_generation', 'gauge', 'Number of the set of bindings in force.', [
    ['', status.generation],
  ]);
  return families.join('');
}

function labelsOf({ label, protocol, family }: { label: string; protocol: string; family: string }): string {
  return `label="${label}",protocol="${protocol}",family="${family}"`;
}
