/** What the socket commands share: their options, how words become bindings, and opening the tables. */
import { SocketSteering } from '../host/index.ts';
import { parseAddress } from '../net/index.ts';
import {
  type Binding,
  isLabel,
  type LookupTuple,
  type Protocol,
  parseBindingWords,
} from '../sklookup/index.ts';
import { type CommandArgument, type CommandOption, type Invocation, UsageError } from './command.ts';
import type { CliEnvironment } from './environment.ts';

export const NETNS_OPTION: CommandOption = {
  long: 'netns',
  value: 'NAME',
  completes: 'netns',
  summary: 'network namespace: a name of ip netns, a path, or a pid; this one without',
};

export const BINDING_ARGUMENTS: readonly CommandArgument[] = [
  { name: 'LABEL', summary: 'name of the sockets that get the traffic' },
  { name: 'PROTOCOL', summary: 'tcp or udp' },
  { name: 'PREFIX', summary: 'local addresses: 192.0.2.0/24, 2001:db8::1' },
  { name: 'PORTS', summary: 'a port, a range (8000-8999), or all' },
];
export const BINDING_OPTIONS: readonly CommandOption[] = [
  NETNS_OPTION,
  { long: 'from', value: 'PREFIX', summary: 'only traffic from here' },
  { long: 'remote-port', value: 'PORT', summary: 'only traffic from this port' },
  { long: 'in', value: 'DEVICE', completes: 'device', summary: 'only traffic that comes in by this device' },
];

/** The binding that a command line says. @throws {BindingsError} with a caret under the word that is wrong */
export function bindingOf(invocation: Invocation): Binding {
  const words = [...invocation.arguments];
  for (const name of ['from', 'remote-port', 'in']) {
    const value = invocation.text(name);
    if (value !== undefined) words.push(name, value);
  }
  if (words.some((word) => /[\s#]/.test(word) || word === ''))
    throw new UsageError('a word of a binding holds neither blanks nor "#"');
  return parseBindingWords(words, '<command line>');
}

/** Opens the loaded tables, runs, closes. */
export async function withSteering<T>(
  invocation: Invocation,
  use: (steering: SocketSteering) => T | Promise<T>,
): Promise<T> {
  const steering = SocketSteering.open(invocation.text('netns'));
  try {
    return await use(steering);
  } finally {
    steering.close();
  }
}

/** Prints a line for people, or with --json an object. */
export async function answer(
  invocation: Invocation,
  environment: CliEnvironment,
  text: string,
  data: Readonly<Record<string, unknown>>,
): Promise<void> {
  await environment.stdout.write(invocation.flag('json') ? `${JSON.stringify(data)}\n` : text);
}

export function labelOf(text: string | undefined): string {
  if (text !== undefined && isLabel(text)) return text;
  throw new UsageError(
    text === undefined ? '--label is missing' : `"${text}" is no label`,
    'a label has 1 to 63 letters, digits, ".", "_" and "-"',
  );
}

export function protocolOf(text: string | undefined): Protocol {
  if (text === 'tcp' || text === 'udp') return text;
  throw new UsageError(
    text === undefined ? '--protocol is missing' : `"${text}" is no protocol`,
    'give tcp or udp',
  );
}

export function addressOf(text: string | undefined, what: string): Uint8Array {
  const address = text === undefined ? undefined : parseAddress(text);
  if (address !== undefined) return address.bytes;
  throw new UsageError(
    text === undefined ? `${what} is missing` : `"${text}" is no address`,
    'give 192.0.2.7 or ::1',
  );
}

/** `192.0.2.7:443`, `[2001:db8::1]:443` */
export function endpointOf(text: string): { readonly address: Uint8Array; readonly port: number } {
  const found = /^(?:\[([^\]]*)\]|([^:]*)):([0-9]{1,5})$/.exec(text);
  const address = found === null ? undefined : parseAddress(found[1] ?? found[2] ?? '');
  const port = Number(found?.[3]);
  if (address !== undefined && port > 0 && port <= 0xffff) return { address: address.bytes, port };
  throw new UsageError(`"${text}" is no address with a port`, 'give 192.0.2.7:443 or [2001:db8::1]:443');
}

/** The packet that `explain` asks about. The remote end is of no interest where no binding asks for it. */
export function tupleOf(invocation: Invocation): LookupTuple {
  const [protocol, local] = invocation.arguments;
  const { address, port } = endpointOf(local ?? '');
  const from = invocation.text('from');
  const remote =
    from === undefined ? { address: new Uint8Array(address.length).fill(1), port: 1 } : endpointOf(from);
  if (remote.address.length !== address.length)
    throw new UsageError('--from is of another family than the address');
  return {
    protocol: protocolOf(protocol),
    localAddress: address,
    localPort: port,
    remoteAddress: remote.address,
    remotePort: remote.port,
    device: invocation.text('in') ?? '',
  };
}
