/** Limits of the kernel that programs can meet at run time. */

/** MAX_TAIL_CALL_CNT of include/linux/bpf.h. */
export const MAX_TAIL_CALLS = 33;
/** BPF_MAX_LOOPS of include/linux/bpf_verifier.h. */
export const MAX_LOOPS = 8_388_608;
