/** The programs of the action chain, by which the kernel's own code carries out what programs hand on. */
import { actionSubjects } from '../action-subjects.ts';
import type { MistakeArea } from './area.ts';

export const ACTIONS: MistakeArea = {
  name: 'action chain',
  emitters: /^actionchain/,
  subjects: actionSubjects,
  share: 1,
  equivalent: {},
  unseen: {},
};
