/** The look-up of connections at xdp and tcx. */
import { lookupSubjects } from '../lookup-subjects.ts';
import type { MistakeArea } from './area.ts';

export const LOOKUP: MistakeArea = {
  name: 'connection look-up',
  emitters: /^hooks\/connectionlookup/,
  subjects: lookupSubjects,
  share: 2,
  equivalent: {},
  unseen: {},
};
