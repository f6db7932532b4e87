/** Which parts an edited chain is made of: where old ones are cut, and which are joined into new ones. */
import type { IrRule } from '../../../ir/index.ts';
import { ChainKind } from './layout.ts';
import type { LivePart } from './live.ts';

/** Rules `from` to `to` of the chain as it is, or one that gets the counter of this number. */
export type Piece =
  | { readonly from: number; readonly to: number }
  | { readonly rule: IrRule; readonly counter: number };

/** A rule of a part that is written: a record among others that is there already, or a rule. */
export type Source = KeptRecord | { readonly rule: IrRule; readonly counter: number };

export interface KeptRecord {
  readonly rules: number;
  readonly index: number;
}

export type Run =
  | { readonly kind: 'kept'; readonly part: LivePart; readonly first: number; readonly count: number }
  | {
      readonly kind: 'rules';
      readonly sources: readonly Source[];
      /** Place of the first in the chain as it shall be. */
      readonly start: number;
      readonly vectors: boolean;
    };

/** Rules of a part that is asked rule by rule; longer ones get vectors. */
const LONGEST_ASKED = 16;
/** A remainder of an old part that is shorter is cheaper asked rule by rule. */
const SHORTEST_REMAINDER = 4;
/** Neighbours up to this many times as long are built into new vectors with the rest. */
const JOINED_RATIO = 2;

/** The pieces as runs: remainders of old parts, and rules to be written. */
export function splitParts(parts: readonly LivePart[], pieces: readonly Piece[]): Run[] {
  const runs: Run[] = [];
  let start = 0;
  const put = (sources: readonly Source[]): void => {
    const last = runs.at(-1);
    if (last?.kind === 'rules') {
      runs[runs.length - 1] = { ...last, sources: [...last.sources, ...sources] };
    } else runs.push({ kind: 'rules', sources, start, vectors: false });
    start += sources.length;
  };
  // What came between two parts of the same records may have gone again.
  const keep = (part: LivePart, first: number, count: number): void => {
    const last = runs.at(-1);
    if (last?.kind === 'kept' && last.part.rules === part.rules && last.count === first)
      runs[runs.length - 1] = { ...last, count };
    else runs.push({ kind: 'kept', part, first, count });
  };
  for (const piece of pieces) {
    if ('rule' in piece) {
      put([piece]);
      continue;
    }
    let behind = 0;
    for (const part of parts) {
      const before = behind;
      behind += part.count - part.first;
      if (behind <= piece.from || before >= piece.to) continue;
      const first = part.first + Math.max(0, piece.from - before);
      const count = part.first + Math.min(part.count - part.first, piece.to - before);
      const asked = part.kind === ChainKind.linear && part.count - part.first <= LONGEST_ASKED;
      if (asked || count - first < SHORTEST_REMAINDER) {
        put(Array.from({ length: count - first }, (_, at) => ({ rules: part.rules, index: first + at })));
      } else {
        keep(part, first, count);
        start += count - first;
      }
    }
  }
  return runs;
}

/** Runs of many rules get vectors, together with neighbours that are not much longer. */
export function joinRuns(runs: readonly Run[]): Run[] {
  const joined: Run[] = [];
  for (const run of runs) {
    joined.push(run);
    for (;;) {
      const last = joined.at(-1)!;
      const before = joined.at(-2);
      if (last.kind === 'rules' && last.sources.length > LONGEST_ASKED && !last.vectors)
        joined[joined.length - 1] = { ...last, vectors: true };
      if (before === undefined || !worthJoining(before, last)) break;
      joined.splice(-2, 2, join(before, last));
    }
  }
  return joined;
}

/** All rules of the runs as one part of vectors. */
export function wholeRun(runs: readonly Run[]): Run {
  return { kind: 'rules', sources: runs.flatMap(sourcesOf), start: 0, vectors: true };
}

/** A run that is built anew takes its neighbour along, whichever of them comes first. */
function worthJoining(a: Run, b: Run): boolean {
  if (a.kind === 'kept' && b.kind === 'kept') return false;
  if (a.kind === 'rules' && b.kind === 'rules') return true;
  const [kept, fresh] = a.kind === 'kept' ? [a, b] : [b, a];
  return fresh.kind === 'rules' && fresh.vectors && lengthOf(kept) <= JOINED_RATIO * lengthOf(fresh);
}

function join(a: Run, b: Run): Run {
  const start = a.kind === 'rules' ? a.start : b.kind === 'rules' ? b.start - lengthOf(a) : 0;
  return { kind: 'rules', sources: [...sourcesOf(a), ...sourcesOf(b)], start, vectors: true };
}

function sourcesOf(run: Run): readonly Source[] {
  if (run.kind === 'rules') return run.sources;
  const { part, first } = run;
  return Array.from({ length: lengthOf(run) }, (_, at) => ({ rules: part.rules, index: first + at }));
}

function lengthOf(run: Run): number {
  return run.kind === 'rules' ? run.sources.length : run.count - run.first;
}

/** What the parts cost a packet that passes all of them: finding vectors is dear, their parts and asking a rule are cheap. */
export function partsCost(runs: readonly Run[]): number {
  const FINDING = 8;
  // The records whose vectors were found last: the program finds them once for parts that follow each other.
  let found: number | undefined;
  let cost = 0;
  for (const run of runs) {
    cost += 1;
    if (run.kind === 'rules') {
      cost += run.vectors ? FINDING : run.sources.length / 2;
      if (run.vectors) found = undefined;
    } else if (run.part.kind === ChainKind.vectors && found !== run.part.rules) {
      found = run.part.rules;
      cost += FINDING;
    }
  }
  return cost;
}
