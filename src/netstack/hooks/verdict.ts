/** Verdicts of hook functions and how they are packed. Source: uapi/linux/netfilter.h. */
export const NF_DROP = 0;
export const NF_ACCEPT = 1;
export const NF_STOLEN = 2;
export const NF_QUEUE = 3;
export const NF_REPEAT = 4;
export const NF_STOP = 5;

export const NF_VERDICT_MASK = 0xff;
/** With NF_QUEUE: go on to the next hook when nobody listens on the queue. */
export const NF_VERDICT_FLAG_QUEUE_BYPASS = 0x8000;
export const NF_VERDICT_QBITS = 16;

/** NF_DROP that makes the caller see `-errno` (NF_DROP_ERR). */
export function nfDropErr(errno: number): number {
  return (errno << NF_VERDICT_QBITS) | NF_DROP;
}

/** NF_QUEUE to queue `number`, 0 to 65535 (NF_QUEUE_NR). */
export function nfQueueNr(number: number, bypass = false): number {
  return (number << NF_VERDICT_QBITS) | (bypass ? NF_VERDICT_FLAG_QUEUE_BYPASS : 0) | NF_QUEUE;
}

/** The errno of a verdict, zero or negative. The shift is arithmetic: an errno above 0x7fff comes out positive. */
export function verdictErrno(verdict: number): number {
  return 0 - (verdict >> NF_VERDICT_QBITS);
}

/** The queue number of an NF_QUEUE verdict. */
export function verdictQueue(verdict: number): number {
  return verdict >>> NF_VERDICT_QBITS;
}
