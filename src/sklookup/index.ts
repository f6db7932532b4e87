/** Socket bindings: which traffic goes to which label's sockets, as text, as tables and as an sk_lookup program. */
export * from './binding.ts';
export * from './error.ts';
export * from './layout.ts';
export * from './plan.ts';
export * from './precedence.ts';
export * from './program/index.ts';
export * from './spread.ts';
export * from './state/index.ts';
export { buildImage, type ImageNames, type ImageOptions } from './table/image.ts';
export { addressKeys } from './table/prefix-tree.ts';
export * from './text/file.ts';
export { bindingFileJson, bindingJson } from './text/json.ts';
export { parseBindings, parseBindingWords } from './text/parse.ts';
