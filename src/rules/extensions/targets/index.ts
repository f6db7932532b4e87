/** The targets, alphabetically; the verdicts ACCEPT, DROP, QUEUE and RETURN are part of the rule grammar. */
import type { TargetExtension } from '../../extension.ts';

export const TARGETS: readonly TargetExtension[] = [];
