/** Predicates: the facts each kind needs, and its code. One file a kind; this one only sorts. */

import type { Predicate } from '../../ir/index.ts';
import type { Label } from '../../isa/index.ts';
import type { Family } from '../../net/index.ts';
import type { Emission } from '../emit/emission.ts';
import type { Fact } from '../emit/fact.ts';
import { emitSetMatch } from '../sets/match.ts';
import { setKeyNeeds } from '../sets/subject.ts';
import { addressNeeds, emitAddress, emitAddressRange } from './address.ts';
import { addressTypeNeeds, emitAddressType } from './addresstype.ts';
import { emitAll, emitAny, emitNot } from './combined.ts';
import { deviceNeeds, emitDevice } from './device.ts';
import { emitExtensionHeader, extensionHeaderNeeds } from './extensionheader.ts';
import { emitLimit } from './limit.ts';
import { emitMacSource, MAC_NEEDS } from './mac.ts';
import { emitScalar, scalarNeeds } from './scalar.ts';
import { emitSctpChunks, SCTP_CHUNKS_NEEDS } from './sctpchunks.ts';
import { emitStatistic } from './statistic.ts';
import { emitTcpOption, TCP_OPTION_NEEDS } from './tcpoption.ts';
import { emitTransport, TRANSPORT_NEEDS } from './transport.ts';

/** The facts that a predicate reads; none for one that has no code. */
export function predicateNeeds(predicate: Predicate, family: Family): readonly Fact[] {
  switch (predicate.kind) {
    case 'scalar':
      return scalarNeeds(predicate, family) ?? [];
    case 'address':
    case 'address-range':
      return addressNeeds(predicate);
    case 'device':
      return deviceNeeds(predicate);
    case 'transport':
      return TRANSPORT_NEEDS;
    case 'tcp-option':
      return TCP_OPTION_NEEDS;
    case 'address-type':
      return addressTypeNeeds(predicate);
    case 'mac-source':
      return MAC_NEEDS;
    case 'extension-header':
      return extensionHeaderNeeds(predicate) ?? [];
    case 'all':
    case 'any':
      return predicate.of.flatMap((part) => predicateNeeds(part, family));
    case 'not':
      return predicateNeeds(predicate.of, family);
    case 'set':
      return [...setKeyNeeds(predicate.key), ...(predicate.keepCounters ? [] : (['length'] as const))];
    case 'sctp-chunks':
      return SCTP_CHUNKS_NEEDS;
    case 'limit':
    case 'statistic':
      return [];
  }
}

/**
 * Code that falls through when the predicate is true, goes to `fail` when it is false, and to the section's hotdrop label
 * when it drops the packet; to `doomed`, where it is given, when the rest of its rule comes first. `key` names the state of
 * stateful ones: the same key, the same state. Uses r0..r5.
 */
export function emitPredicate(
  emission: Emission,
  predicate: Predicate,
  key: string,
  fail: Label,
  doomed: Label = emission.labels.hotdrop,
): void {
  switch (predicate.kind) {
    case 'scalar':
      emitScalar(emission, predicate, fail);
      break;
    case 'address':
      emitAddress(emission, predicate, fail);
      break;
    case 'address-range':
      emitAddressRange(emission, predicate, fail);
      break;
    case 'device':
      emitDevice(emission, predicate, fail);
      break;
    case 'transport':
      emitTransport(emission, predicate, fail);
      break;
    case 'tcp-option':
      emitTcpOption(emission, predicate, fail);
      break;
    case 'address-type':
      emitAddressType(emission, predicate, fail);
      break;
    case 'mac-source':
      emitMacSource(emission, predicate, fail);
      break;
    case 'extension-header':
      emitExtensionHeader(emission, predicate, fail);
      break;
    case 'limit':
      emitLimit(emission, predicate, key, fail);
      break;
    case 'statistic':
      emitStatistic(emission, predicate, key, fail);
      break;
    case 'set':
      emitSetMatch(emission, predicate, fail);
      break;
    case 'all':
      emitAll(emission, predicate.of, key, fail);
      break;
    case 'any':
      emitAny(emission, predicate.of, key, fail);
      break;
    case 'not':
      emitNot(emission, predicate.of, key, fail);
      break;
    case 'sctp-chunks':
      emitSctpChunks(emission, predicate, fail, predicate.negate ? doomed : emission.labels.hotdrop);
      break;
  }
}
