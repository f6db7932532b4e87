/** The measurements as a Markdown table and as a chart (SVG, both axes logarithmic). */
export interface Measured {
  readonly scenario: string;
  readonly rules: number;
  readonly subject: string;
  /** Whole cost of a packet, and what the rules add to it. */
  readonly packetNs: number;
  readonly addedNs: number;
  readonly setUpMs: number;
  readonly parseMs?: number;
  readonly compileMs?: number;
  readonly loadMs?: number;
  readonly tableBytes?: number;
  readonly bytesPerRule?: number;
  readonly instructions?: number;
}

const WIDTH = 760;
const HEIGHT = 460;
const LEFT = 70;
const RIGHT = 150;
const TOP = 30;
const BOTTOM = 50;
const COLOURS: Readonly<Record<string, string>> = {
  sluice: '#0b6',
  'sluice inline': '#6a3',
  'iptables-legacy': '#c33',
  'nft linear': '#d80',
  'nft set': '#36c',
};
const FROM_NS = 10;
const TO_NS = 10_000_000;
const TO_RULES = 100_000;

export function table(measured: readonly Measured[]): string {
  const number = (value: number | undefined, digits = 0): string =>
    value === undefined ? '' : value.toFixed(digits);
  const rows = measured
    .filter(({ subject }) => subject !== 'bare')
    .map((one) =>
      [
        one.scenario,
        one.rules,
        one.subject,
        number(one.addedNs),
        number(one.setUpMs),
        number(one.parseMs),
        number(one.compileMs),
        number(one.loadMs),
        number(one.bytesPerRule),
      ].join(' | '),
    );
  return [
    '# A packet’s cost by number of rules',
    '',
    'Netfilter hook INPUT, 4,096 flows that hit random rules, nanoseconds added to a packet against the same namespace',
    'without rules. 10th percentile of interleaved rounds. Made by `npm run bench scale`, which needs root; the numbers are',
    'of one machine and one run (`scale.json`). Bytes a rule: tables, and counters of every CPU. Set-up times are wall clock,',
    'once each, and include what else the machine did meanwhile; load is the verification of the program, once for all rules.',
    '',
    '![chart](scale.svg)',
    '',
    'rules from | rules | who | added ns | set up ms | parse ms | compile ms | load ms | bytes a rule',
    '---|--:|---|--:|--:|--:|--:|--:|--:',
    ...rows,
    '',
  ].join('\n');
}

/** Address lists: the shape that all of them can be given. */
export function chart(measured: readonly Measured[]): string {
  const lists = measured.filter(({ scenario }) => scenario.startsWith('addresses'));
  const x = (rules: number): number =>
    LEFT + (Math.log10(rules) / Math.log10(TO_RULES)) * (WIDTH - LEFT - RIGHT);
  const y = (ns: number): number => {
    const share = Math.log10(Math.max(FROM_NS, ns) / FROM_NS) / Math.log10(TO_NS / FROM_NS);
    return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM);
  };
  const parts = [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" font-family="sans-serif" font-size="12"><title>ns added to a packet, by number of rules</title>`,
    `<rect width="${WIDTH}" height="${HEIGHT}" fill="#fff"/>`,
    `<text x="${LEFT}" y="18">ns added to a packet, by number of rules (address lists, netfilter INPUT)</text>`,
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
  for (const [subject, colour] of Object.entries(COLOURS)) {
    const points = lists.filter((one) => one.subject === subject);
    const last = points.at(-1);
    if (last === undefined) continue;
    const path = points.map((one) => `${x(one.rules).toFixed(1)},${y(one.addedNs).toFixed(1)}`).join(' ');
    parts.push(`<polyline points="${path}" fill="none" stroke="${colour}" stroke-width="2"/>`);
    parts.push(
      `<text x="${x(last.rules) + 8}" y="${y(last.addedNs) + 4}" fill="${colour}">${subject}</text>`,
    );
  }
  return `${[...parts, '</svg>'].join('\n')}\n`;
}
