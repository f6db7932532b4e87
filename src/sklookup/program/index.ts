export { FLOW_KEYS } from './choose.ts';
export { AF_INET, AF_INET6, IPPROTO_TCP, IPPROTO_UDP } from './keys.ts';
export { assembleSkLookup, SK_DROP, SK_PASS, type SkLookupOptions } from './program.ts';
