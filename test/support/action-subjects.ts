/**
 * The programs of the action chain, with every kind of word in the map, of the packet and of another one: what each returns,
 * and what it leaves there.
 */
import {
  ACTIONS_MAP,
  ACTIONS_SIZE,
  type ActionFilter,
  buildActionFilter,
  buildBackstop,
  MARK_BITS_SHIFT,
  MARK_RESET_BIT,
} from '../../src/compile/index.ts';
import { type HashMap, Machine, NetfilterContext, SkbContext } from '../../src/vm/index.ts';
import type { Subject } from './mistakes.ts';

const FILTERS: readonly ActionFilter[] = [
  { kind: 'none' },
  { kind: 'reset' },
  { kind: 'done' },
  ...[0, 1, 7, 31].map((bit) => ({ kind: 'mark', bit }) as const),
  ...[0, 1, 3, 13].map((reject) => ({ kind: 'reject', with: reject }) as const),
];
const BITS = [0, 1, 2, 7, 8, 30, 31];
const RESET = 1n << BigInt(MARK_RESET_BIT);
const TURNED = BITS.map((bit) => 1n << BigInt(MARK_BITS_SHIFT + bit));
const REJECTS = [0, 1, 2, 3, 4, 12, 13, 14].map((reject) => BigInt(reject + 1));
/** Words as programs hand them on; `undefined`: none. */
const WORDS: readonly (bigint | undefined)[] = [
  undefined,
  RESET,
  ...[...TURNED, ...REJECTS].flatMap((word) => [word, word | RESET]),
  ...REJECTS.map((word) => word | TURNED.reduce((all, one) => all | one)),
];

interface Outcome {
  readonly returns: bigint;
  /** The word is gone afterwards. */
  readonly takes: boolean;
}

/** What the rule that matches by the filter is for (docs of the action chain in src/compile/actionchain.ts). */
function expectedOf(filter: ActionFilter, word: bigint | undefined): Outcome {
  const bit = (place: number): bigint => ((word ?? 0n) >> BigInt(place)) & 1n;
  switch (filter.kind) {
    case 'none':
      return { returns: word === undefined ? 1n : 0n, takes: false };
    case 'reset':
      return { returns: bit(MARK_RESET_BIT), takes: false };
    case 'mark':
      return { returns: bit(MARK_BITS_SHIFT + filter.bit), takes: false };
    case 'reject': {
      const matches = ((word ?? 0n) & 0xffn) === BigInt(filter.with + 1);
      return { returns: matches ? 1n : 0n, takes: matches };
    }
    case 'done':
      return { returns: 0n, takes: true };
  }
}

class Stand {
  readonly machine: Machine = new Machine();
  readonly #actions: HashMap;

  constructor() {
    this.machine.createMap({
      name: ACTIONS_MAP,
      type: 'BPF_MAP_TYPE_HASH',
      keySize: 8,
      valueSize: 8,
      maxEntries: ACTIONS_SIZE,
    });
    this.#actions = this.machine.map(ACTIONS_MAP) as HashMap;
  }

  /** The difference for each word that the packet at `address` may have; another packet has one in any case. */
  compare(
    address: number,
    run: () => number | bigint,
    expected: (word: bigint | undefined) => Outcome,
  ): string | undefined {
    const [own, other] = [address, address + 256].map((at) => bytesOf(BigInt(at - this.#actions.handle)));
    for (const word of WORDS) {
      for (const others of WORDS.slice(0, 3)) {
        for (const [key] of this.#actions.entries()) this.#actions.remove(key);
        if (word !== undefined) this.#actions.set(own!, bytesOf(word));
        if (others !== undefined) this.#actions.set(other!, bytesOf(others));
        const { returns, takes } = expected(word);
        const returned = BigInt(run());
        if (returned !== returns) return `${word}: returns ${returned} for ${returns}`;
        const left = this.#actions.get(own!);
        if ((left !== undefined) !== (word !== undefined && !takes)) return `${word}: what is left`;
        const untouched = this.#actions.get(other!);
        if ((untouched === undefined) !== (others === undefined)) return `${word}: the other packet's word`;
      }
    }
    return undefined;
  }
}

function bytesOf(value: bigint): Uint8Array {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigInt64(0, BigInt.asIntN(64, value), true);
  return bytes;
}

export function actionSubjects(): Subject[] {
  return [
    ...FILTERS.map((filter) => ({
      write: () => {
        const { code, type, name } = buildActionFilter(filter);
        return () => {
          const stand = new Stand();
          const program = stand.machine.load(code, { type, name });
          const context = new SkbContext(stand.machine, stand.machine.createPacket());
          return stand.compare(
            context.address,
            () => program.run(context),
            (word) => expectedOf(filter, word),
          );
        };
      },
    })),
    {
      write: () => {
        const { code, type, name } = buildBackstop();
        return () => {
          const stand = new Stand();
          const program = stand.machine.load(code, { type, name });
          const context = new NetfilterContext(stand.machine, stand.machine.createPacket());
          return stand.compare(
            context.skb.address,
            () => program.run(context),
            (word) => ({ returns: word === undefined ? 1n : 0n, takes: true }),
          );
        };
      },
    },
  ];
}
