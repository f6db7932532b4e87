/** `-j DNPT` (IPv6). */
import { Hook } from '../../../ir/index.ts';
import type { TargetExtension } from '../../extension.ts';
import { definePrefixTranslation } from '../prefix-translation.ts';

export const dnpt: TargetExtension = definePrefixTranslation('DNPT', 'destination', [
  Hook.PRE_ROUTING,
  Hook.LOCAL_OUT,
]);
