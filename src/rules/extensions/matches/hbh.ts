/** `-m hbh` (IPv6). */
import type { MatchExtension } from '../../extension.ts';
import { defineOptionHeader } from '../option-header.ts';

export const hbh: MatchExtension = defineOptionHeader('hbh', 'hop-by-hop options');
