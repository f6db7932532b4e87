/** Writes conditions as nodes with two ways out (layout.ts), the last one first; equal ones are written once. */
import type { Predicate, ScalarPredicate, SetCounterCondition } from '../../../ir/index.ts';
import { SCALAR_WIDTH } from '../../../ir/index.ts';
import type { Family } from '../../../net/index.ts';
import { DEVICE_NAME_SIZE, STATE_SIZE } from '../../arena/layout.ts';
import { FIELD_FACTS } from '../../emit/fact.ts';
import type { StateWords } from '../../emit/state.ts';
import { limitCredits } from '../../predicates/limit.ts';
import type { Asked, SetChange } from './conditions.ts';
import { factPlace } from './facts.ts';
import { Node, Operation, SET_COMPARISONS, SetChangeNode, SetNode, Way } from './layout.ts';
import { halves, setSpec } from './setspec.ts';
import { addressTypeVariant, EXTENSION_HEADERS, HEADER_FIELDS } from './variants.ts';
import type { ImageWriter } from './writer.ts';

const ALL_ONES = 0xffffffff;
const NS_PER_SEC = 1_000_000_000n;

export class NodeWriter {
  readonly #image: ImageWriter;
  readonly #family: Family;
  readonly #state: StateWords;
  readonly #hz: number;
  /** Nodes by hash; equal ones are found by comparing what was written. */
  readonly #known = new Map<number, number[]>();

  constructor(image: ImageWriter, family: Family, state: StateWords, hz: number) {
    this.#image = image;
    this.#family = family;
    this.#state = state;
    this.#hz = hz;
  }

  /** The node (or way) at which asking all of them begins. `keyOf` names the state of those that have some. */
  conjunction(asked: readonly Asked[], keyOf: (predicate: Predicate) => string): number {
    return this.#all(asked, keyOf, Way.holds, Way.fails);
  }

  #all(of: readonly Asked[], keyOf: (p: Predicate) => string, yes: number, no: number): number {
    return of.reduceRight((next, one) => this.#one(one, keyOf, next, no), yes);
  }

  #one(predicate: Asked, keyOf: (p: Predicate) => string, yes: number, no: number): number {
    switch (predicate.kind) {
      case 'set-change':
        return this.#setChange(predicate, yes);
      case 'all':
        return this.#all(predicate.of, keyOf, yes, no);
      case 'any':
        return predicate.of.reduceRight((other, part) => this.#one(part, keyOf, yes, other), no);
      case 'not':
        return this.#one(predicate.of, keyOf, no, yes);
      case 'scalar':
        return this.#scalar(predicate, yes, no);
      case 'transport': {
        const short = predicate.onShort === 'hotdrop' ? Way.hotdrop : no;
        const { minimumBytes } = predicate;
        const present = this.#between('transportLength', minimumBytes, ALL_ONES, yes, short);
        const first = this.#between('fragmentOffset', 0, 0, present, no);
        return predicate.dropOffsetOne ? this.#between('fragmentOffset', 1, 1, Way.hotdrop, first) : first;
      }
      case 'address': {
        const [a, b] = predicate.negate ? [no, yes] : [yes, no];
        const fact = factPlace(predicate.field === 'ip.source' ? 'source' : 'destination');
        const masks = words(predicate.mask);
        const values = words(predicate.value);
        if (masks.length === 1) return this.#node(Operation.word, a, b, [fact, masks[0]!, values[0]!]);
        return this.#node(Operation.words, a, b, [fact, ...masks, ...values]);
      }
      case 'address-range': {
        const [a, b] = predicate.negate ? [no, yes] : [yes, no];
        const fact = factPlace(predicate.field === 'ip.source' ? 'source' : 'destination');
        const low = words(predicate.min, 'network');
        const high = words(predicate.max, 'network');
        return this.#node(Operation.addressRange, a, b, [fact, low.length, ...low, ...high]);
      }
      case 'device': {
        const [a, b] = predicate.negate ? [no, yes] : [yes, no];
        const fact = factPlace(predicate.side === 'in' ? 'inDevice' : 'outDevice');
        const name = new Uint8Array(DEVICE_NAME_SIZE);
        const mask = new Uint8Array(DEVICE_NAME_SIZE);
        for (let at = 0; at < Math.min(predicate.name.length, DEVICE_NAME_SIZE - 1); at++) {
          name[at] = predicate.name.charCodeAt(at);
        }
        mask.fill(0xff, 0, predicate.wildcard ? predicate.name.length : predicate.name.length + 1);
        return this.#node(Operation.words, a, b, [fact, ...words(mask), ...words(name)]);
      }
      case 'mac-source': {
        const [a, b] = predicate.negate ? [no, yes] : [yes, no];
        const address = new Uint8Array(16);
        address.set(predicate.address);
        const parts = [factPlace('macSource'), ALL_ONES, ALL_ONES, 0, 0, ...words(address)];
        // Without a link-layer header it is false, negated or not.
        return this.#between('hasMac', 1, 1, this.#node(Operation.words, a, b, parts), no);
      }
      case 'tcp-option': {
        const [a, b] = predicate.negate ? [no, yes] : [yes, no];
        return this.#node(Operation.tcpOption, a, b, [predicate.option]);
      }
      case 'address-type': {
        const [a, b] = predicate.negate ? [no, yes] : [yes, no];
        return this.#node(Operation.addressType, a, b, [addressTypeVariant(predicate), predicate.types]);
      }
      case 'extension-header': {
        const variant = EXTENSION_HEADERS.findIndex(
          ({ protocol, minimumBytes }) =>
            protocol === predicate.protocol && minimumBytes === predicate.minimumBytes,
        );
        if (variant < 0) throw new RangeError(`no code for extension header ${predicate.protocol}`);
        return this.#node(Operation.extensionHeader, yes, no, [variant]);
      }
      case 'limit': {
        const { cost, cap } = limitCredits(predicate, this.#hz);
        const word = this.#state.allot(keyOf(predicate), 0n) * STATE_SIZE;
        return this.#node(Operation.limit, yes, no, [word, cost, cap]);
      }
      case 'statistic': {
        const [a, b] = predicate.negate ? [no, yes] : [yes, no];
        const { mode } = predicate;
        if (mode.kind === 'random') return this.#node(Operation.random, a, b, [mode.probability]);
        const word = this.#state.allot(keyOf(predicate), BigInt(mode.every - 1 - mode.packet)) * STATE_SIZE;
        return this.#node(Operation.nth, a, b, [mode.every, word]);
      }
      case 'set': {
        const [a, b] = predicate.negate ? [no, yes] : [yes, no];
        const { returnNoMatch, keepCounters, packets, bytes, key } = predicate;
        const flags =
          (returnNoMatch ? SetNode.returnNoMatch : 0) |
          (keepCounters ? SetNode.keepCounters : 0) |
          (comparison(packets) << SetNode.packetsShift) |
          (comparison(bytes) << SetNode.bytesShift);
        const values = [packets, bytes].flatMap((condition) => halves(condition?.value ?? 0n));
        return this.#node(Operation.set, a, b, [flags, ...values, ...setSpec(key)]);
      }
      case 'sctp-chunks':
        throw new RangeError(`${predicate.kind} has no node`);
    }
  }

  /** A node for each set, in the order in which they are tried; whatever became of them leads to `then`. */
  #setChange({ change: { add, remove } }: SetChange, then: number): number {
    const removed = (remove?.keys ?? []).reduceRight(
      (other, key) => this.#node(Operation.changeSet, then, other, [0, 0, 0, ...setSpec(key)]),
      then,
    );
    if (add === undefined) return removed;
    const { exist, timeoutSec } = add;
    const flags =
      SetChangeNode.adds |
      (exist ? SetChangeNode.exist : 0) |
      (timeoutSec === undefined ? 0 : SetChangeNode.hasTimeout);
    const timeout = halves(BigInt(timeoutSec ?? 0) * NS_PER_SEC);
    return add.keys.reduceRight(
      (other, key) => this.#node(Operation.changeSet, removed, other, [flags, ...timeout, ...setSpec(key)]),
      removed,
    );
  }

  #scalar(predicate: ScalarPredicate, yes: number, no: number): number {
    const [a, b] = predicate.negate ? [no, yes] : [yes, no];
    const width = 2 ** SCALAR_WIDTH[predicate.field] - 1;
    const ranges = [(predicate.mask & width) >>> 0, predicate.ranges.length, ...predicate.ranges.flat()];
    const fact = FIELD_FACTS[predicate.field];
    if (fact === undefined) {
      return this.#node(Operation.headerField, a, b, [HEADER_FIELDS.indexOf(predicate.field), ...ranges]);
    }
    const asked = this.#node(Operation.ranges, a, b, [factPlace(fact), ...ranges]);
    if (fact !== 'protocol' || this.#family !== 'ipv6') return asked;
    return this.#between('protocolMissing', 0, 0, asked, Way.hotdrop);
  }

  #between(fact: Parameters<typeof factPlace>[0], min: number, max: number, yes: number, no: number): number {
    return this.#node(Operation.ranges, yes, no, [factPlace(fact), ALL_ONES, 1, min, max]);
  }

  #node(operation: number, yes: number, no: number, parts: readonly number[]): number {
    if (yes === no && PURE.has(operation)) return yes;
    const hash = hashNode(operation, yes, no, parts);
    const known = this.#known.get(hash);
    const found = known?.find((at) => this.#isNode(at, operation, yes, no, parts));
    if (found !== undefined) return found;
    const image = this.#image;
    const offset = image.reserve(Node.a + parts.length * 4);
    image.u32(offset + Node.operation, operation);
    for (const [place, way] of [
      [Node.yes, yes],
      [Node.no, no],
    ] as const) {
      if (way <= Way.hotdrop) image.u32(offset + place, way);
      else image.pointer(offset + place, way);
    }
    for (let index = 0; index < parts.length; index++)
      image.u32(offset + Node.a + index * 4, parts[index]! >>> 0);
    if (known === undefined) this.#known.set(hash, [offset]);
    else known.push(offset);
    return offset;
  }

  #isNode(at: number, operation: number, yes: number, no: number, parts: readonly number[]): boolean {
    const image = this.#image;
    if (image.get(at + Node.operation) !== operation) return false;
    if (image.get(at + Node.yes) !== yes || image.get(at + Node.no) !== no) return false;
    for (let index = 0; index < parts.length; index++) {
      if (image.get(at + Node.a + index * 4) !== parts[index]! >>> 0) return false;
    }
    return true;
  }
}

/** Ranges say how many there are, so nodes of one operation that agree in their parts are of one length. */
function hashNode(operation: number, yes: number, no: number, parts: readonly number[]): number {
  let hash = Math.imul(operation, 0x9e3779b1) ^ Math.imul(yes, 0x85ebca6b) ^ Math.imul(no, 0xc2b2ae35);
  for (let index = 0; index < parts.length; index++) {
    hash = Math.imul(hash ^ parts[index]!, 0x01000193) ^ (hash >>> 13);
  }
  return hash;
}

function comparison(condition: SetCounterCondition | undefined): number {
  return condition === undefined ? 0 : SET_COMPARISONS.indexOf(condition.compare) + 1;
}

/** Operations that need not be carried out when both their ways lead to the same place. */
const PURE: ReadonlySet<number> = new Set([
  Operation.ranges,
  Operation.word,
  Operation.words,
  Operation.addressRange,
]);

/** Words as a little-endian load gives them, or in network order. */
function words(bytes: Uint8Array, order: 'little' | 'network' = 'little'): number[] {
  const found: number[] = [];
  for (let at = 0; at < bytes.length; at += 4) {
    const [a, b, c, d] = [bytes[at]!, bytes[at + 1]!, bytes[at + 2]!, bytes[at + 3]!];
    found.push(
      (order === 'little' ? (d << 24) | (c << 16) | (b << 8) | a : (a << 24) | (b << 16) | (c << 8) | d) >>>
        0,
    );
  }
  return found;
}
