/** `-j HL` (IPv6). */
import type { TargetExtension } from '../../extension.ts';
import { defineHopLimitChange } from '../hop-limit-change.ts';

export const hl: TargetExtension = defineHopLimitChange('HL', 'hl', 'ipv6', 'hop limit');
