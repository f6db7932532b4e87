/**
 * What iptables asks of IP sets before it writes or prints a rule that names one: SO_IP_SET, struct ip_set_req_version,
 * ip_set_req_get_set, ip_set_req_get_set_family (uapi/linux/netfilter/ipset/ip_set.h). Checks are in the order of
 * ip_set_sockfn_get (net/netfilter/ipset/ip_set_core.c).
 */
import type { Family } from '../../net/index.ts';
import { AbiErrno, AbiError } from './errno.ts';
import { fieldText, putFieldText } from './layout.ts';
import type { SetNumbers } from './payload.ts';
import { NO_SET } from './set-form.ts';

/** Option of getsockopt(2) at the level SOL_IP, for rules of both families. */
export const SO_IP_SET = 83;
/** Longer than any of the structures. */
export const SET_REQUEST_BYTES = 44;

/** The sets that can be asked for. */
export interface AskableSets extends SetNumbers {
  /** `undefined`: there is no such set. */
  familyOf(name: string): Family | undefined;
}

export const NO_SETS: AskableSets = {
  numberOf: () => undefined,
  nameOf: () => undefined,
  familyOf: () => undefined,
};

/** IP_SET_OP_* */
const Operation = { BY_NAME: 0x6, BY_INDEX: 0x7, WITH_FAMILY: 0x8, VERSION: 0x100 } as const;
/** IPSET_PROTOCOL_MIN: what the kernel names as its version. */
const OLDEST_PROTOCOL = 6;
/** IPSET_MAXNAMELEN */
const NAME_BYTES = 32;
const BYTES: Readonly<Record<number, number>> = {
  [Operation.VERSION]: 8,
  [Operation.BY_NAME]: 40,
  [Operation.BY_INDEX]: 40,
  [Operation.WITH_FAMILY]: 44,
};
const NUMBER_OF_FAMILY: Readonly<Record<Family, number>> = { ipv4: 2, ipv6: 10 };

function fail(errno: AbiErrno, message: string): never {
  throw new AbiError(errno, message);
}

/** The request with its answer in it; `length` is what the caller says it has. @throws {AbiError} */
export function answerSetRequest(
  sets: AskableSets,
  request: Uint8Array,
  length: number,
): Uint8Array<ArrayBuffer> {
  if (length < 4) fail(AbiErrno.EINVAL, 'the request has no operation');
  const answer = new Uint8Array(request);
  const view = new DataView(answer.buffer);
  const operation = view.getUint32(0, true);
  if (operation < Operation.VERSION) {
    if (length < BYTES[Operation.VERSION]!) fail(AbiErrno.EINVAL, 'the request has no version');
    if (view.getUint32(4, true) < OLDEST_PROTOCOL) fail(AbiErrno.EPROTO, 'the protocol of sets is too old');
  }
  const bytes = BYTES[operation] ?? fail(AbiErrno.EBADMSG, `there is no operation ${operation} on sets`);
  if (length !== bytes) fail(AbiErrno.EINVAL, 'the request has the wrong size');
  // A number stands in the first bytes of the name.
  const nameAt = bytes - NAME_BYTES;
  const name = fieldText(answer, nameAt, NAME_BYTES - 1);
  switch (operation) {
    case Operation.VERSION:
      view.setUint32(4, OLDEST_PROTOCOL, true);
      break;
    case Operation.BY_INDEX: {
      const found = sets.nameOf(view.getUint16(nameAt, true)) ?? '';
      answer.fill(0, nameAt);
      putFieldText(answer, nameAt, found);
      break;
    }
    default: {
      const family = sets.familyOf(name);
      if (operation === Operation.WITH_FAMILY && family !== undefined)
        view.setUint32(8, NUMBER_OF_FAMILY[family], true);
      view.setUint16(nameAt, sets.numberOf(name) ?? NO_SET, true);
    }
  }
  return answer;
}
