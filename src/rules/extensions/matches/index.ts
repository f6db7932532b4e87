/** The matches, alphabetically. */
import type { MatchExtension } from '../../extension.ts';
import { addrtype } from './addrtype.ts';
import { ah } from './ah.ts';
import { ah6 } from './ah6.ts';
import { comment } from './comment.ts';
import { conntrack } from './conntrack.ts';
import { dscp } from './dscp.ts';
import { esp } from './esp.ts';
import { frag } from './frag.ts';
import { hl } from './hl.ts';
import { icmp } from './icmp.ts';
import { icmp6 } from './icmp6.ts';
import { iprange } from './iprange.ts';
import { length } from './length.ts';
import { limit } from './limit.ts';
import { mac } from './mac.ts';
import { mark } from './mark.ts';
import { multiport } from './multiport.ts';
import { pkttype } from './pkttype.ts';
import { sctp } from './sctp.ts';
import { state } from './state.ts';
import { statistic } from './statistic.ts';
import { tcp } from './tcp.ts';
import { tos } from './tos.ts';
import { ttl } from './ttl.ts';
import { udp } from './udp.ts';

export const MATCHES: readonly MatchExtension[] = [
  addrtype,
  ah,
  ah6,
  comment,
  conntrack,
  dscp,
  esp,
  frag,
  hl,
  icmp,
  icmp6,
  iprange,
  length,
  limit,
  mac,
  mark,
  multiport,
  pkttype,
  sctp,
  state,
  statistic,
  tcp,
  tos,
  ttl,
  udp,
];
