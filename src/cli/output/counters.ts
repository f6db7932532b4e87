import type { CounterReport } from '../../host/index.ts';
import { printRuleset } from '../../rules/index.ts';

/** The rules with their counters, as `iptables-save -c` prints them. */
export function countersText(reports: readonly CounterReport[]): string {
  return reports.map(({ ruleset }) => printRuleset(ruleset, { counters: true })).join('');
}

/** `{"counters":{family:{table:{chain:{"policy":[packets,bytes],"rules":[[packets,bytes],…]}}}}}`; numbers that JSON cannot hold are strings. */
export function countersJson(
  reports: readonly CounterReport[],
  packets: { readonly ACCEPT: number; readonly DROP: number; readonly HELD: number },
): Readonly<Record<string, unknown>> {
  const pair = ({ packets, bytes }: { packets: bigint; bytes: bigint }): unknown[] => [
    number(packets),
    number(bytes),
  ];
  const counters = Object.fromEntries(
    reports.map(({ family, ruleset }) => [
      family,
      Object.fromEntries(
        ruleset.tables.map((table) => [
          table.name,
          Object.fromEntries(
            table.chains.map((chain) => [
              chain.name,
              {
                ...(chain.policy === undefined ? {} : { policy: pair(chain.counters) }),
                rules: chain.rules.map((rule) => pair(rule.counters)),
              },
            ]),
          ),
        ]),
      ),
    ]),
  );
  const { ACCEPT: accepted, DROP: dropped, HELD: held } = packets;
  return { counters, version: 1, packets: { accepted, dropped, held } };
}

function number(value: bigint): number | string {
  return value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : String(value);
}
