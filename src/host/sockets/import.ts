/**
 * Bindings out of what other tools say: TPROXY and REDIRECT rules of iptables-save, and the JSON of tubular. What a
 * binding cannot say is reported, never guessed.
 */
import {
  ALL_PORTS,
  networkOf,
  type PortRange,
  type Prefix,
  parsePortRange,
  parsePrefix,
} from '../../net/index.ts';
import {
  type Chain,
  parseRuleset,
  printRule,
  type Rule,
  RulesetError,
  type Span,
} from '../../rules/index.ts';
import {
  type Binding,
  type BindingFile,
  BindingsError,
  findConflicts,
  formatBinding,
  isLabel,
  type Protocol,
  parseBindings,
} from '../../sklookup/index.ts';

/** A rule or entry that became no binding. */
export interface NotImported {
  readonly what: string;
  readonly reason: string;
  readonly span: Span;
}

export interface Imported {
  readonly file: BindingFile;
  readonly notImported: readonly NotImported[];
  /** What to know about the result. */
  readonly remarks: readonly string[];
}

/**
 * Reads either form; JSON begins with a brace.
 * @throws {RulesetError} {BindingsError} when the text is neither
 */
export function importBindings(text: string, file: string): Imported {
  return text.trimStart().startsWith('{') ? importJson(text, file) : importRules(text, file);
}

/** tubular's `{"bindings":[{"label","prefix","port"}]}`: each entry means TCP and UDP, port 0 every port. */
function importJson(text: string, file: string): Imported {
  let entries: unknown;
  try {
    entries = (JSON.parse(text) as { bindings?: unknown }).bindings;
  } catch {
    // The reader of our own form says where the text is no JSON.
    return { file: parseBindings(text, file), notImported: [], remarks: [] };
  }
  const foreign =
    Array.isArray(entries) &&
    entries.some((entry) => typeof entry === 'object' && entry !== null && 'port' in entry);
  if (!foreign) return { file: parseBindings(text, file), notImported: [], remarks: [] };
  const bindings: Binding[] = [];
  const notImported: NotImported[] = [];
  for (const [index, entry] of (entries as unknown[]).entries()) {
    const read = readForeign(entry);
    if (typeof read !== 'string') bindings.push(...read);
    else {
      const span = { file, line: 1, column: 1, length: 1 };
      notImported.push({ what: `bindings[${index}] ${JSON.stringify(entry)}`, reason: read, span });
    }
  }
  return settle(bindings, notImported, []);
}

function readForeign(entry: unknown): Binding[] | string {
  if (typeof entry !== 'object' || entry === null) return 'an entry is an object';
  const { label, prefix: prefixText, port, ...rest } = entry as Record<string, unknown>;
  const unknown = Object.keys(rest);
  if (unknown.length > 0) return `"${unknown[0]}" is not known`;
  if (typeof label !== 'string' || !isLabel(label)) return 'the label is none';
  const prefix = typeof prefixText === 'string' ? parsePrefix(prefixText) : undefined;
  if (prefix === undefined) return 'the prefix is none';
  if (typeof port !== 'number' || !Number.isInteger(port) || port < 0 || port > 0xffff)
    return 'the port is none';
  const ports = port === 0 ? ALL_PORTS : { min: port, max: port };
  return (['tcp', 'udp'] as const).map((protocol) => ({ label, protocol, prefix: networkOf(prefix), ports }));
}

function importRules(text: string, file: string): Imported {
  const { ruleset, diagnostics } = parseRuleset(text, { file });
  const errors = diagnostics.filter(({ severity }) => severity === 'error');
  if (errors.length > 0) throw new RulesetError(errors);
  const bindings: Binding[] = [];
  const notImported: NotImported[] = [];
  const labels = new Map<string, number>();
  for (const table of ruleset.tables) {
    for (const chain of table.chains) {
      for (const rule of chain.rules) {
        const { target } = rule;
        if (target?.kind !== 'extension' || (target.name !== 'TPROXY' && target.name !== 'REDIRECT'))
          continue;
        const what = printRule(rule, chain.name, ruleset.family);
        const read = readRule(what, rule, chain, ruleset.family === 'ipv4' ? '0.0.0.0/0' : '::/0');
        if (typeof read === 'string') notImported.push({ what, reason: read, span: rule.span });
        else {
          bindings.push(...read.bindings);
          labels.set(read.label, read.port);
        }
      }
    }
  }
  const remarks = [...labels].map(
    ([label, port]) => `${label}: register the socket that listens at port ${port}`,
  );
  if (bindings.length > 0)
    remarks.push(
      'TPROXY and REDIRECT also take packets for addresses of others; bindings take local ones only',
    );
  return settle(bindings, notImported, remarks);
}

interface ReadRule {
  readonly bindings: readonly Binding[];
  readonly label: string;
  readonly port: number;
}

/** A rule as bindings, or why not. Works on the canonical text, where each option has one spelling. */
function readRule(text: string, rule: Rule, chain: Chain, everywhere: string): ReadRule | string {
  if (chain.name !== 'PREROUTING') return `it stands in ${chain.name}: only PREROUTING sees what arrives`;
  const { base } = rule;
  if (base.protocol === undefined || base.protocol.negate) return 'a binding names its protocol';
  const protocol: Protocol | undefined =
    base.protocol.number === 6 ? 'tcp' : base.protocol.number === 17 ? 'udp' : undefined;
  if (protocol === undefined) return 'only TCP and UDP are looked up by programs';
  let prefix = parsePrefix(everywhere)!;
  let source: Prefix | undefined;
  let device: string | undefined;
  let ports: readonly PortRange[] = [ALL_PORTS];
  let remotePort: number | undefined;
  let socketPort = 0;
  const words = text.split(' ').slice(2);
  for (let at = 0; at < words.length; at++) {
    const option = words[at]!;
    if (option === '!') return 'a binding has no negation';
    if (option === '-m' && ['tcp', 'udp', 'multiport', 'comment'].includes(words[at + 1]!)) {
      at++;
      continue;
    }
    const value = words[++at] ?? '';
    switch (option) {
      case '-p':
      case '-j':
      case '--tproxy-mark':
      case '--on-ip':
        break;
      case '--comment':
        while (value.startsWith('"') && !words[at]!.endsWith('"') && at < words.length) at++;
        break;
      case '-d':
      case '-s': {
        const read = parsePrefix(value);
        if (read === undefined) return `${value} is no prefix`;
        if (option === '-d') prefix = networkOf(read);
        else source = networkOf(read);
        break;
      }
      case '-i':
        if (value.endsWith('+')) return 'a binding names one device';
        device = value;
        break;
      case '--dport':
      case '--dports': {
        const read = value.split(',').map(parsePortRange);
        if (read.includes(undefined)) return `${value} are no ports`;
        ports = read as PortRange[];
        break;
      }
      case '--sport': {
        const read = parsePortRange(value);
        if (read === undefined || read.min !== read.max) return 'a binding names one remote port';
        remotePort = read.min;
        break;
      }
      case '--on-port':
      case '--to-ports': {
        const read = parsePortRange(value);
        if (read === undefined || read.min !== read.max) return 'it chooses among several ports';
        socketPort = read.min;
        break;
      }
      default:
        return `a binding cannot say ${option}${option === '-m' ? ` ${value}` : ''}`;
    }
  }
  if (socketPort === 0) return 'it keeps the port, so that many sockets would be meant';
  const label = `port-${socketPort}`;
  const conditions = {
    ...(source === undefined ? {} : { source }),
    ...(device === undefined ? {} : { device }),
    ...(remotePort === undefined ? {} : { remotePort }),
  };
  const bindings = ports.map((range) => ({ label, protocol, prefix, ports: range, ...conditions }));
  return { bindings, label, port: socketPort };
}

/** Of bindings that conflict the earlier one stays: rules are asked in order. */
function settle(
  bindings: readonly Binding[],
  notImported: readonly NotImported[],
  remarks: readonly string[],
): Imported {
  const lost = new Set(findConflicts(bindings).map(({ second }) => second));
  const file = { bindings: bindings.filter((_, index) => !lost.has(index)), labels: new Map() };
  if (findConflicts(file.bindings).length > 0) throw new BindingsError([]);
  const hidden = [...lost].map(
    (index) => `${formatBinding(bindings[index]!)}: left out, an earlier one takes this traffic`,
  );
  return { file, notImported, remarks: [...remarks, ...hidden] };
}
