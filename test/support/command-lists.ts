/** Scripts that generators of rules have written, from the shared data, as shell scripts that call the legacy programs. */
import type { Family } from '../../src/net/index.ts';
import { readSharedText, sharedDataFiles } from './shared-data.ts';

export interface CommandList {
  readonly name: string;
  readonly families: readonly Family[];
  /** Every call with its exit code. */
  readonly script: string;
}

const PROGRAMS: Readonly<Record<Family, string>> = { ipv4: 'iptables-legacy', ipv6: 'ip6tables-legacy' };

/** Calls of iptables and ip6tables, one a line. */
function fermLists(): CommandList[] {
  const files = sharedDataFiles('command-lists', 'ferm').filter((file) => file.endsWith('.result'));
  return files.map((file) => {
    const lines = readSharedText('command-lists', 'ferm', file).split('\n');
    const calls = lines.filter((line) => /^ip6?tables /.test(line));
    return {
      name: `ferm/${file}`,
      families: calls.some((line) => line.startsWith('ip6')) ? ['ipv4', 'ipv6'] : ['ipv4'],
      script: calls.map((line) => `${line.replace(/^(ip6?tables)/, '$1-legacy')}; echo $?`).join('\n'),
    };
  });
}

/** Calls that save, and texts to restore without flushing: from the first table on that comes again they are of IPv6. */
function istioList(file: string): CommandList {
  const calls: string[] = [];
  const tables = new Set<string>();
  let family: Family = 'ipv4';
  const texts = readSharedText('command-lists', 'istio', file).match(
    /^ip6?tables-save$|^\* \w+\n[\s\S]*?^COMMIT$/gm,
  );
  for (const text of texts ?? []) {
    const table = /^\* (\w+)/.exec(text)?.[1];
    if (table === undefined) {
      calls.push(`${text.replace('-', '-legacy-')}; echo $?`);
      continue;
    }
    if (tables.has(table)) {
      family = 'ipv6';
      tables.clear();
    }
    tables.add(table);
    calls.push(`${PROGRAMS[family]}-restore --noflush <<'END'\n${text}\nEND\necho $?`);
  }
  return { name: `istio/${file}`, families: ['ipv4', 'ipv6'], script: calls.join('\n') };
}

/** All scripts, and the files that are none, each with the reason. */
export function commandLists(): {
  readonly lists: readonly CommandList[];
  readonly others: readonly (readonly [name: string, reason: string])[];
} {
  const istio = sharedDataFiles('command-lists', 'istio');
  const invented = istio.filter((file) => file.includes('__builder__'));
  const lists = [...fermLists(), ...istio.filter((file) => !invented.includes(file)).map(istioList)];
  return {
    lists: lists.filter(({ script }) => script !== ''),
    others: [
      ...invented.map((file) => [`istio/${file}`, 'invented table and options'] as const),
      ...lists.filter(({ script }) => script === '').map(({ name }) => [name, 'calls no iptables'] as const),
    ],
  };
}
