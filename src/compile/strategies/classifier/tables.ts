/** The tables of a policy: one image that the one program of each hook flavour reads. */
import { type Action, changedKeys, type IrRule, type Predicate, type SetKey } from '../../../ir/index.ts';
import type { Family } from '../../../net/index.ts';
import type { TableImage } from '../../arena/image.ts';
import { type AttachPoint, entryIndex, sharedPlace } from '../../attach.ts';
import type { MarkChanges } from '../../emit/emission.ts';
import { hookEmitter } from '../../hooks/index.ts';
import type { ProgramPlan } from '../../plan.ts';
import { isConnectionField } from '../../predicates/connection.ts';
import type { SectionPlan } from '../../section.ts';
import { planCalls } from '../inline/calls.ts';
import type { ChainRun } from '../inline/chain.ts';
import { ChainNumbers, type ChainParts, type ChainReport, ChainWriter } from './chains.ts';
import { TRANSPORT_FIELDS } from './conditions.ts';
import {
  DE_BRUIJN,
  ENTRY_SIZE,
  Entry,
  MAX_CHAIN_RULES,
  MAX_DEPTH,
  Need,
  TABLES_HEADER_SIZE,
  TABLES_MAGIC,
  TABLES_VERSION,
  TablesHeader,
} from './layout.ts';
import { SET_FEATURES, type SetUse, setUse } from './setuse.ts';
import { EXTENSION_HEADERS } from './variants.ts';
import { ImageWriter } from './writer.ts';

export interface ClassifierTables {
  readonly image: TableImage;
  readonly chains: readonly ChainReport[];
}

/** Why the tables cannot take a plan; `undefined` when they can. */
export function whyNoTables(plan: ProgramPlan): string | undefined {
  const answers = hookEmitter(plan.point).answering !== undefined;
  for (const section of plan.sections) {
    for (const run of runsOf(section)) {
      const { named, level } = planCalls(run.table.chains, run.chain);
      const deepest = Math.max(...level.values());
      if (deepest > MAX_DEPTH) return `chains call each other ${deepest} deep, tables allow ${MAX_DEPTH}`;
      for (const chain of named) {
        if (chain.rules.length > MAX_CHAIN_RULES) {
          return `chain ${chain.name} has ${chain.rules.length} rules, tables allow ${MAX_CHAIN_RULES}`;
        }
        for (const rule of chain.rules) {
          if (answers && rule.action.kind === 'reject') {
            return `chain ${chain.name}, rule ${rule.source.rule}: tables make no answers here`;
          }
          const why = rule.predicates.map(whyNoNode).find((reason) => reason !== undefined);
          if (why !== undefined) return `chain ${chain.name}, rule ${rule.source.rule}: ${why}`;
        }
      }
    }
  }
  return undefined;
}

export function whyNoNode(predicate: Predicate): string | undefined {
  switch (predicate.kind) {
    case 'all':
    case 'any':
      return predicate.of.map(whyNoNode).find((reason) => reason !== undefined);
    case 'not':
      return whyNoNode(predicate.of);
    case 'extension-header':
      return EXTENSION_HEADERS.some(
        ({ protocol, minimumBytes, whole }) =>
          protocol === predicate.protocol &&
          minimumBytes === predicate.minimumBytes &&
          whole === predicate.whole,
      )
        ? undefined
        : `no table form for extension header ${predicate.protocol}`;
    case 'scalar':
    case 'address':
    case 'address-range':
      return isConnectionField(predicate.field) ? `no table form for ${predicate.field}` : undefined;
    case 'sctp-chunks':
      return 'SCTP chunks are walked by code';
    default:
      return undefined;
  }
}

/** Tables for all attach points of the plans. */
export function buildTables(plans: readonly ProgramPlan[], parts: ChainParts): ClassifierTables {
  const image = new ImageWriter();
  image.reserve(TABLES_HEADER_SIZE);
  image.u32(TablesHeader.magic, TABLES_MAGIC);
  image.u32(TablesHeader.version, TABLES_VERSION);
  for (let place = 0; place < 64; place++) {
    const product = BigInt.asUintN(64, (1n << BigInt(place)) * DE_BRUIJN);
    image.u8(TablesHeader.bitPlaces + Number(product >> 58n), place);
  }
  const writers: Partial<Record<Family, ChainWriter>> = {};
  const numbers = new ChainNumbers();
  const headerBytes: { entry: number; writer: ChainWriter }[] = [];
  for (const plan of plans) {
    for (const section of plan.sections) {
      const { family } = section;
      const writer = writers[family] ?? new ChainWriter(image, family, parts, numbers);
      writers[family] = writer;
      const entry = writeEntry(image, plan.point, section, writer, plannedSetUse(plans, plan.point));
      headerBytes.push({ entry, writer });
    }
  }
  for (const { entry, writer } of headerBytes) {
    for (const [protocol, bytes] of writer.headerBytes.entries()) {
      image.u8(entry + Entry.headerBytes + protocol, bytes);
    }
  }
  const places = image.reserve(numbers.count * 4);
  image.pointer(TablesHeader.chains, places);
  writeMarks(image, 0, parts.handed.marks);
  image.u32(TablesHeader.chainCount, numbers.count);
  for (const writer of Object.values(writers)) {
    for (const [number, offset] of writer.offsets) image.pointer(places + number * 4, offset);
  }
  const chains = Object.values(writers).flatMap(({ reports }) => reports);
  return { image: image.finish(), chains };
}

/** What rules do to marks, for the tables whose header lies at `header`. */
export function writeMarks(image: ImageWriter, header: number, { bits, whole }: MarkChanges): void {
  image.u32(header + TablesHeader.markBits, bits);
  image.u32(header + TablesHeader.markWhole, whole ? 1 : 0);
}

function writeEntry(
  image: ImageWriter,
  point: AttachPoint,
  section: SectionPlan,
  writer: ChainWriter,
  sets: SetUse,
): number {
  const lists = { before: section.before, local: section.local, forward: section.forward ?? [] };
  const entry = image.reserve(ENTRY_SIZE, 64);
  for (const list of ['before', 'local', 'forward'] as const) {
    const chains = lists[list].map((run) => writer.write(run));
    const at = image.reserve((chains.length + 1) * 4);
    for (const [index, chain] of chains.entries()) image.u32(at + index * 4, chain);
    image.pointer(entry + Entry[list], at);
  }
  let needs = section.forward === undefined ? 0 : Need.route;
  for (const run of runsOf(section)) {
    for (const chain of planCalls(run.table.chains, run.chain).named) needs |= needsOf(chain.rules);
  }
  image.u32(entry + Entry.needs, needs);
  image.u32(entry + Entry.features, SET_FEATURES[sets]);
  const place = entryIndex(point) * 2 + (section.family === 'ipv6' ? 1 : 0);
  image.pointer(TablesHeader.entries + place * 4, entry);
  return entry;
}

function actionNeed(action: Action): number {
  if (action.kind === 'log') return Need.devices | Need.mark;
  if (action.kind === 'set') return changedKeys(action).reduce((needs, key) => needs | keyNeed(key), 0);
  return action.kind === 'mark' ? Need.mark : 0;
}

function keyNeed({ words }: SetKey): number {
  let needs = 0;
  for (const { from } of words) {
    if (from === 'in' || from === 'out') needs |= Need.devices;
    else if (from === 'mark') needs |= Need.mark;
    else if (from.startsWith('mac.')) needs |= Need.mac;
    else if (from.includes('port.')) needs |= Need.ports;
  }
  return needs;
}

function predicateNeed(predicate: Predicate): number {
  switch (predicate.kind) {
    case 'all':
    case 'any':
      return predicate.of.reduce((needs, part) => needs | predicateNeed(part), 0);
    case 'not':
      return predicateNeed(predicate.of);
    case 'device':
      return Need.devices;
    case 'address-type':
      return predicate.limitTo === 'none' ? 0 : Need.devices;
    case 'mac-source':
      return Need.mac;
    case 'set':
      return keyNeed(predicate.key);
    case 'scalar':
      if (predicate.field.startsWith('ct.')) return Need.connection;
      if (predicate.field.startsWith('meta.')) return Need.mark;
      if (predicate.field === 'tcp.flags') return Need.tcpFlags;
      return TRANSPORT_FIELDS.has(predicate.field) ? Need.ports : 0;
    default:
      return 0;
  }
}

/** What rules want found before they are asked. */
export function needsOf(rules: readonly IrRule[]): number {
  let needs = 0;
  for (const { action, predicates } of rules) {
    needs |= actionNeed(action);
    for (const predicate of predicates) needs |= predicateNeed(predicate);
  }
  return needs;
}

/** What rules do with sets, those of all plans whose program is that of `point`. */
export function plannedSetUse(plans: readonly ProgramPlan[], point: AttachPoint): SetUse {
  const own = plans.filter((plan) => sharedPlace(plan.point) === sharedPlace(point));
  const chains = own.flatMap(({ sections }) =>
    sections.flatMap((section) =>
      runsOf(section).flatMap((run) => planCalls(run.table.chains, run.chain).named),
    ),
  );
  return setUse(chains.flatMap(({ rules }) => rules));
}

function runsOf({ before, local, forward = [] }: SectionPlan): readonly ChainRun[] {
  return [...before, ...local, ...forward];
}
