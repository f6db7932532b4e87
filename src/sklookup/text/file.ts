/** What a bindings file says: the bindings, and how labels behave. */
import { type Binding, formatBinding } from '../binding.ts';
import { inPrecedence } from '../precedence.ts';

export interface LabelOptions {
  /** What becomes of packets while the label has no live socket. */
  readonly whenEmpty: 'drop' | 'pass';
  /** One socket (with SO_REUSEPORT the kernel spreads within its group), or several, spread by a hash of the flow. */
  readonly spread: 'reuseport' | 'hash';
  /** Whether UDP flows stay with the socket that they met first. */
  readonly flows: 'keep' | 'forget';
}
export const DEFAULT_LABEL_OPTIONS: LabelOptions = { whenEmpty: 'drop', spread: 'reuseport', flows: 'keep' };

export interface BindingFile {
  readonly bindings: readonly Binding[];
  /** Only labels whose options were given. */
  readonly labels: ReadonlyMap<string, LabelOptions>;
}

/** How a label behaves. */
export function labelOptions(labels: BindingFile['labels'], label: string): LabelOptions {
  return labels.get(label) ?? DEFAULT_LABEL_OPTIONS;
}

/** The line that says a label's options. */
export function formatLabel(label: string, { whenEmpty, spread, flows }: LabelOptions): string {
  return `label ${label} when-empty ${whenEmpty} spread ${spread} flows ${flows}`;
}

/** The text form; parsing it gives the same bindings in the same order. */
export function formatBindingFile(file: BindingFile): string {
  const labels = [...file.labels].sort(([a], [b]) => (a < b ? -1 : 1));
  const lines = [...labels.map(([label, options]) => formatLabel(label, options))];
  for (const binding of file.bindings) lines.push(formatBinding(binding));
  return lines.length === 0 ? '' : `${lines.join('\n')}\n`;
}

/** As {@link formatBindingFile}, bindings in the order of precedence. */
export function formatInPrecedence(file: BindingFile): string {
  return formatBindingFile({ ...file, bindings: inPrecedence(file.bindings) });
}
