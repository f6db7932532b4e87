/** Socket bindings: which traffic goes to which label's sockets. */
export * from './binding.ts';
export * from './plan.ts';
export * from './precedence.ts';
