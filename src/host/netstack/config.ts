/**
 * A host as JSON:
 *
 *     {"devices": [{"name": "eth0", "mtu": 1500, "addresses": ["192.0.2.1/24", "2001:db8::1/64"]}],
 *      "routes": [{"to": "default", "via": "192.0.2.254", "dev": "eth0"}, {"to": "10.9.0.0/16", "type": "unreachable"}],
 *      "sysctls": {"net.ipv4.ip_forward": 1, "net.ipv4.conf.eth0.rp_filter": 2}}
 */
import { type Family, networkOf, type Prefix, parseAddress, parsePrefix } from '../../net/index.ts';
import type { DeviceAddress, DeviceConfig, StaticRoute } from '../../netstack/index.ts';
import {
  DEVICE_SYSCTLS,
  deviceSysctl,
  type HostSettings,
  HostSettingsError,
  inputOfSysctls,
  KNOWN_SYSCTLS,
  type SysctlReader,
  settingsOfSysctls,
} from './settings.ts';

const ROUTE_TYPES = ['unicast', 'unreachable', 'prohibit', 'blackhole'] as const;
const DEVICE_NAME = /^[^/\s]{1,15}$/;

type Fields = Readonly<Record<string, unknown>>;

/** Reads a configuration. @throws {HostSettingsError} with the place of the first thing that is wrong */
export function parseHostConfig(text: string): HostSettings {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    throw new HostSettingsError('', `no JSON: ${(error as Error).message}`, 'see: sluice run --help');
  }
  const root = fieldsOf(json, '', ['devices', 'routes', 'sysctls']);
  const bare: DeviceConfig[] = [];
  const addresses: DeviceAddress[] = [];
  for (const [index, entry] of listOf(root.devices, 'devices').entries()) {
    readDevice(entry, `devices[${index}]`, bare, addresses);
  }
  if (bare.length === 0)
    throw new HostSettingsError('devices', 'there is no device', 'name at least one: {"name": "eth0"}');
  const routes = listOf(root.routes, 'routes').map((entry, index) =>
    readRoute(entry, `routes[${index}]`, bare),
  );
  const sysctl = sysctlReader(root.sysctls, bare);
  const devices = bare.map((device) => ({ ...device, input: inputOfSysctls(device.name, sysctl) }));
  return { devices, addresses, routes: routes.flat(), connections: [], ...settingsOfSysctls(sysctl) };
}

function readDevice(
  entry: unknown,
  where: string,
  devices: DeviceConfig[],
  addresses: DeviceAddress[],
): void {
  const fields = fieldsOf(entry, where, ['name', 'mtu', 'ifindex', 'addresses']);
  const name = textOf(fields.name, `${where}.name`);
  if (!DEVICE_NAME.test(name))
    throw new HostSettingsError(`${where}.name`, `"${name}" is no device name`, '1 to 15 characters, no "/"');
  if (devices.some((device) => device.name === name))
    throw new HostSettingsError(`${where}.name`, `${name} is there already`, 'name each device once');
  const mtu = numberOf(fields.mtu, `${where}.mtu`, 68, 65_536);
  const ifindex = numberOf(fields.ifindex, `${where}.ifindex`, 1, 0x7fffffff);
  if (ifindex !== undefined && devices.some((device) => device.ifindex === ifindex))
    throw new HostSettingsError(`${where}.ifindex`, `${ifindex} is taken`, 'number each device once');
  devices.push({
    name,
    ...(mtu === undefined ? {} : { mtu }),
    ...(ifindex === undefined ? {} : { ifindex }),
  });
  for (const [index, text] of listOf(fields.addresses, `${where}.addresses`).entries()) {
    const at = `${where}.addresses[${index}]`;
    addresses.push({ device: name, prefix: prefixOf(textOf(text, at), at) });
  }
}

function readRoute(entry: unknown, where: string, devices: readonly DeviceConfig[]): StaticRoute[] {
  const fields = fieldsOf(entry, where, ['to', 'via', 'dev', 'type', 'metric']);
  const to = textOf(fields.to, `${where}.to`);
  const via = fields.via === undefined ? undefined : textOf(fields.via, `${where}.via`);
  const gateway = via === undefined ? undefined : parseAddress(via);
  if (via !== undefined && gateway === undefined)
    throw new HostSettingsError(`${where}.via`, `"${via}" is no address`, 'for example 192.0.2.254');
  const type = fields.type === undefined ? 'unicast' : textOf(fields.type, `${where}.type`);
  if (!isRouteType(type))
    throw new HostSettingsError(`${where}.type`, `"${type}" is no type of route`, ROUTE_TYPES.join(', '));
  const dev = fields.dev === undefined ? '' : textOf(fields.dev, `${where}.dev`);
  if (type === 'unicast' && !devices.some(({ name }) => name === dev))
    throw new HostSettingsError(`${where}.dev`, `there is no device "${dev}"`, 'name one of "devices"');
  const metric = numberOf(fields.metric, `${where}.metric`, 0, 0xffffffff);
  const prefixes = to === 'default' ? everything(gateway?.family) : [networkOf(prefixOf(to, `${where}.to`))];
  if (gateway !== undefined && prefixes.some(({ address }) => address.family !== gateway.family))
    throw new HostSettingsError(where, '"to" and "via" are of different families', 'give two routes');
  return prefixes.map((prefix) => ({
    prefix,
    device: dev,
    type,
    ...(gateway === undefined ? {} : { gateway: gateway.bytes }),
    ...(metric === undefined ? {} : { metric }),
  }));
}

function everything(family: Family | undefined): Prefix[] {
  const texts = family === 'ipv4' ? ['0.0.0.0/0'] : family === 'ipv6' ? ['::/0'] : ['0.0.0.0/0', '::/0'];
  return texts.map((text) => parsePrefix(text)!);
}

function sysctlReader(value: unknown, devices: readonly DeviceConfig[]): SysctlReader {
  const ofDevices = ['default', ...devices.map(({ name }) => name)].flatMap((device) =>
    DEVICE_SYSCTLS.map((name) => deviceSysctl(device, name)),
  );
  const fields = value === undefined ? {} : fieldsOf(value, 'sysctls', [...KNOWN_SYSCTLS, ...ofDevices]);
  return (name) => numberOf(fields[name], `sysctls["${name}"]`, 0, 0xffffffff);
}

function isRouteType(text: string): text is (typeof ROUTE_TYPES)[number] {
  return (ROUTE_TYPES as readonly string[]).includes(text);
}

function fieldsOf(value: unknown, where: string, known: readonly string[]): Fields {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new HostSettingsError(where, 'an object is expected', `with ${known.join(', ')}`);
  const unknown = Object.keys(value).find((name) => !known.includes(name));
  if (unknown !== undefined)
    throw new HostSettingsError(where, `"${unknown}" is not known here`, `known: ${known.join(', ')}`);
  return value as Fields;
}

function listOf(value: unknown, where: string): readonly unknown[] {
  if (value === undefined) return [];
  if (!Array.isArray(value)) throw new HostSettingsError(where, 'a list is expected', 'write [ ]');
  return value;
}

function textOf(value: unknown, where: string): string {
  if (typeof value !== 'string') throw new HostSettingsError(where, 'a text is expected', 'write "…"');
  return value;
}

function numberOf(value: unknown, where: string, min: number, max: number): number | undefined {
  if (value === undefined) return undefined;
  if (typeof value !== 'number' || !Number.isInteger(value) || value < min || value > max)
    throw new HostSettingsError(where, `${JSON.stringify(value)} is not possible`, `${min} to ${max}`);
  return value;
}

function prefixOf(text: string, where: string): Prefix {
  const prefix = parsePrefix(text);
  if (prefix === undefined)
    throw new HostSettingsError(
      where,
      `"${text}" is no address with a prefix length`,
      'such as 192.0.2.1/24',
    );
  return prefix;
}
