/** iptables' own extension tests: `rule;saved form or "=";OK|FAIL`, a line for each chain and family that it is for. */
import type { Family } from '../../src/net/index.ts';
import { readSharedText, sharedDataFiles } from './shared-data.ts';

export interface ExtensionCase {
  readonly file: string;
  readonly line: number;
  readonly family: Family;
  readonly table: string;
  readonly chain: string;
  readonly rule: string;
  /** Canonical form, or `undefined` where the rule has to be refused. */
  readonly saved: string | undefined;
}

function* casesOf(file: string): Iterable<ExtensionCase> {
  const families: readonly Family[] = file.startsWith('libipt_')
    ? ['ipv4']
    : file.startsWith('libip6t_')
      ? ['ipv6']
      : ['ipv4', 'ipv6'];
  let chains: readonly string[] = [];
  let table = 'filter';
  for (const [index, text] of readSharedText('iptables-ext-tests', file).split('\n').entries()) {
    if (text === '' || text.startsWith('#') || text.startsWith('@')) continue;
    if (text.startsWith(':')) {
      chains = text.slice(1).split(',');
      continue;
    }
    if (text.startsWith('*')) {
      table = text.slice(1);
      continue;
    }
    const [rule, saved, outcome, backend] = text.split(';');
    if (rule === undefined || outcome === undefined || backend === 'NFT') continue;
    for (const family of families) {
      // Tests for both families are written with IPv4 addresses.
      if (family === 'ipv6' && families.length === 2 && /[0-9]+(\.[0-9]+){3}/.test(rule)) continue;
      for (const chain of chains)
        yield {
          file,
          line: index + 1,
          family,
          table,
          chain,
          rule,
          saved: outcome === 'OK' ? (saved === '=' ? rule : saved) : undefined,
        };
    }
  }
}

/** Refused for what the machine lacks, an nfacct object and sets, and not for their text. */
export const ENVIRONMENT: RegExp = /--nfacct-name wrong|--(match|add)-set foo src,dst/;

/** Files for arptables and ebtables. */
const FOREIGN_FILES = /^lib(arpt|ebt)_/;

/** All cases for iptables and ip6tables. */
export function extensionCases(): ExtensionCase[] {
  return sharedDataFiles('iptables-ext-tests')
    .filter((file) => !FOREIGN_FILES.test(file))
    .flatMap((file) => [...casesOf(file)]);
}
