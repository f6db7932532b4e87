export {
  type Feature,
  type FeatureName,
  type KernelFacts,
  type KernelReport,
  kernelFacts,
  probeKernel,
} from './probe.ts';
export { kernelIsAtLeast, OLDEST_KERNEL, requireKernel } from './require.ts';
