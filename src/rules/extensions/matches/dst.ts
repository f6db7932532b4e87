/** `-m dst` (IPv6). */
import type { MatchExtension } from '../../extension.ts';
import { defineOptionHeader } from '../option-header.ts';

export const dst: MatchExtension = defineOptionHeader('dst', 'destination options');
