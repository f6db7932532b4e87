/**
 * Rulesets made to blow tables up: classes that multiply, vectors that have nothing in common, tries that are deep. Each says
 * how many bytes a rule its tables may take; what they take, and how long it takes, is in docs/performance/scale.md.
 */
export interface Adversary {
  readonly name: string;
  readonly family: 'ipv4' | 'ipv6';
  /** Bytes a rule. */
  readonly most: number;
  /** What comes behind `-A INPUT`. */
  readonly rules: () => string[];
}

export const ADVERSARIES: readonly Adversary[] = [
  {
    family: 'ipv4',
    name: 'single ports, all 65,535',
    most: 210,
    rules: () =>
      Array.from(
        { length: 65_535 },
        (_, port) => `-p tcp -m tcp --dport ${port + 1} -j ${port % 2 ? 'DROP' : 'ACCEPT'}`,
      ),
  },
  {
    family: 'ipv4',
    name: 'pairs of ports, all different',
    most: 2500,
    rules: () =>
      Array.from(
        { length: 4000 },
        (_, at) => `-p udp -m udp --sport ${at}:${at + 9000} --dport ${60000 - at * 3}:${65000 - at} -j DROP`,
      ),
  },
  {
    family: 'ipv4',
    name: 'a cross product of sources and destinations',
    most: 400,
    rules: () =>
      Array.from({ length: 4096 }, (_, at) => `-s 10.${at & 63}.0.0/16 -d 10.${at >> 6}.0.0/16 -j DROP`),
  },
  {
    family: 'ipv4',
    name: 'every prefix length, nested',
    most: 600,
    rules: () =>
      Array.from(
        { length: 3300 },
        (_, at) => `-s 10.${(at * 7) & 255}.${(at * 13) & 255}.${(at * 29) & 255}/${at % 33}`,
      ),
  },
  {
    family: 'ipv4',
    name: 'wildcards of every other field',
    most: 2500,
    rules: () =>
      Array.from(
        { length: 3000 },
        (_, at) =>
          [
            `-p tcp -m tcp --sport ${at}:65535`,
            `-m ttl --ttl-lt ${1 + (at % 255)}`,
            `-p udp -m udp --dport 0:${at}`,
            `-m length --length ${at}:65535`,
          ][at % 4]!,
      ),
  },
  {
    family: 'ipv6',
    name: 'every prefix length of IPv6, nested and beside each other',
    most: 900,
    rules: () =>
      Array.from({ length: 3870 }, (_, at) => {
        const [high, low] = [at % 129 < 64 ? 0xfd00 + ((at * 7) & 255) : 0xfd00, (at * 40_503) & 0xffff];
        return `-s ${high.toString(16)}:${(at & 3).toString(16)}::${low.toString(16)}/${at % 129} -j DROP`;
      }),
  },
];

/** iptables-save text of it. */
export function adversaryText({ rules }: Adversary): string {
  const head = ['*filter', ':INPUT ACCEPT [0:0]', ':FORWARD ACCEPT [0:0]', ':OUTPUT ACCEPT [0:0]'];
  return [...head, ...rules().map((rule) => `-A INPUT ${rule}`), 'COMMIT', ''].join('\n');
}
