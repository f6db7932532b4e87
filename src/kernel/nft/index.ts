export { conntrackEnabled, disableConntrack, enableConntrack } from './conntrack.ts';
export {
  changeMark,
  counter,
  matchSocketFilter,
  type NftExpression,
  queue,
  type Rejection,
  reject,
  type SocketFilter,
  setMark,
  verdict,
} from './expression.ts';
export { masquerade, type NatOptions, type NatTarget, redirect, translate } from './nat.ts';
export type { NftFamily } from './protocol.ts';
export { countNftRules, listNftTables, type NftChain, type NftTable, NftTransaction } from './transaction.ts';
