/** Options that say the same thing in different ways, so that a rule may give one of them. */
import { OptionError, type OptionSpec } from '../extension.ts';

/**
 * Makes options of one argument that all set `field` of the state.
 * @param refusal what to say when a second one is given
 */
export function exclusiveOptions<Field extends string, Value>(
  field: Field,
  refusal: string,
): (
  name: string,
  syntax: string,
  summary: string,
  parse: (text: string) => Value,
) => OptionSpec<Record<Field, Value | undefined>> {
  return (name, syntax, summary, parse) => ({
    name,
    arguments: 1,
    syntax,
    summary,
    apply(state, [value]) {
      if (state[field] !== undefined) throw new OptionError(refusal, { argument: -1 });
      state[field] = parse(value!);
    },
  });
}
