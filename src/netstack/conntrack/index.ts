/** Connection tracking in user space. */
export { Conntrack, type ConntrackObserver, type ConntrackOptions } from './conntrack.ts';
export { type Direction, type Entry, IPS } from './entry.ts';
export type { TrackedPacket } from './packet.ts';
export type { SctpAssociation } from './sctp.ts';
export { type ConntrackSettings, DEFAULT_SETTINGS } from './settings.ts';
export {
  TCP_STATE_NAMES,
  type TcpConnection,
  TcpFlag,
  type TcpSide,
  TcpState,
  tcpConnection,
  unknownSide,
} from './tcp/state.ts';
export { Tracking, type TrackingState } from './tracking.ts';
export { invert, type Tuple, tupleKey } from './tuple.ts';
