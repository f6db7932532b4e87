import { readFileSync } from 'node:fs';
import { type CliEnvironment, processEnvironment } from './environment.ts';
import { ExitCode } from './exit.ts';

function version(): string {
  const text = readFileSync(new URL('../../package.json', import.meta.url), 'utf8');
  return (JSON.parse(text) as { version: string }).version;
}

/**
 * Runs one command line and gives its exit code; never throws. Only what the command needs is loaded:
 * `--version` costs one file read beyond Node's own start.
 */
export async function main(
  words: readonly string[] = process.argv.slice(2),
  environment: CliEnvironment = processEnvironment(),
): Promise<number> {
  try {
    const first = words[0];
    if (first === '--version' || first === '-V' || first === 'version') {
      await environment.stdout.write(`sluice ${version()}\n`);
      return ExitCode.OK;
    }
    const { dispatch } = await import('./dispatch.ts');
    return await dispatch(words, environment);
  } catch (error) {
    const { exitCodeOf, reportFailure } = await import('./failure.ts');
    // When nothing can be written any more, the exit code is all there is to say.
    return await reportFailure(error, words, environment).catch(() => exitCodeOf(error));
  }
}
