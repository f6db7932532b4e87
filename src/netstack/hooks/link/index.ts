/** Links of eBPF programs, refused where and as the kernel refuses them. */
export * from './netfilter.ts';
export * from './program.ts';
export * from './tcx.ts';
export * from './xdp.ts';
