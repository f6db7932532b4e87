/** `-j TTL` (IPv4). */
import type { TargetExtension } from '../../extension.ts';
import { defineHopLimitChange } from '../hop-limit-change.ts';

export const ttl: TargetExtension = defineHopLimitChange('TTL', 'ttl', 'ipv4', 'time to live');
