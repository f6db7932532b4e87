/** LOG rules of a generation, numbered: records carry the number, user space keeps level, flags and prefix. */
import type { RuleTag } from '../program.ts';

export interface LogPoint {
  readonly level: number;
  readonly flags: number;
  readonly prefix: string;
  readonly rule: RuleTag;
}

export class LogPoints {
  readonly #points: LogPoint[] = [];
  readonly #first: number;

  /** `first` is the number of the first point. */
  constructor(first = 0) {
    this.#first = first;
  }

  get list(): readonly LogPoint[] {
    return this.#points;
  }

  /** Number of a rule's log point, the same in every program that has the rule. */
  number(point: LogPoint): number {
    const { rule } = point;
    const found = this.#points.findIndex(
      ({ rule: known }) =>
        known.family === rule.family &&
        known.table === rule.table &&
        known.chain === rule.chain &&
        known.rule === rule.rule,
    );
    return this.#first + (found >= 0 ? found : this.#points.push(point) - 1);
  }
}
