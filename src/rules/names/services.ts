/** Service names to ports: getservbyname(3) over the services file. */
import { OptionError } from '../extension.ts';
import { didYouMean } from '../suggestion.ts';
import { parseUnsigned } from '../text/number.ts';
import { SERVICES } from './services.generated.ts';

const ports = new Map<string, Map<string, number>>();
for (const [port, protocol, spellings] of SERVICES) {
  let known = ports.get(protocol);
  if (known === undefined) {
    known = new Map();
    ports.set(protocol, known);
  }
  for (const spelling of spellings) if (!known.has(spelling)) known.set(spelling, port);
}

/** The port of a service name for one protocol ("tcp", "udp", …), or for any when `protocol` is absent. */
export function servicePort(name: string, protocol?: string): number | undefined {
  if (protocol !== undefined) return ports.get(protocol)?.get(name);
  for (const known of ports.values()) {
    const port = known.get(name);
    if (port !== undefined) return port;
  }
  return undefined;
}

/** A port number or service name. @throws {OptionError} */
export function parsePort(text: string, protocol?: string): number {
  const port = parseUnsigned(text, 0, 0xffff) ?? servicePort(text, protocol);
  if (port !== undefined) return port;
  if (/^[0-9]+$/.test(text))
    throw new OptionError(`port ${text} is out of range`, { hint: 'ports are 0 to 65535' });
  const elsewhere = protocol === undefined ? undefined : servicePort(text);
  const hint =
    elsewhere !== undefined
      ? `${text} is known for other protocols only; as a number it is ${elsewhere}`
      : didYouMean(text, ports.get(protocol ?? 'tcp')?.keys() ?? []);
  throw new OptionError(`unknown port or service "${text}"`, hint === undefined ? {} : { hint });
}

/**
 * `port`, `port:port`, `port:` or `:port`, bounds included. Some extensions take a range that runs backwards and
 * then never match. @throws {OptionError} when unknown or, unless that is allowed, backwards.
 */
export function parsePortRange(
  text: string,
  protocol?: string,
  backwards = false,
): { readonly min: number; readonly max: number } {
  const colon = text.indexOf(':');
  if (colon < 0) {
    const port = parsePort(text, protocol);
    return { min: port, max: port };
  }
  const min = colon === 0 ? 0 : parsePort(text.slice(0, colon), protocol);
  const max = colon === text.length - 1 ? 0xffff : parsePort(text.slice(colon + 1), protocol);
  if (min > max && !backwards)
    throw new OptionError(`port range ${text} is backwards`, { hint: `write ${max}:${min}` });
  return { min, max };
}

/** "port" or "min:max". */
export function formatPortRange(range: { readonly min: number; readonly max: number }): string {
  return range.min === range.max ? String(range.min) : `${range.min}:${range.max}`;
}
