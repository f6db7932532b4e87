export { kernelBtf, kernelTypes } from './kerneltypes.ts';
export {
  Program,
  type ProgramDescription,
  type ProgramSpec,
  type ProgramTypeName,
  VerifierError,
  verifierLog,
} from './program.ts';
export { type KernelTypes, linkProgram, type ProgramObjects } from './resolver.ts';
export {
  netfilterContext,
  readSkBuffContext,
  type SkBuffFields,
  type SkLookupFields,
  selectedSocketCookie,
  skBuffContext,
  skLookupContext,
  TestRunFlag,
  type TestRunOptions,
  type TestRunResult,
  testRun,
  xdpContext,
} from './testrun.ts';
export { readVerifierLog, type VerifierVerdict } from './verifierlog.ts';
