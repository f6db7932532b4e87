/** The reference pages that are written by hand name what the code knows, all of it and nothing else. */
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { DEVICE_SYSCTLS, KNOWN_SYSCTLS } from '../src/host/netstack/settings.ts';

const page = (name: string): string =>
  readFileSync(new URL(`../docs/reference/${name}.md`, import.meta.url), 'utf8');

/** What the first column of a page's tables has in code quotes, one table after the other by its heading cell. */
function firstCells(text: string, heading: string): string[] {
  const lines = text.split('\n');
  const start = lines.indexOf(lines.find((line) => line.startsWith(`| ${heading} |`)) ?? '');
  const rows = lines.slice(start + 2);
  const end = rows.findIndex((line) => !line.startsWith('|'));
  return rows.slice(0, end < 0 ? rows.length : end).flatMap((row) => {
    const cell = row.split('|')[1]!;
    return [...cell.matchAll(/`([^`]+)`/g)].map(([, word]) => word!);
  });
}

/** The texts of a union type in a source file. */
function unionOf(file: string, name: string): string[] {
  const source = readFileSync(new URL(`../src/${file}`, import.meta.url), 'utf8');
  const [, body] = new RegExp(`export type ${name} =([^]*?);\n\n`).exec(source) ?? [];
  return [...(body ?? '').matchAll(/'([a-z-]+)'/g)].map(([, word]) => word!);
}

describe('docs/reference', () => {
  test('host.md has every sysctl that a host may be given', () => {
    const ofDevices = DEVICE_SYSCTLS.map((name) => `net.ipv4.conf.DEVICE.${name}`);
    expect(firstCells(page('host'), 'name').sort()).toEqual([...KNOWN_SYSCTLS, ...ofDevices].sort());
  });

  test('reassemble.md has every reason why fragments are dropped', () => {
    const reasons = [
      ...unionOf('netstack/defrag/trace.ts', 'DiscardReason'),
      ...['input', 'martian', 'not-joined', 'incomplete'],
    ];
    expect(firstCells(page('reassemble'), 'reason').sort()).toEqual(reasons.sort());
  });
});
