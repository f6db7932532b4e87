/**
 * Writes src/rules/names/{services,protocols}.generated.ts from the services and protocols files of Debian's
 * netbase, which are IANA's registries in the form that iptables resolves names by.
 *
 *   node scripts/names.mjs [directory that has services and protocols; default /etc]
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const directory = process.argv[2] ?? '/etc';

const lines = (name) =>
  readFileSync(join(directory, name), 'utf8')
    .split('\n')
    .map((line) => line.replace(/#.*/, '').trim().split(/\s+/))
    .filter((words) => words.length >= 2);

const head = (what) => `/** ${what}: written by scripts/names.mjs from Debian's netbase; do not edit. */\n`;
const quote = (text) => `'${text}'`;

const services = lines('services').map(([name, port, ...aliases]) => {
  const [number, protocol] = port.split('/');
  return `  [${number}, ${quote(protocol)}, [${[name, ...aliases].map(quote).join(', ')}]],`;
});
writeFileSync(
  'src/rules/names/services.generated.ts',
  `${head('Port, protocol, official name and aliases of services')}export const SERVICES: readonly (readonly [port: number, protocol: string, names: readonly string[]])[] = [\n${services.join('\n')}\n];\n`,
);

const protocols = lines('protocols').map(
  ([name, number, ...aliases]) => `  [${number}, [${[name, ...aliases].map(quote).join(', ')}]],`,
);
writeFileSync(
  'src/rules/names/protocols.generated.ts',
  `${head('Number, official name and aliases of IP protocols')}export const PROTOCOLS: readonly (readonly [number: number, names: readonly string[]])[] = [\n${protocols.join('\n')}\n];\n`,
);
