/** Holds what commands print with --json to docs/reference/json.md. */
import { readFileSync } from 'node:fs';
import { expect } from 'vitest';

const page = readFileSync(new URL('../../docs/reference/json.md', import.meta.url), 'utf8');

/** The name of a command's object, and its fields with whether they are always there. */
function documented(command: string): {
  readonly name: string;
  readonly fields: ReadonlyMap<string, boolean>;
} {
  const row = new RegExp(`^\\| \`${command}\` \\| \`(\\w+)\` \\| (.*) \\|$`, 'm').exec(page);
  if (row === null) throw new Error(`docs/reference/json.md does not tell of ${command}`);
  const [, name = '', cells = ''] = row;
  const as = /^those of `(.*)`$/.exec(cells)?.[1];
  if (as !== undefined) return { name, fields: documented(as).fields };
  const fields = [...cells.matchAll(/`(\w+)(\??)`/g)].map(
    ([, field = '', mark]) => [field, mark === ''] as const,
  );
  return { name, fields: new Map(fields) };
}

/** The object that a command has printed, with the version and the fields that the page says, and no others. */
export function expectDocumented(command: string, printed: string): Readonly<Record<string, unknown>> {
  const { name, fields } = documented(command);
  const whole = JSON.parse(printed.trim().split('\n')[0]!) as Readonly<
    Record<string, Readonly<Record<string, unknown>>>
  >;
  expect(Object.keys(whole), command).toEqual([name]);
  const { version, ...values } = whole[name]!;
  expect(version, command).toBe(1);
  expect([...fields.keys()], command).toEqual(expect.arrayContaining(Object.keys(values)));
  const always = [...fields].filter(([, required]) => required).map(([field]) => field);
  expect(Object.keys(values), command).toEqual(expect.arrayContaining(always));
  return values;
}
