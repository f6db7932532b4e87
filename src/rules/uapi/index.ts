/** Tables as iptables and the kernel exchange them: getsockopt(2) and setsockopt(2) on a raw socket. */
export { countedEntries } from './counters.ts';
export { type DecodedTable, decodeTable, type TableRequest } from './decode.ts';
export { type EncodedTable, encodeTable } from './encode.ts';
export { AbiErrno, AbiError, UnwrittenError } from './errno.ts';
export { COUNTER_BYTES, ENTRY_LAYOUTS, type EntryLayout, NO_HOOK } from './layout.ts';
export { findRevision } from './lookup.ts';
export type { AbiForm, PayloadContext, SetNumbers } from './payload.ts';
export * from './requests.ts';
export { decodeRunningTable } from './running.ts';
export {
  type AskableSets,
  answerSetRequest,
  NO_SETS,
  SET_REQUEST_BYTES,
  SO_IP_SET,
} from './set-request.ts';
export { emptyTable } from './template.ts';
