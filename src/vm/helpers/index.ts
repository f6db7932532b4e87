/** The helpers and kernel functions that this machine has, in the order of their numbers. */
import { type HelperName, helperId } from '../../isa/index.ts';
import type { HelperFunction } from './arguments.ts';
import { GENERAL_HELPERS } from './general.ts';
import { DYNPTR_HELPERS, KFUNC_TABLE } from './kfuncs.ts';
import { MAP_HELPERS } from './map.ts';
import { PACKET_HELPERS } from './packet.ts';
import { SOCKET_HELPERS } from './socket.ts';

export type { HelperFunction } from './arguments.ts';

/** By helper number. */
export const HELPER_FUNCTIONS: readonly (HelperFunction | undefined)[] = (() => {
  const functions: (HelperFunction | undefined)[] = [];
  for (const table of [MAP_HELPERS, GENERAL_HELPERS, PACKET_HELPERS, SOCKET_HELPERS, DYNPTR_HELPERS]) {
    for (const [name, helper] of Object.entries(table)) functions[helperId(name as HelperName)] = helper;
  }
  return functions;
})();

/** Names of kernel functions; a call carries the position + 1. */
export const KFUNC_NAMES: readonly string[] = Object.keys(KFUNC_TABLE);
export const KFUNC_FUNCTIONS: readonly HelperFunction[] = Object.values(KFUNC_TABLE);
