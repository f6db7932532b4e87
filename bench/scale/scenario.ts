/** What is measured: rules in the forms that each rival takes, and flows that hit them. */
import { existsSync, readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import type { Flow } from './generator.ts';

export interface Scenario {
  /** What `--only` names. */
  readonly family: string;
  readonly name: string;
  readonly rules: number;
  readonly place: Place;
  /** iptables-save text. */
  readonly save: string;
  readonly flows: readonly Flow[];
  /** Rule by rule for nft, and as one would write it there by hand: with a set. Absent where it cannot be said so. */
  readonly nftLinear?: string;
  readonly nftSet?: string;
  /** The rules ask for connection states: conntrack is on for all that are compared, the namespace without rules too. */
  readonly conntrack?: boolean;
  /** Devices that the rules name: packets come in at the first and are sent by the second. */
  readonly devices?: readonly [incoming: string, outgoing: string];
}

/** Where the rules hang: table and netfilter hook. */
export interface Place {
  readonly table: 'filter' | 'mangle';
  readonly hook: 0 | 1 | 2;
}

export const INPUT: Place = { table: 'filter', hook: 1 };

/** Flows of a scenario: a power of two. */
export const FLOW_COUNT = 4096;

/** A unicast address that a host may send from and be sent to. */
export function isUsable(address: number): boolean {
  const first = address >>> 24;
  return first !== 0 && first !== 127 && first < 224;
}

export function addressText(address: number): string {
  return [address >>> 24, (address >>> 16) & 255, (address >>> 8) & 255, address & 255].join('.');
}

/** Reads a file of the shared data, packed or not; `undefined` where it is not there. */
export function readShared(path: string): string | undefined {
  const plain = new URL(`../../../shared/data/${path}`, import.meta.url);
  if (existsSync(plain)) return readFileSync(plain, 'utf8');
  const packed = new URL(`${plain.href}.gz`);
  return existsSync(packed) ? gunzipSync(readFileSync(packed)).toString() : undefined;
}

/** iptables-save text of rules of INPUT; the policies accept. */
export function inputRules(rules: readonly string[]): string {
  const head = ['*filter', ':INPUT ACCEPT [0:0]', ':FORWARD ACCEPT [0:0]', ':OUTPUT ACCEPT [0:0]'];
  return [...head, ...rules.map((rule) => `-A INPUT ${rule}`), 'COMMIT', ''].join('\n');
}

const NFT_CHAIN = 'type filter hook input priority 0;';

export function nftRules(rules: readonly string[]): string {
  return `table ip bench {\n  chain input {\n    ${NFT_CHAIN}\n${rules.join('\n')}\n  }\n}\n`;
}

/** `match` names the set as `@listed`. */
export function nftSetRules(
  type: string,
  elements: readonly string[],
  match: string,
  chain = NFT_CHAIN,
): string {
  const set = `  set listed {\n    type ${type}\n    elements = { ${elements.join(',\n')} }\n  }\n`;
  return `table ip bench {\n${set}  chain input {\n    ${chain}\n    ${match}\n  }\n}\n`;
}
