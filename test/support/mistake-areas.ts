/** What writes programs and tables, in parts that mistakes are made in one after the other. */

import { ACTIONS } from './mistake-areas/actions.ts';
import type { MistakeArea } from './mistake-areas/area.ts';
import { DISPATCHERS } from './mistake-areas/dispatchers.ts';
import { EDITS } from './mistake-areas/edits.ts';
import { HOOKS } from './mistake-areas/hooks.ts';
import { LOOKUP } from './mistake-areas/lookup.ts';
import { RULES } from './mistake-areas/rules.ts';
import { SETS } from './mistake-areas/sets.ts';
import { TABLES } from './mistake-areas/tables.ts';

export const MISTAKE_AREAS: readonly MistakeArea[] = [
  RULES,
  TABLES,
  EDITS,
  HOOKS,
  LOOKUP,
  ACTIONS,
  DISPATCHERS,
  SETS,
];
