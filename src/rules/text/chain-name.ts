/** Names of user chains: assert_valid_chain_name (iptables/xshared.c) and XT_EXTENSION_MAXNAMELEN. */
import type { Family } from '../../net/index.ts';
import { findTarget } from '../registry.ts';
import type { Place, Reporter } from '../report.ts';
import { byteLength } from './utf8.ts';

/** Longest name of a chain in bytes. */
export const MAXIMUM_CHAIN_NAME = 28;
/** Names that libiptc keeps for verdicts. */
export const VERDICT_NAMES: readonly string[] = ['ACCEPT', 'DROP', 'QUEUE', 'RETURN'];

/** True when the name is fine for -N or -E; reports why it is not otherwise. */
export function checkChainName(name: string, place: Place, reporter: Reporter, family: Family): boolean {
  const fault = chainNameFault(name, family);
  if (fault === undefined) return true;
  reporter.error('CHAIN_NAME', fault, place);
  return false;
}

function chainNameFault(name: string, family: Family): string | undefined {
  if (byteLength(name) > MAXIMUM_CHAIN_NAME)
    return `chain name "${name}" is longer than ${MAXIMUM_CHAIN_NAME} bytes`;
  if (name.startsWith('-') || name.startsWith('!')) return `a chain name may not begin with "${name[0]}"`;
  if (VERDICT_NAMES.includes(name) || findTarget(name, family) !== undefined)
    return `chain name "${name}" is the name of a target`;
  if (/\s/.test(name)) return `chain name "${name}" has a blank in it`;
  return undefined;
}
