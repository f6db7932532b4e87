/** What is wrong with the text of a set or an entry. Whoever reads a file adds the place. */
export class SetError extends Error {
  readonly code = 'SET_INVALID';
  readonly hint: string | undefined;
  constructor(message: string, hint?: string) {
    super(message);
    this.name = 'SetError';
    this.hint = hint;
  }
}
