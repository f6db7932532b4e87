/** Matches that remember, look deep, or ask the host: as text with aims, for rulesets of their own. */
import fc from 'fast-check';
import type { Family } from '../../../src/net/index.ts';
import type { Aim, Piece } from './aim.ts';
import { negation } from './base-pieces.ts';
import { TCP } from './protocol-pieces.ts';

function fixed(text: fc.Arbitrary<string>): fc.Arbitrary<Piece> {
  return text.map((words) => ({ text: words, aims: [] }));
}

function words(...parts: fc.Arbitrary<string>[]): fc.Arbitrary<string> {
  return fc.tuple(...parts).map((all) => all.filter((word) => word !== '').join(' '));
}

const optional = (text: string): fc.Arbitrary<string> => fc.constantFrom('', text);

/** No time limit that a test could run into. */
export function recentPiece(family: Family, lists: readonly string[]): fc.Arbitrary<Piece> {
  const masks =
    family === 'ipv4' ? ['', '--mask 255.255.255.0', '--mask 255.0.0.0'] : ['', '--mask ffff:ffff::'];
  const check = words(
    fc.constantFrom('--rcheck', '--update', '! --rcheck', '! --update'),
    optional('--seconds 500'),
    fc.constantFrom('', '--hitcount 1', '--hitcount 2', '--hitcount 4', '--hitcount 40'),
    optional('--rttl'),
  );
  const action = fc.oneof(check, fc.constantFrom('--set', '! --set', '--remove', '! --remove'));
  return fixed(
    words(
      fc.constant('-m recent'),
      action,
      fc.constantFrom(...lists).map((name) => `--name ${name}`),
      fc.constantFrom('--rsource', '--rdest'),
      fc.constantFrom(...masks),
    ),
  );
}

/** Rates so low that nothing comes back while a test runs; in bytes only bursts that one packet does not settle. */
export function hashlimitPiece(family: Family): fc.Arbitrary<Piece> {
  const bits = family === 'ipv4' ? fc.integer({ min: 0, max: 32 }) : fc.integer({ min: 0, max: 128 });
  const mode = fc
    .subarray(['srcip', 'dstip', 'srcport', 'dstport'], { minLength: 0 })
    .map((keys) => (keys.length === 0 ? '' : `--hashlimit-mode ${keys.join(',')}`));
  return fixed(
    words(
      fc.constantFrom('-m hashlimit --hashlimit-upto', '-m hashlimit --hashlimit-above'),
      fc.constantFrom('1/hour', '2/hour', '3/hour'),
      fc.integer({ min: 1, max: 6 }).map((burst) => `--hashlimit-burst ${burst}`),
      mode,
      fc.stringMatching(/^[a-z]{12}$/).map((name) => `--hashlimit-name ${name}`),
      fc.option(bits).map((length) => (length === null ? '' : `--hashlimit-srcmask ${length}`)),
      fc.option(bits).map((length) => (length === null ? '' : `--hashlimit-dstmask ${length}`)),
    ),
  );
}

export const quotaPiece: fc.Arbitrary<Piece> = fixed(
  words(
    fc.constant('-m quota'),
    fc.tuple(negation, fc.nat(900)).map(([not, bytes]) => `${not}--quota ${bytes}`),
  ),
);

const u32Number = fc.oneof(fc.nat(80), fc.nat(0xffff));
const u32Test = fc
  .tuple(
    fc.nat(44),
    fc.array(fc.tuple(fc.constantFrom('&', '>>', '<<', '@'), fc.nat(31)), { maxLength: 3 }),
    fc.array(fc.tuple(u32Number, u32Number), { minLength: 1, maxLength: 3 }),
  )
  .map(([start, steps, values]) => {
    const ranges = values.map(([a, b]) => `${Math.min(a, b)}:${Math.max(a, b) * 0x100}`);
    return `${start}${steps.map((step) => step.join('')).join('')}=${ranges.join(',')}`;
  });

export const u32Piece: fc.Arbitrary<Piece> = fc
  .tuple(negation, fc.array(u32Test, { minLength: 1, maxLength: 3 }))
  .map(([not, tests]) => ({ text: `-m u32 ${not}--u32 "${tests.join('&&')}"`, aims: [] }));

/** Payloads count from 0 up. */
export const stringPiece: fc.Arbitrary<Piece> = fixed(
  words(
    fc.constant('-m string'),
    fc
      .tuple(negation, fc.nat(30), fc.integer({ min: 1, max: 5 }), fc.boolean())
      .map(([not, from, length, broken]) => {
        const bytes = Array.from({ length }, (_, at) => from + at + (broken && at === length - 1 ? 1 : 0));
        return `${not}--hex-string "|${bytes.map((byte) => byte.toString(16).padStart(2, '0')).join('')}|"`;
      }),
    fc.constantFrom('--algo bm', '--algo kmp'),
    fc.option(fc.nat(60)).map((from) => (from === null ? '' : `--from ${from}`)),
    fc.option(fc.integer({ min: 61, max: 90 })).map((to) => (to === null ? '' : `--to ${to}`)),
  ),
);

export const ecnPiece: fc.Arbitrary<Piece> = fc
  .tuple(negation, fc.nat(3), negation, fc.constantFrom('', '--ecn-tcp-ece', '--ecn-tcp-cwr'))
  .map(([not, codepoint, not2, flag]) => ({
    text: `-m ecn ${not}--ecn-ip-ect ${codepoint}${flag === '' ? '' : ` ${not2}${flag}`}`,
    aims: [0, 1, 2, 3].flatMap((tos): Aim[] =>
      [0, 0x40, 0x80].map((tcpFlags) => ({ tos, transport: TCP, tcpFlags })),
    ),
  }));

export const tcpmssPiece: fc.Arbitrary<Piece> = fc
  .tuple(negation, fc.integer({ min: 1, max: 3000 }), fc.nat(2000))
  .map(([not, from, more]) => {
    const option = (size: number): number[] => [2, 4, size >> 8, size & 0xff];
    const lists = [from - 1, from, from + more, from + more + 1].flatMap((size) => [
      option(size),
      [1, 1, ...option(size)],
      [3, 3, 7, 1, ...option(size)],
      [0, 0, 0, 0, ...option(size)],
    ]);
    return {
      text: `-m tcpmss ${not}--mss ${from}:${from + more}`,
      aims: [[], [2], [2, 4], [8, 0, 0, 0], ...lists].map(
        (bytes): Aim => ({ transport: TCP, tcpOptions: Uint8Array.from(bytes) }),
      ),
    };
  });

export const rtPiece: fc.Arbitrary<Piece> = fc
  .tuple(
    negation,
    fc.nat(3),
    negation,
    fc.nat(2),
    fc.constantFrom('', '--rt-len 8', '! --rt-len 24', '--rt-len 24'),
  )
  .map(([not, type, not2, left, length]) => ({
    text: `-m rt ${not}--rt-type ${type} ${not2}--rt-segsleft 0:${left} ${length}`.trimEnd(),
    aims: [0, 1, 2].map((size): Aim => ({ extensions: [{ kind: 'routing', words: size }] })),
  }));

export const rpfilterPiece: fc.Arbitrary<Piece> = fixed(
  words(fc.constant('-m rpfilter'), optional('--loose'), optional('--accept-local'), optional('--invert')),
);

export const bridgePiece: fc.Arbitrary<Piece> = fixed(
  words(
    fc.constant('-m physdev'),
    fc.constantFrom('--physdev-is-in', '! --physdev-is-in', '--physdev-in eth0', '! --physdev-in eth0'),
    optional('! --physdev-is-bridged'),
  ),
);

export const policyPiece: fc.Arbitrary<Piece> = fixed(
  words(
    fc.constantFrom('-m policy --dir in', '-m policy --dir out'),
    fc.constantFrom('--pol none', '--pol ipsec'),
  ),
);

/** Conditions on connections beyond their state. */
export const connectionMemoryPiece: fc.Arbitrary<Piece> = (() => {
  const connbytes = words(
    fc.constant('-m connbytes'),
    fc
      .tuple(negation, fc.nat(4), fc.nat(300))
      .map(([not, packets, bytes]) => `${not}--connbytes ${packets}:${packets + bytes}`),
    fc.constantFrom('packets', 'bytes', 'avgpkt').map((mode) => `--connbytes-mode ${mode}`),
    fc.constantFrom('original', 'reply', 'both').map((direction) => `--connbytes-dir ${direction}`),
  );
  const connmark = words(
    fc.constant('-m connmark'),
    fc
      .tuple(negation, fc.nat(3), fc.constantFrom(1, 2, 3, 0xff))
      .map(([not, value, mask]) => `${not}--mark ${value & mask}/${mask}`),
  );
  const cluster = words(
    fc.constant('-m cluster'),
    fc
      .constantFrom(2, 3, 7, 32)
      .chain((nodes) =>
        fc
          .tuple(negation, fc.integer({ min: 1, max: nodes }), fc.nat(0xffff_ffff))
          .map(
            ([not, node, seed]) =>
              `--cluster-total-nodes ${nodes} ${not}--cluster-local-node ${node} --cluster-hash-seed ${seed}`,
          ),
      ),
  );
  return fixed(fc.oneof(connbytes, connmark, cluster));
})();

/** Times of the day and days around now; none of them begins or ends within the minutes that a test may take. */
export function timePiece(nowMs: number): fc.Arbitrary<Piece> {
  const after = (seconds: number): Date => new Date(nowMs + seconds * 1000);
  const far = fc.oneof(fc.integer({ min: 600, max: 85_000 }), fc.integer({ min: -85_000, max: -600 }));
  const daytime = far.map((seconds) => after(seconds).toISOString().slice(11, 19));
  const date = fc.oneof(far, fc.integer({ min: -40_000_000, max: 40_000_000 })).map((seconds) =>
    after(Math.abs(seconds) < 600 ? 600 : seconds)
      .toISOString()
      .slice(0, 19),
  );
  const days = (names: readonly string[]): fc.Arbitrary<string> =>
    fc.subarray([...names], { minLength: 1 }).map((some) => some.join(','));
  const clock = fc.option(fc.tuple(daytime, daytime, fc.boolean())).map((times) => {
    if (times === null) return '';
    const [from, to, contiguous] = times;
    return `--timestart ${from} --timestop ${to}${contiguous && from >= to ? ' --contiguous' : ''}`;
  });
  const calendar = fc
    .tuple(
      fc.option(fc.tuple(negation, days(['Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat', 'Sun']))),
      fc.option(fc.tuple(negation, days(Array.from({ length: 31 }, (_, day) => String(day + 1))))),
    )
    .map(([week, month]) =>
      [
        ...(week === null ? [] : [`${week[0]}--weekdays ${week[1]}`]),
        ...(month === null ? [] : [`${month[0]}--monthdays ${month[1]}`]),
      ].join(' '),
    );
  const dates = fc
    .tuple(fc.option(date), fc.option(date))
    .map(([from, to]) =>
      [...(from === null ? [] : [`--datestart ${from}`]), ...(to === null ? [] : [`--datestop ${to}`])].join(
        ' ',
      ),
    );
  return fixed(words(fc.constant('-m time'), dates, clock, calendar));
}

/** How many connections a host or network has; limits around what a few conversations open. */
export function connlimitPiece(family: Family): fc.Arbitrary<Piece> {
  const bits = family === 'ipv4' ? fc.constantFrom(0, 8, 24, 32) : fc.constantFrom(0, 32, 64, 128);
  return fixed(
    words(
      fc.constant('-m connlimit'),
      fc
        .tuple(negation, fc.constantFrom('upto', 'above'), fc.nat(6))
        .map(([not, relation, most]) => `${not}--connlimit-${relation} ${most}`),
      fc.option(bits).map((length) => (length === null ? '' : `--connlimit-mask ${length}`)),
      fc.constantFrom('', '--connlimit-saddr', '--connlimit-daddr'),
    ),
  );
}
