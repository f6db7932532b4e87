/** The five netfilter hooks in the order a packet can meet them, with the kernel's numbers (uapi/linux/netfilter.h). */
export const Hook = {
  PRE_ROUTING: 0,
  LOCAL_IN: 1,
  FORWARD: 2,
  LOCAL_OUT: 3,
  POST_ROUTING: 4,
} as const;
export type Hook = (typeof Hook)[keyof typeof Hook];

/** Chain names of iptables by hook number. */
export const HOOK_CHAINS: readonly string[] = ['PREROUTING', 'INPUT', 'FORWARD', 'OUTPUT', 'POSTROUTING'];
