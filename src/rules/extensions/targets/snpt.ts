/** `-j SNPT` (IPv6). */
import { Hook } from '../../../ir/index.ts';
import type { TargetExtension } from '../../extension.ts';
import { definePrefixTranslation } from '../prefix-translation.ts';

export const snpt: TargetExtension = definePrefixTranslation('SNPT', 'source', [
  Hook.LOCAL_IN,
  Hook.POST_ROUTING,
]);
