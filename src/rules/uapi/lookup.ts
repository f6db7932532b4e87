/** Matches and targets by the name and revision that stand in an entry: xt_find_match and xt_find_revision (net/netfilter/x_tables.c). */
import type { Family } from '../../net/index.ts';
import type { MatchExtension, TargetExtension } from '../extension.ts';
import { allExtensions } from '../registry.ts';
import { AbiErrno, AbiError, refuse } from './errno.ts';
import { ERROR_TARGET, EXTENSION_NAME_BYTES, STANDARD_TARGET } from './layout.ts';
import type { AbiForm } from './payload.ts';

export type ExtensionKind = 'match' | 'target';

/** A form and the extension whose state it decodes to. */
export interface KnownForm<E extends MatchExtension | TargetExtension = MatchExtension | TargetExtension> {
  readonly extension: E;
  readonly form: AbiForm<unknown>;
}

/** All forms of one name in one family. */
interface Named {
  readonly forms: KnownForm[];
}

type Index = Readonly<Record<ExtensionKind, Readonly<Record<Family, Map<string, Named>>>>>;

let index: Index | undefined;

/** Made at the first use: reading rules as text needs none of it. */
function forms(): Index {
  if (index !== undefined) return index;
  const made: Index = {
    match: { ipv4: new Map(), ipv6: new Map() },
    target: { ipv4: new Map(), ipv6: new Map() },
  };
  for (const extension of allExtensions()) {
    for (const form of extension.abi ?? []) {
      for (const family of form.families ?? extension.families) {
        const names = made[extension.kind][family];
        const named = names.get(form.name) ?? { forms: [] };
        named.forms.push({ extension, form });
        names.set(form.name, named);
      }
    }
  }
  index = made;
  return made;
}

/** The forms with this name and revision: one, or several that tell their payloads apart. @throws {AbiError} */
export function findForms(
  kind: ExtensionKind,
  family: Family,
  name: string,
  revision: number,
): readonly KnownForm[] {
  if (name.length === EXTENSION_NAME_BYTES) refuse(`the name of a ${kind} is not terminated`);
  const named = forms()[kind][family].get(name)?.forms ?? [];
  const found = named.filter(({ form }) => form.revision === revision);
  if (found.length > 0) return found;
  if (named.some(({ form }) => form.everyFamily === true))
    throw new AbiError(AbiErrno.EPROTOTYPE, `${kind} ${name} has no revision ${revision}`);
  throw new AbiError(AbiErrno.ENOENT, `${kind} "${name}" revision ${revision} is not known`);
}

/** Answers a revision query: nothing when the revision exists. @throws {AbiError} */
export function findRevision(kind: ExtensionKind, family: Family, name: string, revision: number): void {
  const builtin = kind === 'target' && (name === STANDARD_TARGET || name === ERROR_TARGET);
  const revisions = builtin
    ? [0]
    : (forms()[kind][family].get(name)?.forms ?? []).map(({ form }) => form.revision);
  if (revisions.length === 0) throw new AbiError(AbiErrno.ENOENT, `${kind} "${name}" is not known`);
  if (!revisions.includes(revision))
    throw new AbiError(AbiErrno.EPROTONOSUPPORT, `${kind} ${name} has no revision ${revision}`);
}

/** The form in which an extension is written for a family; `undefined` when it is not known over the ABI. */
export function writtenForm(
  extension: MatchExtension | TargetExtension,
  family: Family,
): AbiForm<unknown> | undefined {
  return extension.abi?.find((form) => (form.families ?? extension.families).includes(family));
}
