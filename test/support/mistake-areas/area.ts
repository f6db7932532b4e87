/** A part of what writes programs and tables, by what its mistakes are shown to. */
import type { Subject } from '../mistakes.ts';

export interface MistakeArea {
  readonly name: string;
  /** Files below src/compile whose mistakes are made. */
  readonly emitters: RegExp;
  subjects(): Subject[];
  /** One mistake in so many is made in a short run. */
  readonly share: number;
  /** Mistakes that change nothing, and why. */
  readonly equivalent: Readonly<Record<string, string>>;
  /** Mistakes that these cases cannot show, and what would. */
  readonly unseen: Readonly<Record<string, string>>;
}
