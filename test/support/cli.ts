import { Readable } from 'node:stream';
import { main } from '../../src/cli/main.ts';

export interface CliResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs one command line in this process. */
export async function sluice(
  words: readonly string[],
  options: { stdin?: string | Uint8Array; variables?: Record<string, string> } = {},
): Promise<CliResult> {
  const out: string[] = [];
  const err: string[] = [];
  const sink = (into: string[]) => ({
    isTty: false,
    columns: undefined,
    write: async (text: string | Uint8Array) => {
      into.push(typeof text === 'string' ? text : Buffer.from(text).toString('latin1'));
    },
  });
  const stdin = Readable.from(options.stdin === undefined ? [] : [Buffer.from(options.stdin)]);
  const code = await main(words, {
    stdout: sink(out),
    stderr: sink(err),
    stdin,
    variables: options.variables ?? {},
  });
  return { code, stdout: out.join(''), stderr: err.join('') };
}
