import { createReadStream } from 'node:fs';
import type { Readable } from 'node:stream';

/** Everything of the outside world that a command touches through its streams; injected so that tests can run commands in-process. */
export interface CliEnvironment {
  /** Data goes here. */
  readonly stdout: Output;
  /** Talk goes here: progress, warnings, errors for people. */
  readonly stderr: Output;
  readonly stdin: Readable;
  readonly variables: Readonly<Record<string, string | undefined>>;
}

/** A text sink. `columns` is set on terminals only; `write` resolves once the text is out.
 * @throws what the file system says: a full disk, a reader that has gone */
export interface Output {
  readonly isTty: boolean;
  readonly columns: number | undefined;
  write(text: string | Uint8Array): Promise<void>;
}

function streamOutput(stream: NodeJS.WriteStream): Output {
  // Writers are told by their own callbacks; without a listener the event would end the process.
  stream.on('error', () => {});
  return {
    get isTty() {
      return stream.isTTY === true;
    },
    get columns() {
      return stream.isTTY === true ? stream.columns : undefined;
    },
    write: (text) =>
      new Promise((resolve, reject) => {
        stream.write(text, (error) => (error ? reject(error) : resolve()));
      }),
  };
}

/** The environment of this process. */
export function processEnvironment(): CliEnvironment {
  return {
    stdout: streamOutput(process.stdout),
    stderr: streamOutput(process.stderr),
    stdin: process.stdin,
    variables: process.env,
  };
}

/** A file as it comes, or standard input for "-". @throws the file system's error, with its path */
export async function* openInput(path: string, environment: CliEnvironment): AsyncGenerator<Uint8Array> {
  const stream = path === '-' ? environment.stdin : createReadStream(path);
  try {
    for await (const chunk of stream) yield chunk as Uint8Array;
  } catch (error) {
    // An open that fails names the file, a read does not.
    throw Object.assign(error as Error, { path: path === '-' ? 'standard input' : path });
  }
}

/** The same, whole. */
export async function readInput(path: string, environment: CliEnvironment): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of openInput(path, environment)) chunks.push(chunk);
  return Buffer.concat(chunks);
}
