/**
 * The JSON form of bindings:
 *
 *     {"labels":   {"web": {"whenEmpty": "drop", "spread": "hash", "flows": "keep"}},
 *      "bindings": [{"label": "web", "protocol": "tcp", "prefix": "192.0.2.0/24", "ports": "443",
 *                    "source": "198.51.100.0/24", "remotePort": 53, "device": "eth0"}]}
 *
 * `ports` is a number, a range or "all". Names that are not known are errors.
 */
import { formatPortRange, formatPrefix } from '../../net/index.ts';
import { type Binding, isAllPorts } from '../binding.ts';
import type { BindingFindingCode } from '../error.ts';
import { type BindingFile, DEFAULT_LABEL_OPTIONS, type LabelOptions } from './file.ts';
import type { Findings } from './findings.ts';
import { type JsonNode, JsonSyntaxError, readJson } from './json-source.ts';
import {
  type Read,
  readChoice,
  readDevice,
  readLabel,
  readPorts,
  readPrefix,
  readProtocol,
  readRemotePort,
} from './words.ts';

/** The file as data for JSON.stringify. */
export function bindingFileJson(file: BindingFile): Readonly<Record<string, unknown>> {
  return { version: 1, labels: Object.fromEntries(file.labels), bindings: file.bindings.map(bindingJson) };
}

/** One binding as data; texts are those of the text form. */
export function bindingJson(binding: Binding): Readonly<Record<string, unknown>> {
  const { label, protocol, prefix, ports, source, remotePort, device } = binding;
  return {
    label,
    protocol,
    prefix: formatPrefix(prefix),
    ports: isAllPorts(ports) ? 'all' : formatPortRange(ports),
    ...(source === undefined ? {} : { source: formatPrefix(source) }),
    ...(remotePort === undefined ? {} : { remotePort }),
    ...(device === undefined ? {} : { device }),
  };
}

/** Reads the JSON form; what is wrong goes to `findings`. */
export function parseJsonBindings(
  text: string,
  findings: Findings,
): { bindings: Binding[]; lines: number[]; labels: Map<string, LabelOptions> } {
  const reader = new JsonBindings(text, findings);
  reader.read();
  return reader;
}

class JsonBindings {
  readonly bindings: Binding[] = [];
  readonly lines: number[] = [];
  readonly labels = new Map<string, LabelOptions>();
  readonly #text: string;
  readonly #findings: Findings;
  /** Offsets of the lines' beginnings. */
  readonly #starts: number[] = [0];

  constructor(text: string, findings: Findings) {
    this.#text = text;
    this.#findings = findings;
    for (let at = text.indexOf('\n'); at >= 0; at = text.indexOf('\n', at + 1)) this.#starts.push(at + 1);
  }

  read(): void {
    let root: JsonNode;
    try {
      root = readJson(this.#text);
    } catch (error) {
      if (!(error instanceof JsonSyntaxError)) throw error;
      this.#report('BINDINGS_SYNTAX', error.at, error.at + 1, `no JSON: ${error.message}`, 'see RFC 8259');
      return;
    }
    const members = this.#members(root, ['version', 'labels', 'bindings']);
    const labels = members?.get('labels');
    if (labels !== undefined) {
      for (const [name, node] of this.#members(labels) ?? []) this.#readLabel(name, node);
    }
    const version = members?.get('version');
    if (version !== undefined && (version.kind !== 'value' || version.value !== 1))
      this.#bad(version, 'this form has version 1', 'leave the version out, or give 1');
    const bindings = members?.get('bindings');
    if (bindings === undefined) return;
    if (bindings.kind !== 'array') this.#bad(bindings, 'bindings are an array', 'give [{"label":…},…]');
    else for (const item of bindings.items) this.#readBinding(item);
  }

  #lineOf(at: number): number {
    let [low, high] = [0, this.#starts.length];
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (this.#starts[middle]! <= at) low = middle;
      else high = middle;
    }
    return low + 1;
  }

  #report(code: BindingFindingCode, at: number, end: number, message: string, hint: string): void {
    const line = this.#lineOf(at);
    const column = at - this.#starts[line - 1]! + 1;
    const length = Math.max(1, Math.min(end, this.#starts[line] ?? this.#text.length + 1) - at);
    this.#findings.add(code, line, column, length, message, hint);
  }

  #bad(node: JsonNode, message: string, hint: string): undefined {
    this.#report('BINDINGS_VALUE', node.at, node.end, message, hint);
    return undefined;
  }

  #members(node: JsonNode, known?: readonly string[]): ReadonlyMap<string, JsonNode> | undefined {
    if (node.kind !== 'object') return this.#bad(node, 'this is no object', 'give {"name": value, …}');
    for (const [name, member] of node.members) {
      if (known !== undefined && !known.includes(name))
        this.#bad(member, `"${name}" is not known here`, `known are ${known.join(', ')}`);
    }
    return node.members;
  }

  /** A string, or a number as its digits. */
  #read<T>(node: JsonNode | undefined, read: (text: string) => Read<T>): T | undefined {
    if (node === undefined) return undefined;
    if (node.kind !== 'value' || (typeof node.value !== 'string' && typeof node.value !== 'number'))
      return this.#bad(node, 'this is no string or number', 'give the words of the text form');
    const result = read(String(node.value));
    return 'value' in result ? result.value : this.#bad(node, result.message, result.hint);
  }

  #readLabel(name: string, node: JsonNode): void {
    const before = this.#findings.list.length;
    const label = readLabel(name);
    if (!('value' in label)) this.#bad(node, label.message, label.hint);
    const members = this.#members(node, ['whenEmpty', 'spread', 'flows']);
    const whenEmpty = this.#read(members?.get('whenEmpty'), (text) => readChoice(text, ['drop', 'pass']));
    const spread = this.#read(members?.get('spread'), (text) => readChoice(text, ['reuseport', 'hash']));
    const flows = this.#read(members?.get('flows'), (text) => readChoice(text, ['keep', 'forget']));
    if (this.#findings.list.length > before) return;
    this.labels.set(name, {
      whenEmpty: whenEmpty ?? DEFAULT_LABEL_OPTIONS.whenEmpty,
      spread: spread ?? DEFAULT_LABEL_OPTIONS.spread,
      flows: flows ?? DEFAULT_LABEL_OPTIONS.flows,
    });
  }

  #readBinding(node: JsonNode): void {
    const before = this.#findings.list.length;
    const known = ['label', 'protocol', 'prefix', 'ports', 'source', 'remotePort', 'device'];
    const members = this.#members(node, known);
    if (members === undefined) return;
    const label = this.#read(members.get('label'), readLabel);
    const protocol = this.#read(members.get('protocol'), readProtocol);
    const prefix = this.#read(members.get('prefix'), readPrefix);
    const ports = this.#read(members.get('ports'), readPorts);
    const source = this.#read(members.get('source'), readPrefix);
    const remotePort = this.#read(members.get('remotePort'), readRemotePort);
    const device = this.#read(members.get('device'), readDevice);
    for (const name of ['label', 'protocol', 'prefix', 'ports'])
      if (!members.has(name)) this.#bad(node, `"${name}" is missing`, `a binding needs it`);
    if (source !== undefined && prefix !== undefined && source.address.family !== prefix.address.family)
      this.#bad(
        members.get('source')!,
        'source and destination are of different families',
        'give one family',
      );
    if (this.#findings.list.length > before) return;
    if (label === undefined || protocol === undefined || prefix === undefined || ports === undefined) return;
    this.lines.push(this.#lineOf(node.at));
    this.bindings.push({
      label,
      protocol,
      prefix,
      ports,
      ...(source === undefined ? {} : { source }),
      ...(remotePort === undefined ? {} : { remotePort }),
      ...(device === undefined ? {} : { device }),
    });
  }
}
