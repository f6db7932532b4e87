/** Dispatchers, and how programs take over from them. */
import { dispatcherSubjects } from '../dispatcher-subjects.ts';
import type { MistakeArea } from './area.ts';

export const DISPATCHERS: MistakeArea = {
  name: 'dispatchers',
  emitters: /^(dispatcher|prologue\/handover)/,
  subjects: dispatcherSubjects,
  share: 1,
  equivalent: {},
  unseen: {},
};
