/** Rules as people write them: model, text form, extensions, and the reference semantics that everything is compared with. */
export * from './diagnostic.ts';
export * from './extension.ts';
export * from './model.ts';
