/** The kernel objects of one namespace: made, pinned, opened and closed together. */
import { mkdirSync, renameSync, rmSync } from 'node:fs';
import {
  type Arena,
  attachSkLookup,
  BpfMap,
  type Link,
  linkProgram,
  openPinnedLink,
  openPinnedMap,
  type Pinnable,
  Program,
  pin,
  replacePin,
  waitForGracePeriod,
} from '../../kernel/index.ts';
import {
  ArenaMemory,
  assembleSkLookup,
  FLOW_KEY_BYTES,
  FLOW_VALUE_BYTES,
  MAX_DESTINATIONS,
  MAX_SLOTS,
  METRIC_BYTES,
  type SkLookupOptions,
  SocketState,
} from '../../sklookup/index.ts';
import { createArena, forgetArena, openArena } from '../arenas.ts';
import type { NamedNetns } from '../netns.ts';
import { SocketHostError } from './error.ts';
import { PIN, stagingDirectory } from './place.ts';

/** Bytes of the arena's address space; memory is used as far as bindings need it. */
const ARENA_BYTES = 2 ** 31;
const PAGE = 4096;
const KEPT_FLOWS = 65_536;

export class SocketObjects {
  readonly arena: Arena;
  readonly sockets: BpfMap;
  readonly metrics: BpfMap;
  readonly flows: BpfMap;
  readonly link: Link;
  readonly state: SocketState;

  private constructor(arena: Arena, sockets: BpfMap, metrics: BpfMap, flows: BpfMap, link: Link) {
    this.arena = arena;
    this.sockets = sockets;
    this.metrics = metrics;
    this.flows = flows;
    this.link = link;
    this.state = stateOf(arena);
  }

  /** Makes everything, attaches the program and pins it all; after a failure nothing of it is left. */
  static create(netns: NamedNetns, directory: string): SocketObjects {
    const staging = stagingDirectory(directory);
    // Without a link they are what a command has left that was ended in its middle.
    for (const path of [staging, directory]) rmSync(path, { recursive: true, force: true });
    const made: { close(): void }[] = [];
    const keep = <T extends { close(): void }>(thing: T): T => {
      made.push(thing);
      return thing;
    };
    try {
      const arena = createArena('sluice_sockets', ARENA_BYTES / PAGE);
      made.push({ close: () => forgetArena(arena.map) });
      stateOf(arena).initialize({
        netnsCookie: netns.cookie,
        netnsInode: netns.inode,
        netnsName: /^[\x20-\x7e]*$/.test(netns.name) ? netns.name : '',
      });
      const sockets = keep(createMap('BPF_MAP_TYPE_SOCKMAP', 'sluice_sockets', 4, 8, MAX_SLOTS));
      const metrics = keep(createMetrics());
      const flows = keep(
        createMap('BPF_MAP_TYPE_LRU_HASH', 'sluice_flows', FLOW_KEY_BYTES, FLOW_VALUE_BYTES, KEPT_FLOWS),
      );
      const program = keep(loadSkLookup({ arena, sockets, metrics, flows }));
      const link = keep(attachSkLookup(program, netns.netns.number));
      mkdirSync(staging, { recursive: true, mode: 0o700 });
      const pins: readonly (readonly [string, Pinnable])[] = [
        [PIN.arena, arena.map],
        [PIN.sockets, sockets],
        [PIN.metrics, metrics],
        [PIN.flows, flows],
        [PIN.program, program],
        [PIN.link, link],
      ];
      for (const [name, object] of pins) pin(object, `${staging}/${name}`);
      renameSync(staging, directory);
      program.close();
      return new SocketObjects(arena, sockets, metrics, flows, link);
    } catch (error) {
      for (const thing of made.reverse()) thing.close();
      rmSync(staging, { recursive: true, force: true });
      throw error;
    }
  }

  /** Opens what is pinned; `undefined` when nothing is. @throws {SocketHostError} `HOST_SOCKETS_BROKEN` */
  static open(directory: string): SocketObjects | undefined {
    const link = openPinnedLink(`${directory}/${PIN.link}`);
    if (link === undefined) return undefined;
    const opened: { close(): void }[] = [link];
    const map = (name: string): BpfMap => {
      const found = openPinnedMap(`${directory}/${name}`);
      if (found === undefined) {
        throw new SocketHostError(
          'HOST_SOCKETS_BROKEN',
          `${directory}/${name} is missing`,
          'unload and load anew; somebody removed a pin',
        );
      }
      opened.push(found);
      return found;
    };
    try {
      const [sockets, metrics, flows, arenaMap] = [
        map(PIN.sockets),
        map(PIN.metrics),
        map(PIN.flows),
        map(PIN.arena),
      ];
      const arena = openArena(arenaMap);
      const objects = new SocketObjects(arena, sockets, metrics, flows, link);
      objects.state.check();
      return objects;
    } catch (error) {
      for (const thing of opened.reverse()) thing.close();
      throw error;
    }
  }

  /** Detaches the pinned link, whoever else holds it, and removes the pins; false when there is none. */
  static remove(directory: string): boolean {
    const link = openPinnedLink(`${directory}/${PIN.link}`);
    const arena = openPinnedMap(`${directory}/${PIN.arena}`);
    try {
      link?.detach();
      if (arena !== undefined) forgetArena(arena);
    } finally {
      link?.close();
      arena?.close();
    }
    for (const path of [directory, stagingDirectory(directory)])
      rmSync(path, { recursive: true, force: true });
    return link !== undefined;
  }

  /** Puts this build's program in place of the one that is attached, without an instant between them. */
  upgrade(directory: string): { readonly before: number; readonly after: number } {
    const before = this.link.describe().programId;
    const program = loadSkLookup(this);
    try {
      this.link.update(program);
      replacePin(program, `${directory}/${PIN.program}`);
      return { before, after: program.id };
    } finally {
      program.close();
    }
  }

  close(): void {
    this.link.close();
    this.flows.close();
    this.metrics.close();
    this.sockets.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

function stateOf(arena: Arena): SocketState {
  const bytes = new Uint8Array(arena.buffer);
  return new SocketState(new ArenaMemory(() => bytes, 0), waitForGracePeriod);
}

function createMap(
  type: 'BPF_MAP_TYPE_SOCKMAP' | 'BPF_MAP_TYPE_LRU_HASH' | 'BPF_MAP_TYPE_PERCPU_ARRAY',
  name: string,
  keySize: number,
  valueSize: number,
  maxEntries: number,
): BpfMap {
  return BpfMap.create({ type, name, keySize, valueSize, maxEntries });
}

/** A map of counters as the program wants it. */
export function createMetrics(): BpfMap {
  return createMap('BPF_MAP_TYPE_PERCPU_ARRAY', 'sluice_metrics', 4, METRIC_BYTES, MAX_DESTINATIONS + 1);
}

/** Loads the program against these maps. */
export function loadSkLookup(
  objects: Pick<SocketObjects, 'arena' | 'sockets' | 'metrics' | 'flows'>,
  options: SkLookupOptions = {},
): Program {
  const { arena, sockets, metrics, flows } = objects;
  return Program.load({
    type: 'BPF_PROG_TYPE_SK_LOOKUP',
    name: options.probe !== undefined ? 'sluice_probe' : 'sluice_sockets',
    instructions: linkProgram(assembleSkLookup(options), {
      maps: { sockets, metrics, flows },
      arenas: { arena },
    }),
    expectedAttachType: 'BPF_SK_LOOKUP',
  });
}
