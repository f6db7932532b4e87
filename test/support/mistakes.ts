/**
 * Mistakes seeded into what writes programs: while programs are written, one place of the emitters' code (one call of the
 * assembler) does something else. A jump has the opposite condition, a mask misses a bit, another number is one too
 * large, a program returns something else.
 */
import { Assembler } from '../../src/isa/index.ts';

type Condition = Parameters<Assembler<unknown>['jump']>[0];
const OPPOSITE: Readonly<Record<Condition, Condition>> = {
  '==': '!=',
  '!=': '==',
  '<': '>=',
  '>=': '<',
  '>': '<=',
  '<=': '>',
  's<': 's>=',
  's>=': 's<',
  's>': 's<=',
  's<=': 's>',
  '&': '==',
};

type Call = readonly unknown[];
type Slip = (call: Call) => Call;

const jump: Slip = ([condition, ...rest]) => [OPPOSITE[condition as Condition], ...rest];
const last =
  (change: (value: number) => number): Slip =>
  (call) =>
    call.with(-1, typeof call.at(-1) === 'number' ? change(call.at(-1) as number) : call.at(-1));
const oneMore = last((value) => value + 1);
/** A mask without its lowest bit; one without bits gets one. */
const oneBitLess = last((value) => (value === 0 ? 1 : value & (value - 1)));
/** By method of the assembler. */
const SLIPS: Readonly<Record<string, Slip>> = {
  jump,
  jump32: jump,
  add: oneMore,
  sub: oneMore,
  rsh: oneMore,
  rsh32: oneMore,
  lsh: oneMore,
  mov: oneMore,
  mov32: oneMore,
  xor: oneMore,
  xor32: oneMore,
  or: oneMore,
  and: oneBitLess,
  and32: oneBitLess,
  store: oneMore,
  return: last((value) => value ^ 1),
};

/** A call of the assembler in the emitters' code. */
export interface Site {
  /** "predicates/limit.ts emitBucket jump": unique only together with the place. */
  readonly name: string;
  readonly line: number;
  readonly column: number;
}

function keyOf({ name, line, column }: Site): string {
  return `${name} ${line}:${column}`;
}

/** The site that a call comes from; `undefined` outside of the emitters that are watched. */
function siteOf(method: string, emitters: RegExp, below: (...given: unknown[]) => unknown): Site | undefined {
  const holder: { stack?: readonly NodeJS.CallSite[] } = {};
  Error.captureStackTrace(holder, below);
  const caller = holder.stack?.[0];
  const file = /src\/compile\/([\w/-]+\.ts)/.exec(caller?.getFileName() ?? '')?.[1];
  if (caller === undefined || file === undefined || !emitters.test(file)) return undefined;
  const owner = caller.getFunctionName() ?? 'module';
  return {
    name: `${file} ${owner.slice(owner.lastIndexOf('.') + 1)} ${method}`,
    line: caller.getLineNumber()!,
    column: caller.getColumnNumber()!,
  };
}

/**
 * Runs `use` with the assembler watched. The site with the key `wrong` makes its mistake; `met` is told of every site at
 * which a mistake would change something.
 */
function watch(
  emitters: RegExp,
  wrong: string | undefined,
  met: ((key: string, site: Site) => void) | undefined,
  use: () => void,
): void {
  const prototype = Assembler.prototype as unknown as Record<string, (...given: unknown[]) => unknown>;
  const saved = Object.keys(SLIPS).map((name) => [name, prototype[name]!] as const);
  for (const [name, original] of saved) {
    const slip = SLIPS[name]!;
    const watched = function (this: unknown, ...call: unknown[]): unknown {
      const site = siteOf(name, emitters, watched);
      if (site === undefined) return original.apply(this, call);
      const slipped = slip(call);
      if (slipped.every((value, index) => value === call[index])) return original.apply(this, call);
      const key = keyOf(site);
      met?.(key, site);
      return original.apply(this, key === wrong ? [...slipped] : call);
    };
    prototype[name] = watched;
  }
  // Call sites as they are: making text of them would cost more than all the rest.
  const { prepareStackTrace, stackTraceLimit } = Error;
  Error.prepareStackTrace = (_error, sites) => sites;
  Error.stackTraceLimit = 1;
  try {
    use();
  } finally {
    Object.assign(Error, { prepareStackTrace, stackTraceLimit });
    for (const [name, original] of saved) prototype[name] = original;
  }
}

/** Something that writes programs and can tell that they are wrong. */
export interface Subject {
  /** What it sees, when that is not as it must be. @throws {Error} for a program that is refused or breaks off */
  readonly difference: () => string | undefined;
}

export interface Survivor {
  /** "predicates/limit.ts emitBucket jump 3": the third such call that was met, in the order of the code. */
  readonly name: string;
  readonly place: string;
}

export interface MistakeReport {
  readonly sites: number;
  readonly survivors: readonly Survivor[];
}

/** Subjects that a mistake is shown to. */
const TRIES = 120;

/** Makes every mistake of those that `chosen` says by name, one after the other, until a subject sees it. */
export function seedMistakes(
  emitters: RegExp,
  subjects: readonly Subject[],
  chosen: (name: string) => boolean = () => true,
): MistakeReport {
  const sites = new Map<string, Site>();
  const meeting = new Map<string, Subject[]>();
  const met = new Map<Subject, number>();
  for (const subject of subjects) {
    const own = new Set<string>();
    let difference: string | undefined;
    watch(
      emitters,
      undefined,
      (key, site) => {
        sites.set(key, site);
        own.add(key);
      },
      () => {
        difference = subject.difference();
      },
    );
    if (difference !== undefined) throw new Error(`without any mistake: ${difference}`);
    met.set(subject, own.size);
    for (const key of own) meeting.set(key, [...(meeting.get(key) ?? []), subject]);
  }
  const names = numbered(sites);
  const survivors: Survivor[] = [];
  let made = 0;
  for (const [key, those] of meeting) {
    if (!chosen(names.get(key)!)) continue;
    made += 1;
    // Those that are about little else see a mistake soonest.
    const ordered = those.toSorted((a, b) => met.get(a)! - met.get(b)!).slice(0, TRIES);
    if (ordered.some((subject) => shows(emitters, key, subject))) continue;
    const { line, column } = sites.get(key)!;
    survivors.push({ name: names.get(key)!, place: `${line}:${column}` });
  }
  return { sites: made, survivors };
}

function shows(emitters: RegExp, key: string, subject: Subject): boolean {
  let differs = false;
  try {
    watch(emitters, key, undefined, () => {
      differs = subject.difference() !== undefined;
    });
  } catch {
    return true;
  }
  return differs;
}

/** Names with the sites of one name numbered from 1, in the order of the code. */
function numbered(sites: ReadonlyMap<string, Site>): Map<string, string> {
  const counts = new Map<string, number>();
  const ordered = [...sites].sort(([, a], [, b]) => a.line - b.line || a.column - b.column);
  return new Map(
    ordered.map(([key, { name }]) => {
      const count = (counts.get(name) ?? 0) + 1;
      counts.set(name, count);
      return [key, `${name} ${count}`];
    }),
  );
}

/** For assertions: survivors that are not known, and known ones that a subject sees by now. */
export function unexplained(
  { survivors }: MistakeReport,
  known: readonly string[],
  chosen: (name: string) => boolean = () => true,
): { readonly missed: readonly string[]; readonly stale: readonly string[] } {
  const alive = new Set(survivors.map(({ name }) => name));
  return {
    missed: survivors
      .filter(({ name }) => !known.includes(name))
      .map(({ name, place }) => `${name} at ${place}`),
    stale: known.filter((name) => chosen(name) && !alive.has(name)),
  };
}
