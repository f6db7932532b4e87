/** `-m ttl` (IPv4). */
import type { MatchExtension } from '../../extension.ts';
import { defineHopLimit } from '../hop-limit.ts';

export const ttl: MatchExtension = defineHopLimit('ttl', 'ipv4', 'TTL');
