export { attachCgroup, type CgroupAttachment, openCgroup } from './cgroup.ts';
export { LinkError, type LinkErrorCode } from './error.ts';
export { Link, type LinkDescription, NetfilterHook } from './link.ts';
export { attachNetfilter, type NetfilterAttachment } from './netfilter.ts';
export { attachSkLookup } from './netns.ts';
export type { Neighbour, Ordering, Position } from './order.ts';
export { type AttachedProgram, type AttachedPrograms, queryPrograms } from './query.ts';
export { attachTcx, type TcxAttachment } from './tcx.ts';
export { attachXdp, type XdpAttachment, type XdpMode } from './xdp.ts';
