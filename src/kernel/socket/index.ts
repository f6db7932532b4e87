export { describeSocket, type SocketDescription } from './describe.ts';
export { MOST_DESCRIPTORS, SeqpacketListener, type SeqpacketMessage, SeqpacketSocket } from './seqpacket.ts';
export { type LegacyTable, listLegacyTables, readLegacyTable } from './tables.ts';
