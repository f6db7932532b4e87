/** From the names in bindings to numbers in tables: destinations are made where there are none. */
import type { Protocol } from '../binding.ts';
import { SocketStateError } from '../error.ts';
import { MAX_DESTINATIONS, tableIndex } from '../layout.ts';
import type { ImageNames } from '../table/image.ts';
import { type BindingFile, labelOptions } from '../text/file.ts';
import type { Destinations } from './destinations.ts';

type Family = 'ipv4' | 'ipv6';

export class DestinationNames implements ImageNames {
  /** How many bindings have asked for each destination. */
  readonly uses: Uint32Array = new Uint32Array(MAX_DESTINATIONS);
  readonly ifindex: (device: string) => number;
  readonly #destinations: Destinations;
  readonly #labels: BindingFile['labels'];
  /** Indices by label, for each table. */
  readonly #known: readonly Map<string, number>[] = [0, 1, 2, 3].map(() => new Map());
  readonly #added: number[] = [];

  constructor(
    destinations: Destinations,
    labels: BindingFile['labels'],
    ifindex: (device: string) => number,
  ) {
    this.#destinations = destinations;
    this.#labels = labels;
    this.ifindex = ifindex;
    for (const { label, protocol, family, index } of destinations.list())
      this.#known[tableIndex(protocol, family)]!.set(label, index);
  }

  /** @throws {SocketStateError} `SOCKETS_FULL` */
  destination(label: string, protocol: Protocol, family: Family): number {
    const known = this.#known[tableIndex(protocol, family)]!;
    let index = known.get(label);
    if (index === undefined) {
      index = this.#destinations.add(label, protocol, family, labelOptions(this.#labels, label));
      this.#added.push(index);
      known.set(label, index);
    }
    this.uses[index]!++;
    return index;
  }

  /** Runs; when it fails the destinations that were made for it go. @throws {SocketStateError} `SOCKETS_FULL` */
  during<T>(bindings: number, use: () => T): T {
    try {
      return use();
    } catch (error) {
      for (const index of this.#added) this.#destinations.remove(index);
      if (!(error instanceof RangeError)) throw error;
      throw new SocketStateError(
        'SOCKETS_FULL',
        `${bindings === 1 ? 'the binding does' : `${bindings} bindings do`} not fit the arena: ${error.message}`,
        'merge prefixes or ports, or use fewer bindings',
      );
    }
  }
}
