/** The measurements as a Markdown table and as a chart (SVG, both axes logarithmic). */
import { existsSync } from 'node:fs';
import type { Details } from './subjects.ts';

export interface Measured extends Details {
  readonly family: string;
  readonly scenario: string;
  readonly rules: number;
  readonly subject: string;
  /** Whole cost of a packet, and what the rules add to it. */
  readonly packetNs: number;
  readonly addedNs: number;
  /** 99th percentile of the flows' means, less the mean without rules. */
  readonly flowP99Ns?: number;
}

const WIDTH = 760;
const HEIGHT = 460;
const LEFT = 70;
const RIGHT = 190;
const TOP = 46;
const BOTTOM = 50;
const LEGEND_LINE = 16;
const COLOURS: Readonly<Record<string, string>> = {
  sluice: '#0b6',
  'sluice inline': '#6a3',
  'iptables-legacy': '#c33',
  'nft linear': '#d80',
  'nft set': '#36c',
};
/** Families that are drawn: all rivals can take address lists. */
const DRAWN: readonly { readonly family: string; readonly name: string; readonly dash: string }[] = [
  { family: 'addresses', name: 'address lists', dash: '' },
  { family: 'classbench', name: 'ClassBench acl1', dash: '6 4' },
];
const FROM_NS = 10;
const TO_NS = 10_000_000;
const TO_RULES = 100_000;
const MIB = 2 ** 20;

/** One scenario's numbers for one subject, in the columns' order. */
const COLUMNS: readonly (readonly [name: string, of: (one: Measured) => number | undefined])[] = [
  ['added ns', ({ addedNs }) => addedNs],
  ['p99 of flows', ({ flowP99Ns }) => flowP99Ns],
  ['set up ms', ({ setUpMs }) => setUpMs],
  ['parse', ({ parseMs }) => parseMs],
  ['compile', ({ compileMs }) => compileMs],
  ['verify', ({ verifyMs }) => verifyMs],
  ['write', ({ writeMs }) => writeMs],
  ['bytes a rule', ({ bytesPerRule }) => bytesPerRule],
  ['peak MiB', ({ peakBytes }) => (peakBytes === undefined ? undefined : peakBytes / MIB)],
];

export function table(measured: readonly Measured[]): string {
  const rows = measured
    .filter(({ subject }) => subject !== 'bare')
    .map((one) =>
      [one.scenario, one.rules, one.subject, ...COLUMNS.map(([, of]) => of(one)?.toFixed(0) ?? '')].join(
        ' | ',
      ),
    );
  const updates = new URL('../../docs/performance/updates.md', import.meta.url);
  return [
    '# A packet’s cost by number of rules',
    '',
    '4,096 flows that hit random rules take turns; nanoseconds added to a packet against the same namespace without rules, at',
    'the netfilter hook of the rules (INPUT but for the real ones). The 10th percentile of interleaved rounds; "p99 of flows" is the',
    '99th percentile of the flows’ own means, each over a hundred packets and more. Made by `npm run bench scale`, which needs root;',
    '`npm run bench scale -- --only classbench` measures one family again and leaves the others as they are. The numbers are of one',
    'machine (`scale.json`).',
    '',
    'Parse and compile are those of a process that starts for it. Verify is the kernel’s verification of program and dispatcher: once',
    'for all rules, and not again when rules change; write is putting the tables into the arena. Bytes a rule: tables, and',
    'counters of every CPU. Peak: what the compiling process had at most above what it began with. `nft set` is what one would write by',
    `hand: one rule, one counter.${existsSync(updates) ? ' What changes of live rules cost is in [updates.md](updates.md).' : ''}`,
    '',
    '![chart](scale.svg)',
    '',
    `rules from | rules | who | ${COLUMNS.map(([name]) => name).join(' | ')}`,
    `---|--:|---${'|--:'.repeat(COLUMNS.length)}`,
    ...rows,
    '',
    'What they show, against the targets, is in [classifier.md](../classifier.md).',
    '',
  ].join('\n');
}

export function chart(measured: readonly Measured[]): string {
  const x = (rules: number): number =>
    LEFT + (Math.log10(rules) / Math.log10(TO_RULES)) * (WIDTH - LEFT - RIGHT);
  const y = (ns: number): number => {
    const share = Math.log10(Math.max(FROM_NS, ns) / FROM_NS) / Math.log10(TO_NS / FROM_NS);
    return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM);
  };
  const title = 'ns added to a packet, by number of rules';
  const parts = [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" font-family="sans-serif" font-size="12"><title>${title}</title>`,
    `<rect width="${WIDTH}" height="${HEIGHT}" fill="#fff"/>`,
    `<text x="${LEFT}" y="18">${title} (netfilter INPUT)</text>`,
    `<text x="${LEFT}" y="34" fill="#666">${DRAWN.map(({ name, dash }) => `${name}: ${dash === '' ? 'solid' : 'dashed'}`).join(', ')}</text>`,
  ];
  for (let ns = FROM_NS; ns <= TO_NS; ns *= 10) {
    parts.push(`<line x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${y(ns)}" y2="${y(ns)}" stroke="#ddd"/>`);
    parts.push(`<text x="${LEFT - 8}" y="${y(ns) + 4}" text-anchor="end">${ns.toLocaleString('en')}</text>`);
  }
  for (let rules = 1; rules <= TO_RULES; rules *= 10) {
    parts.push(
      `<text x="${x(rules)}" y="${HEIGHT - BOTTOM + 20}" text-anchor="middle">${rules.toLocaleString('en')}</text>`,
    );
  }
  const subjects = Object.entries(COLOURS);
  for (const [index, [subject, colour]] of subjects.entries()) {
    for (const { family, dash } of DRAWN) {
      const points = measured.filter(
        (one) =>
          one.family === family &&
          one.subject === subject &&
          (family === 'addresses' || one.scenario.includes('acl1')),
      );
      const path = points.map((one) => `${x(one.rules).toFixed(1)},${y(one.addedNs).toFixed(1)}`).join(' ');
      const style = `fill="none" stroke="${colour}" stroke-width="2"${dash === '' ? '' : ` stroke-dasharray="${dash}"`}`;
      if (points.length > 1) parts.push(`<polyline points="${path}" ${style}/>`);
    }
    const at = TOP + 12 + index * LEGEND_LINE;
    parts.push(`<text x="${WIDTH - RIGHT + 16}" y="${at}" fill="${colour}">${subject}</text>`);
  }
  return `${[...parts, '</svg>'].join('\n')}\n`;
}
