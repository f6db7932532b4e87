/** The kernel objects of one policy: opened from their pins, made and pinned where they are missing. */
import { createHash } from 'node:crypto';
import { mkdirSync, renameSync, rmSync } from 'node:fs';
import {
  ACTIONS_MAP,
  ACTIONS_SIZE,
  type ActionFilter,
  ARENA_VERSION,
  ArenaHeader,
  type AttachPoint,
  buildActionFilter,
  buildBackstop,
  buildDispatcher,
  type CompiledProgram,
  entryIndex,
  FIRST_PROGRAM_INDEX,
  type FlightRole,
  GENERATIONS_OFFSET,
  initializeArena,
  type MapDescription,
  PROGRAM_ARRAY_SIZE,
  programArrayName,
} from '../../compile/index.ts';
import { encodeProgram } from '../../isa/index.ts';
import {
  type Arena,
  BpfMap,
  kernelTypes,
  linkProgram,
  openPinnedMap,
  openPinnedProgram,
  Program,
  pin,
  possibleCpus,
  replacePin,
  unpin,
} from '../../kernel/index.ts';
import { createArena, forgetArena, openArena } from '../arenas.ts';
import {
  type GenerationDocument,
  type KernelAids,
  type NetnsDocument,
  type PlacedProgram,
  type PolicyDocument,
  readDocument,
  writeDocument,
} from './document.ts';
import { PolicyError } from './error.ts';
import { LiveGeneration, OPEN_ROOT, writeOpenGeneration } from './generation.ts';
import { decodeNote, type EditNote } from './note.ts';
import { entriesOf, PolicyPlace } from './place.ts';
import { type NetnsRecord, Records } from './record.ts';
import { RuleState } from './rulestate.ts';
import { setExtents } from './setextents.ts';

const ARENA_BYTES = 2 ** 30;
const PAGE = 4096;

/** What a program or socket filter is loaded from: attach types are for programs that have one. */
type Loadable = Omit<CompiledProgram, 'point' | 'attachType'> & Partial<Pick<CompiledProgram, 'attachType'>>;

export class PolicyStore {
  readonly name: string;
  readonly place: PolicyPlace;
  readonly about: PolicyDocument;
  readonly arena: Arena;
  readonly records: Records;
  readonly #maps = new Map<string, BpfMap>();
  readonly #programs = new Map<string, Program>();
  readonly #documents = new Map<string, GenerationDocument>();

  private constructor(name: string, place: PolicyPlace, about: PolicyDocument, arena: Arena) {
    this.name = name;
    this.place = place;
    this.about = about;
    this.arena = arena;
    this.records = new Records(arena.buffer);
  }

  /** Opens a policy; `undefined` when there is none. @throws {PolicyError} `HOST_POLICY_VERSION`, `HOST_POLICY_BROKEN` */
  static open(bpffs: string, name: string): PolicyStore | undefined {
    const place = new PolicyPlace(bpffs, name);
    const about = readDocument<PolicyDocument>(place.map('about'));
    if (about === undefined) return undefined;
    if (about.arenaVersion !== ARENA_VERSION) {
      throw new PolicyError(
        'HOST_POLICY_VERSION',
        `policy ${name} was made by Sluice ${about.build} with arena version ${about.arenaVersion}; this build has ${ARENA_VERSION}`,
        'use that build, or apply under another name and remove this one',
      );
    }
    const map = openPinnedMap(place.map('arena'));
    if (map === undefined) {
      throw new PolicyError(
        'HOST_POLICY_BROKEN',
        `${place.map('arena')} is missing`,
        'remove the policy and apply it again',
      );
    }
    return new PolicyStore(name, place, about, openArena(map));
  }

  /** Makes a policy without namespaces. Its directory appears whole or not at all. */
  static create(bpffs: string, name: string, about: PolicyDocument): PolicyStore {
    const place = new PolicyPlace(bpffs, name);
    rmSync(place.staging, { recursive: true, force: true });
    const arena = createArena('sluice_arena', ARENA_BYTES / PAGE);
    const document = writeDocument(about);
    try {
      initializeArena(new Uint8Array(arena.buffer), possibleCpus());
      writeOpenGeneration(arena.buffer, possibleCpus());
      mkdirSync(place.staging, { recursive: true, mode: 0o700 });
      pin(arena.map, `${place.staging}/arena`);
      pin(document, `${place.staging}/about`);
      renameSync(place.staging, place.directory);
    } catch (error) {
      forgetArena(arena.map);
      rmSync(place.staging, { recursive: true, force: true });
      throw error;
    } finally {
      document.close();
    }
    return new PolicyStore(name, place, about, arena);
  }

  /** Removes every pin; the objects end when no link holds them. The store is closed. */
  destroy(): void {
    rmSync(this.place.directory, { recursive: true, force: true });
    this.close();
    forgetArena(this.arena.map);
  }

  generation(root: number): LiveGeneration {
    return new LiveGeneration(this.arena.buffer, root);
  }

  /** The document of the generation at `root`; none for the open one. */
  documentAt(root: number): GenerationDocument | undefined {
    const loaded = this.loadedAt(root);
    if (loaded === undefined || this.#notesAt(root).length === 0) return loaded;
    return this.rulesAt(root)!.document(loaded);
  }

  /** The document that was pinned when the extent that `root` lies in was loaded: what edits do not change is there. */
  loadedAt(root: number): GenerationDocument | undefined {
    return root === 0 || root === OPEN_ROOT ? undefined : this.document(String(this.loadedNumber(root)));
  }

  /** Number of the generation that was loaded whole, of which the one at `root` is an edit: its document is pinned. */
  loadedNumber(root: number): number {
    return this.generation(this.generation(root).extent).number;
  }

  /** The rules of the generation at `root`, taken apart. */
  rulesAt(root: number): RuleState | undefined {
    const loaded = this.loadedAt(root);
    if (loaded === undefined) return undefined;
    const state = new RuleState(loaded);
    for (const note of this.#notesAt(root)) state.apply(note);
    return state;
  }

  /** What the kernel's own code does for the generation at `root`. */
  aidsAt(root: number): KernelAids[] {
    const loaded = this.loadedAt(root);
    if (loaded === undefined) return [];
    const later = this.#notesAt(root).flatMap(({ aids }) =>
      aids === undefined ? [] : [{ ...loaded.aids, ...aids }],
    );
    return [loaded.aids, ...later];
  }

  /** What edits changed from the rules that were loaded to those at `root`, the first one first. */
  #notesAt(root: number): EditNote[] {
    const notes: EditNote[] = [];
    for (let at = root; ; ) {
      const { edit } = this.generation(at);
      if (edit === undefined) return notes.reverse();
      notes.push(decodeNote(edit.note));
      at = edit.before;
    }
  }

  /** A number for a generation that is to be written. */
  takeNumber(): number {
    const words = new Uint32Array(this.arena.buffer, 0, GENERATIONS_OFFSET / 4);
    words[ArenaHeader.lastNumber / 4]! += 1;
    return words[ArenaHeader.lastNumber / 4]!;
  }

  /** The document of a generation by its number, as LOG records have it, as long as a record names it or what came of it. */
  documentOf(number: number): GenerationDocument | undefined {
    const pinned = this.document(String(number));
    if (pinned !== undefined) return pinned;
    for (const { named } of this.records.all()) {
      for (let at of named) {
        while (at !== OPEN_ROOT) {
          const generation = this.generation(at);
          if (generation.number === number) return this.documentAt(at);
          if (generation.edit === undefined) break;
          at = generation.edit.before;
        }
      }
    }
    return undefined;
  }

  /** The document of a generation's number. */
  document(number: string): GenerationDocument | undefined {
    const known = this.#documents.get(number);
    if (known !== undefined) return known;
    const read = readDocument<GenerationDocument>(this.place.generation(number));
    if (read !== undefined) this.#documents.set(number, read);
    return read;
  }

  /** Numbers of all pinned generations. */
  get numbers(): number[] {
    return entriesOf(this.place.generation('').slice(0, -1)).map(Number).filter(Number.isInteger);
  }

  netns(cookie: bigint): NetnsDocument | undefined {
    return readDocument<NetnsDocument>(this.place.netnsDocument(cookie));
  }

  /** Extents that records name, those of IP sets among them. */
  extents(records: readonly NetnsRecord[] = this.records.all()): { root: number; size: number }[] {
    const roots = new Set(records.flatMap(({ named }) => named));
    roots.delete(OPEN_ROOT);
    return [...[...roots].flatMap((root) => this.generation(root).extents), ...setExtents(this.arena.buffer)];
  }

  /** A map of the policy, opened; `undefined` when it has none of this name. */
  map(name: string): BpfMap | undefined {
    const known = this.#maps.get(name);
    if (known !== undefined) return known;
    const opened = openPinnedMap(this.place.map(name));
    if (opened !== undefined) this.#maps.set(name, opened);
    return opened;
  }

  /** The map of this description, made and pinned if the policy has none. */
  requireMap(description: MapDescription): BpfMap {
    const known = this.map(description.name);
    if (known !== undefined) return known;
    const made = BpfMap.create({ ...description, name: `slc_${description.name}`.slice(0, 15) });
    this.#maps.set(description.name, made);
    pin(made, this.place.map(description.name));
    return made;
  }

  programArray(point: AttachPoint): BpfMap {
    return this.requireMap({
      name: programArrayName(point),
      type: 'BPF_MAP_TYPE_PROG_ARRAY',
      keySize: 4,
      valueSize: 4,
      maxEntries: PROGRAM_ARRAY_SIZE,
    });
  }

  /** The dispatcher of an attach point, in its place of the program array. */
  dispatcher(point: AttachPoint, role: FlightRole): Program {
    const array = this.programArray(point);
    const program = this.#requireProgram(`dispatcher_${entryIndex(point)}_${role}`, () =>
      buildDispatcher(point, role),
    );
    array.update(entryIndex(point), program.fd.number);
    return program;
  }

  backstop(): Program {
    this.#actions();
    return this.#requireProgram('backstop', buildBackstop);
  }

  filter(filter: ActionFilter): Program {
    this.#actions();
    const detail = filter.kind === 'reject' ? filter.with : filter.kind === 'mark' ? filter.bit : '';
    return this.#requireProgram(`filter_${filter.kind}${detail}`, () => buildActionFilter(filter));
  }

  /** Puts the programs into their arrays: those that lie there already, by content, are not loaded again. */
  placeProgram(
    program: CompiledProgram,
    live: readonly PlacedProgram[],
  ): PlacedProgram & { readonly loaded: boolean } {
    const { point } = program;
    const array = programArrayName(point);
    const hash = contentHash(program);
    const known = live.find((placed) => placed.array === array && placed.hash === hash);
    if (known !== undefined) return { point, array, index: known.index, hash, loaded: false };
    const taken = new Set(live.filter((placed) => placed.array === array).map(({ index }) => index));
    let index = FIRST_PROGRAM_INDEX;
    while (taken.has(index)) index++;
    if (index >= PROGRAM_ARRAY_SIZE) {
      throw new PolicyError(
        'HOST_POLICY_FULL',
        `the policy has ${PROGRAM_ARRAY_SIZE - FIRST_PROGRAM_INDEX} different programs already`,
        'use another --policy name for some of the namespaces',
      );
    }
    const map = this.programArray(point);
    const loaded = this.#load(program);
    try {
      map.update(index, loaded.fd.number);
    } finally {
      loaded.close();
    }
    return { point, array, index, hash, loaded: true };
  }

  /** Pins a document under a generation's number. */
  keepDocument(document: GenerationDocument, map: BpfMap, number: number): void {
    pin(map, this.place.generation(number));
    this.#documents.set(String(number), document);
  }

  /** Puts a document in the place of the one that a generation has. */
  replaceDocument(document: GenerationDocument, map: BpfMap, number: number): void {
    replacePin(map, this.place.generation(number));
    this.#documents.set(String(number), document);
  }

  dropDocument(number: number): void {
    unpin(this.place.generation(number));
    this.#documents.delete(String(number));
  }

  close(): void {
    for (const program of this.#programs.values()) program.close();
    for (const map of this.#maps.values()) map.close();
    this.#programs.clear();
    this.#maps.clear();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #actions(): BpfMap {
    return this.requireMap({
      name: ACTIONS_MAP,
      type: 'BPF_MAP_TYPE_HASH',
      keySize: 8,
      valueSize: 8,
      maxEntries: ACTIONS_SIZE,
    });
  }

  /** A program that stays for the policy's life, pinned under its name. */
  #requireProgram(name: string, build: () => Loadable): Program {
    const known = this.#programs.get(name);
    if (known !== undefined) return known;
    const path = this.place.program(name);
    let program = openPinnedProgram(path);
    if (program === undefined) {
      program = this.#load(build());
      this.#programs.set(name, program);
      pin(program, path);
    }
    this.#programs.set(name, program);
    return program;
  }

  #load(program: Loadable): Program {
    const { type, name, code, attachType } = program;
    const maps: Record<string, BpfMap> = {};
    for (const reference of code.references.values()) {
      if (reference.kind !== 'map') continue;
      const map = this.map(reference.name);
      if (map !== undefined) maps[reference.name] = map;
    }
    return Program.load({
      type,
      name,
      instructions: linkProgram(code, { maps, arenas: { arena: this.arena }, types: kernelTypes() }),
      ...(attachType === undefined ? {} : { expectedAttachType: attachType }),
    });
  }
}

/** Programs of the same content are the same: instructions, and what they refer to by name. */
export function contentHash(program: CompiledProgram): string {
  const { type, attachType, code } = program;
  const references = JSON.stringify([...code.references], (_, value: unknown) =>
    typeof value === 'bigint' ? String(value) : value,
  );
  return createHash('sha256')
    .update(`${type} ${attachType}\n${references}\n`)
    .update(encodeProgram(code.instructions))
    .digest('hex')
    .slice(0, 32);
}
