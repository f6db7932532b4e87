/** Live rules in the columns of `iptables -L -n`; where there are several tables, each under its name. */
import { type Counters, type ListingOptions, listTable, printRule, type Ruleset } from '../../rules/index.ts';

export function listingText(rulesets: readonly Ruleset[], options: ListingOptions): string {
  const tables = rulesets.flatMap(({ family, tables }) => tables.map((table) => ({ family, table })));
  return tables
    .map(({ family, table }) => {
      const title = tables.length === 1 ? '' : `# ${family} ${table.name}\n`;
      return title + listTable(table, family, options);
    })
    .join('\n');
}

/** `[{"family","table","chains":[{"name","policy"?,"packets","bytes","rules":[{"text","packets","bytes"}]}]}]`; counts are strings. */
export function listingJson(rulesets: readonly Ruleset[]): readonly object[] {
  const counts = ({ packets, bytes }: Counters): object => ({
    packets: String(packets),
    bytes: String(bytes),
  });
  return rulesets.flatMap(({ family, tables }) =>
    tables.map((table) => ({
      family,
      table: table.name,
      chains: table.chains.map(({ name, policy, counters, rules }) => ({
        name,
        ...(policy === undefined ? {} : { policy, ...counts(counters) }),
        rules: rules.map((rule) => ({ text: printRule(rule, name, family), ...counts(rule.counters) })),
      })),
    })),
  );
}
