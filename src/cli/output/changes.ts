import type { Change } from '../../host/index.ts';

const SIGNS = {
  added: '+',
  removed: '-',
  moved: '~',
  policy: '!',
  'chain-added': '+',
  'chain-removed': '-',
} as const;

/** One line a change: sign, place, rule. */
export function changeLines(changes: readonly Change[]): string {
  return changes
    .map(({ kind, family, table, chain, before, after, text }) => {
      const places = kind === 'moved' ? ` ${before} -> ${after}` : ` ${after ?? before ?? ''}`;
      const what =
        kind === 'policy' ? `policy ${text}` : kind.startsWith('chain') ? `chain ${chain} ${text}` : text;
      return `${SIGNS[kind]} ${family} ${table} ${chain}${places.trimEnd()}: ${what}\n`;
    })
    .join('');
}
