/** The targets, alphabetically; the verdicts ACCEPT, DROP, QUEUE and RETURN are part of the rule grammar. */
import type { TargetExtension } from '../../extension.ts';
import { log } from './log.ts';
import { mark } from './mark.ts';
import { reject } from './reject.ts';
import { reject6 } from './reject6.ts';

export const TARGETS: readonly TargetExtension[] = [log, mark, reject, reject6];
