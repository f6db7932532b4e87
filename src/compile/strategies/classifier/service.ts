/**
 * Services: the scalar conditions of a chain's rules folded into one class number, or two where one would need too large a
 * table. Many rules ask for the same few combinations, so classes are found over the combinations, not over the rules.
 */
import type { ScalarField } from '../../../ir/index.ts';
import { FIELD_FACTS } from '../../emit/fact.ts';
import { CLASS_FIELDS, TRANSPORT_FIELDS } from './conditions.ts';
import { factPlace } from './facts.ts';
import type { Interval, Intervals } from './intervals.ts';
import { CHAIN_SERVICES, PacketKind, SERVICE_FIELD_SIZE, Service, ServiceField } from './layout.ts';
import { type Partition, partition } from './sweep.ts';
import { ChangingSet, EMPTY, VectorStore } from './vectors.ts';
import type { ImageWriter } from './writer.ts';

/** Cells of all fold tables of a service. */
const MAX_FOLDED = 1 << 19;
const PAGE = 256;

type Scalars = ReadonlyMap<ScalarField, Intervals>;

interface FieldClasses {
  readonly field: ScalarField;
  readonly pieces: Partition;
  /** Distinct sets, by class. */
  readonly vectors: readonly number[];
  /** Class by vector. */
  readonly byVector: ReadonlyMap<number, number>;
}

/** A service ready to be written. */
export interface PlannedService {
  readonly fields: readonly FieldClasses[];
  /** Fold tables of the fields after the first. */
  readonly folds: readonly Uint32Array[];
  /** Set of combinations, by class. */
  readonly classes: readonly number[];
}

export interface ServicePlan {
  readonly services: readonly PlannedService[];
  /** Fields that no service had room for. */
  readonly left: readonly ScalarField[];
  /** Rules by combination. */
  readonly combinations: readonly (readonly number[])[];
  readonly store: VectorStore;
}

export function planServices(rules: readonly Scalars[]): ServicePlan {
  const byKey = new Map<string, { scalars: Scalars; rules: number[] }>();
  for (const [rule, scalars] of rules.entries()) {
    const key = combinationKey(scalars);
    const known = byKey.get(key);
    if (known === undefined) byKey.set(key, { scalars, rules: [rule] });
    else known.rules.push(rule);
  }
  const combinations = [...byKey.values()];
  const store = new VectorStore(combinations.length);
  const fields: FieldClasses[] = [];
  for (const [field, maximum] of CLASS_FIELDS) {
    if (!combinations.some(({ scalars }) => scalars.has(field))) continue;
    const wanted = combinations.map(({ scalars }) => withOverrides(maximum, scalars.get(field)));
    fields.push(classify(field, partition(store, wanted, 1)));
  }
  fields.sort((a, b) => a.vectors.length - b.vectors.length);
  const services: PlannedService[] = [];
  const left: ScalarField[] = [];
  for (const field of fields) {
    const joined = services.findIndex(
      (service) => service.classes.length * field.vectors.length <= MAX_FOLDED,
    );
    if (joined >= 0) services[joined] = fold(store, services[joined]!, field);
    else if (services.length < CHAIN_SERVICES) {
      services.push({ fields: [field], folds: [], classes: field.vectors });
    } else left.push(field.field);
  }
  return { services, left, combinations: combinations.map(({ rules: own }) => own), store };
}

function combinationKey(scalars: Scalars): string {
  let key = '';
  for (const field of CLASS_FIELDS.keys()) {
    const wanted = scalars.get(field);
    if (wanted === undefined) continue;
    key += `;${field}`;
    for (const { low, high } of wanted) key += ` ${low[0]}:${high[0]}`;
  }
  return key;
}

/** Values above the field's own stand for packets that are odd: see layout.ts. */
const overrideOf = (maximum: number): { later: number; odd: number } => ({
  later: maximum + 1,
  odd: maximum + 2,
});

function withOverrides(maximum: number, wanted: Intervals | undefined): Intervals | undefined {
  if (wanted === undefined) return undefined;
  const { odd } = overrideOf(maximum);
  const always: Interval = { low: [odd], high: [odd] };
  return [...wanted, always];
}

function classify(field: ScalarField, pieces: Partition): FieldClasses {
  const byVector = new Map<number, number>();
  for (const vector of pieces.vectors) if (!byVector.has(vector)) byVector.set(vector, byVector.size);
  return { field, pieces, vectors: [...byVector.keys()], byVector };
}

function fold(store: VectorStore, service: PlannedService, field: FieldClasses): PlannedService {
  const table = new Uint32Array(service.classes.length * field.vectors.length);
  const classes = new Map<number, number>();
  let at = 0;
  for (const left of service.classes) {
    for (const right of field.vectors) {
      const both = store.and(left, right);
      const known = classes.get(both) ?? classes.size;
      classes.set(both, known);
      table[at] = known;
      at += 1;
    }
  }
  return {
    fields: [...service.fields, field],
    folds: [...service.folds, table],
    classes: [...classes.keys()],
  };
}

/** Writes a service whose classes are sets of rules of `rules`. Its offset. */
export function writeService(
  image: ImageWriter,
  rules: VectorStore,
  plan: ServicePlan,
  service: PlannedService,
): number {
  const vectors = image.reserve(service.classes.length * 4);
  const set = new ChangingSet(rules);
  let before: number = EMPTY;
  for (const [index, combinations] of service.classes.entries()) {
    plan.store.difference(
      before,
      combinations,
      (combination) => {
        for (const rule of plan.combinations[combination]!) set.delete(rule);
      },
      (combination) => {
        for (const rule of plan.combinations[combination]!) set.add(rule);
      },
    );
    before = combinations;
    image.cell(vectors + index * 4, rules.write(set.vector(), image));
  }
  const fields = service.fields.map((field) => ({ field, pages: writePages(image, field) }));
  const folds = service.folds.map((table) => writeFold(image, table));
  const offset = image.reserve(Service.first + service.fields.length * SERVICE_FIELD_SIZE);
  image.u32(offset + Service.fields, service.fields.length);
  image.pointer(offset + Service.vectors, vectors);
  for (const [index, { field, pages }] of fields.entries()) {
    const at = offset + Service.first + index * SERVICE_FIELD_SIZE;
    image.u32(at + ServiceField.fact, factPlace(FIELD_FACTS[field.field]!));
    image.pointer(at + ServiceField.pages, pages.offset);
    image.u32(at + ServiceField.maximum, pages.maximum);
    const maximum = CLASS_FIELDS.get(field.field)!;
    const { later, odd } = overrideOf(maximum);
    const override = (kind: number, value: number): void =>
      image.u32(at + ServiceField.overrides + kind * 4, value);
    // What would drop an odd packet may come before a condition that it does not fit: both are asked at the rule's turn.
    if (TRANSPORT_FIELDS.has(field.field)) override(PacketKind.laterFragment, later);
    if (field.field !== 'ip.protocol') override(PacketKind.short, odd);
    override(PacketKind.noProtocol, odd);
    const table = folds[index - 1];
    if (table === undefined) continue;
    image.u32(at + ServiceField.classes, field.vectors.length);
    image.pointer(at + ServiceField.fold, table);
  }
  return offset;
}

function writeFold(image: ImageWriter, table: Uint32Array): number {
  const offset = image.reserve(table.length * 4);
  for (const [cell, value] of table.entries()) image.u32(offset + cell * 4, value);
  return offset;
}

function writePages(image: ImageWriter, field: FieldClasses): { offset: number; maximum: number } {
  const { keys, vectors } = field.pieces;
  const maximum = Math.max(keys.at(-1)!, CLASS_FIELDS.get(field.field)! + 2);
  const count = (maximum >>> 8) + 1;
  const offset = image.reserve(count * 4);
  const known = new Map<string, number>();
  let piece = 0;
  const classes = new Uint32Array(PAGE);
  for (let page = 0; page < count; page++) {
    for (let place = 0; place < PAGE; place++) {
      while (piece + 1 < keys.length && keys[piece + 1]! <= page * PAGE + place) piece += 1;
      classes[place] = field.byVector.get(vectors[piece]!)!;
    }
    const key = classes.join();
    let at = known.get(key);
    if (at === undefined) {
      at = image.reserve(PAGE * 4);
      for (const [place, value] of classes.entries()) image.u32(at + place * 4, value);
      known.set(key, at);
    }
    image.pointer(offset + page * 4, at);
  }
  return { offset, maximum };
}
