/** Rules as people write them: model, text form, extensions, and the reference semantics that everything is compared with. */
export * from './command.ts';
export * from './commandline.ts';
export * from './diagnostic.ts';
export * from './diagnostic-codes.ts';
export * from './evaluate/index.ts';
export * from './extension.ts';
export * from './family.ts';
export * from './lexer.ts';
export * from './model.ts';
export * from './names/protocols.ts';
export * from './options.ts';
export * from './printer.ts';
export * from './reference.ts';
export * from './registry.ts';
export * from './report.ts';
export * from './restore.ts';
export * from './tables.ts';
