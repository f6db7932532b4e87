/** Routing rules of the calling thread's namespace: which table is asked for whom (ip-rule(8), uapi/linux/fib_rules.h). */
import { AF_INET, AF_INET6 } from '../sys/socket.ts';
import { encodeStruct } from '../sys/struct.ts';
import { NLM_F_CREATE, NLM_F_EXCL, stringAttribute, u32Attribute } from './message.ts';
import { routeRequest } from './route-socket.ts';

const RTM_NEWRULE = 32;
const FRA_IIFNAME = 3;
const FRA_PRIORITY = 6;
const FRA_TABLE = 15;
const FR_ACT_TO_TBL = 1;

const fibRuleHeader = {
  size: 12,
  fields: { family: [0, 'u8'], action: [7, 'u8'] },
} as const;

export interface RoutingRule {
  readonly family: 'ipv4' | 'ipv6';
  /** Lower ones are asked first: 0 has the local table, 32766 the main one. */
  readonly priority: number;
  readonly table: number;
  /** Only for packets that come in by this device; it need not exist yet. */
  readonly inDevice?: string;
}

export function addRule({ family, priority, table, inDevice }: RoutingRule): void {
  const header = encodeStruct(fibRuleHeader, {
    family: family === 'ipv4' ? AF_INET : AF_INET6,
    action: FR_ACT_TO_TBL,
  });
  const parts = [
    header,
    u32Attribute(FRA_PRIORITY, priority),
    u32Attribute(FRA_TABLE, table),
    ...(inDevice === undefined ? [] : [stringAttribute(FRA_IIFNAME, inDevice)]),
  ];
  routeRequest(
    { type: RTM_NEWRULE, flags: NLM_F_CREATE | NLM_F_EXCL, parts },
    `adding routing rule ${priority}`,
  );
}
