/**
 * Mistakes seeded into what writes programs and tables: while they are written, one place of the emitters' code does something
 * else (mistake-sites.ts). Some subject must then see something that is not as it must be.
 */
import { type Site, watch } from './mistake-sites.ts';

/** Something that writes programs and can tell that they are wrong. */
export interface Subject {
  /**
   * Writes programs. What it gives runs them, and tells what is not as it must be.
   * @throws {Error} for a program that is refused; or, when it is run, for one that breaks off
   */
  write(): () => string | undefined;
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

/** A subject that meets sites. */
interface Meeting {
  readonly subject: Subject;
  /** Tells that nothing is wrong; run before the first mistake is shown. */
  check: (() => string | undefined) | undefined;
  readonly sites: Set<string>;
}

/** Makes every mistake of those that `chosen` says by name, one after the other, until a subject sees it. */
export function seedMistakes(
  emitters: RegExp,
  subjects: readonly Subject[],
  chosen: (name: string) => boolean = () => true,
): MistakeReport {
  const sites = new Map<string, Site>();
  const meetings = subjects.map((subject): Meeting => {
    const own = new Set<string>();
    let check: Meeting['check'];
    const met = (key: string, site: Site): void => {
      sites.set(key, site);
      own.add(key);
    };
    watch(emitters, undefined, met, () => {
      check = subject.write();
    });
    return { subject, check, sites: own };
  });
  const ordered = fromBothEnds(meetings.sort((a, b) => a.sites.size - b.sites.size));
  const survivors: Survivor[] = [];
  let made = 0;
  for (const [key, name] of numbered(sites)) {
    if (!chosen(name)) continue;
    made += 1;
    const seer = ordered.findIndex((one) => one.sites.has(key) && shows(emitters, key, one));
    if (seer >= 0) {
      // What has seen one mistake sees others of its kind.
      ordered.unshift(...ordered.splice(seer, 1));
      continue;
    }
    const { line, column } = sites.get(key)!;
    survivors.push({ name, place: `${line}:${column}` });
  }
  return { sites: made, survivors };
}

/** Those that are about little else see a mistake soonest, or those that are about everything. */
function fromBothEnds<T>(all: readonly T[]): T[] {
  const half = Math.ceil(all.length / 2);
  const [front, back] = [all.slice(0, half), all.slice(half).reverse()];
  return front.flatMap((one, index) => [one, ...back.slice(index, index + 1)]);
}

function shows(emitters: RegExp, key: string, meeting: Meeting): boolean {
  const right = meeting.check?.();
  if (right !== undefined) throw new Error(`without any mistake: ${right}`);
  meeting.check = undefined;
  let differs = false;
  try {
    // Whatever is written when it is run (dispatchers) has the mistake, too.
    watch(emitters, key, undefined, () => {
      differs = meeting.subject.write()() !== undefined;
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
