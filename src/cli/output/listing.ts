/** Live rules in the columns of `iptables -L -n`; where there are several tables, each under its name. */
import { type ListingOptions, listTable, type Ruleset } from '../../rules/index.ts';

export function listingText(rulesets: readonly Ruleset[], options: ListingOptions): string {
  const tables = rulesets.flatMap(({ family, tables }) => tables.map((table) => ({ family, table })));
  return tables
    .map(({ family, table }) => {
      const title = tables.length === 1 ? '' : `# ${family} ${table.name}\n`;
      return title + listTable(table, family, options);
    })
    .join('\n');
}
