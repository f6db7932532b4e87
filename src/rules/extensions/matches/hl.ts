/** `-m hl` (IPv6). */
import type { MatchExtension } from '../../extension.ts';
import { defineHopLimit } from '../hop-limit.ts';

export const hl: MatchExtension = defineHopLimit('hl', 'ipv6', 'hop limit');
