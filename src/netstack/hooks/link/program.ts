/** Programs as links see them, with the kernel's numbers (uapi/linux/bpf.h). */
export const ProgramType = { SCHED_CLS: 3, XDP: 6, NETFILTER: 32 } as const;
export const AttachType = { XDP: 37, NETFILTER: 45, TCX_INGRESS: 46, TCX_EGRESS: 47 } as const;

/** A loaded program; `id` is unique in its engine. */
export interface LinkProgram {
  readonly id: number;
  readonly name: string;
  /** One of ProgramType. */
  readonly type: number;
}
