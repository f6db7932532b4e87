/** The matches, alphabetically. */
import type { MatchExtension } from '../../extension.ts';
import { tcp } from './tcp.ts';
import { udp } from './udp.ts';

export const MATCHES: readonly MatchExtension[] = [tcp, udp];
