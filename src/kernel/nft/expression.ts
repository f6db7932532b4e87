/**
 * Expressions of nf_tables rules: those with which Sluice's own chains are built. A rule is a list of them, run in
 * order; one that does not match ends the rule.
 */
import {
  attribute,
  nested,
  stringAttribute,
  u8Attribute,
  u16Attribute,
  u32BeAttribute,
} from '../netlink/message.ts';
import { KernelArgumentError } from '../sys/error.ts';
import { cStringBytes } from '../sys/struct.ts';

const NFTA_LIST_ELEM = 1;
const NFTA_EXPR_NAME = 1;
const NFTA_EXPR_DATA = 2;
const NFT_REG_VERDICT = 0;
const NFT_REG_1 = 1;

/** One encoded expression. */
export type NftExpression = Uint8Array;

/** Builds an expression of this kernel name. */
export function expression(name: string, ...attributes: readonly Uint8Array[]): NftExpression {
  return nested(NFTA_LIST_ELEM, stringAttribute(NFTA_EXPR_NAME, name), nested(NFTA_EXPR_DATA, ...attributes));
}

/** Reads the connection's state. Its mere presence keeps connection tracking on for the table's family. */
export function readConntrackState(): NftExpression {
  const [dreg, key] = [1, 2];
  const NFT_CT_STATE = 0;
  return expression('ct', u32BeAttribute(dreg, NFT_REG_1), u32BeAttribute(key, NFT_CT_STATE));
}

/** A socket filter to ask: pinned at a path, or by a descriptor of this process (the rule then holds the program). */
export type SocketFilter = { readonly path: string } | { readonly fd: number };

/** struct xt_bpf_info_v1: mode @0, program length @2, fd @4, path[512] @8, kernel's pointer @520. */
const XT_BPF_INFO_BYTES = 528;
const XT_BPF_PATH_BYTES = 512;
const XT_BPF_MODE_PATH_PINNED = 1;
const XT_BPF_MODE_FD = 2;

/** Goes on when the socket filter returns non-zero: xtables' `bpf` match, through nft_compat. */
export function matchSocketFilter(filter: SocketFilter): NftExpression {
  const info = new Uint8Array(XT_BPF_INFO_BYTES);
  const view = new DataView(info.buffer);
  if ('path' in filter) {
    const path = cStringBytes(filter.path);
    if (path.length > XT_BPF_PATH_BYTES)
      throw new KernelArgumentError(`a pin path has at most ${XT_BPF_PATH_BYTES - 1} bytes`);
    view.setUint16(0, XT_BPF_MODE_PATH_PINNED, true);
    info.set(path, 8);
  } else {
    view.setUint16(0, XT_BPF_MODE_FD, true);
    view.setInt32(4, filter.fd, true);
  }
  const [name, revision, data] = [1, 2, 3];
  return expression(
    'match',
    stringAttribute(name, 'bpf'),
    u32BeAttribute(revision, 1),
    attribute(data, info),
  );
}

/** `tcp-reset`, or an ICMP (ICMPv6) destination unreachable with this code, as the table's family has it. */
export type Rejection =
  | { readonly kind: 'tcp-reset' }
  | { readonly kind: 'unreachable'; readonly code: number };

/** Answers and drops: what iptables' REJECT does. Works at LOCAL_IN, FORWARD, LOCAL_OUT (and PRE_ROUTING since 5.9). */
export function reject(rejection: Rejection): NftExpression {
  const [type, code] = [1, 2];
  const NFT_REJECT_ICMP_UNREACH = 0;
  const NFT_REJECT_TCP_RST = 1;
  return rejection.kind === 'tcp-reset'
    ? expression('reject', u32BeAttribute(type, NFT_REJECT_TCP_RST))
    : expression('reject', u32BeAttribute(type, NFT_REJECT_ICMP_UNREACH), u8Attribute(code, rejection.code));
}

const VERDICTS = { drop: 0, accept: 1 } as const;

/** Ends the chain's work on the packet. */
export function verdict(which: keyof typeof VERDICTS): NftExpression {
  const [dreg, data, dataVerdict, code] = [1, 2, 2, 1];
  return expression(
    'immediate',
    u32BeAttribute(dreg, NFT_REG_VERDICT),
    nested(data, nested(dataVerdict, u32BeAttribute(code, VERDICTS[which]))),
  );
}

/** Sets the packet's mark to a constant. */
export function setMark(mark: number): NftExpression[] {
  const [immediateDreg, data, dataValue] = [1, 2, 1];
  const [metaKey, metaSreg] = [2, 3];
  const NFT_META_MARK = 3;
  // Registers hold host-order words, unlike the attributes around them.
  const value = new Uint8Array(Uint32Array.of(mark).buffer);
  return [
    expression(
      'immediate',
      u32BeAttribute(immediateDreg, NFT_REG_1),
      nested(data, attribute(dataValue, value)),
    ),
    expression('meta', u32BeAttribute(metaKey, NFT_META_MARK), u32BeAttribute(metaSreg, NFT_REG_1)),
  ];
}

/** Changes the packet's mark: mark = (mark & ~mask) ^ value. */
export function changeMark(value: number, mask: number): NftExpression[] {
  const [metaDreg, metaKey, metaSreg] = [1, 2, 3];
  const [sreg, dreg, length, maskData, xorData, dataValue] = [1, 2, 3, 4, 5, 1];
  const NFT_META_MARK = 3;
  const word = (number: number): Uint8Array => new Uint8Array(Uint32Array.of(number).buffer);
  return [
    expression('meta', u32BeAttribute(metaDreg, NFT_REG_1), u32BeAttribute(metaKey, NFT_META_MARK)),
    expression(
      'bitwise',
      u32BeAttribute(sreg, NFT_REG_1),
      u32BeAttribute(dreg, NFT_REG_1),
      u32BeAttribute(length, 4),
      nested(maskData, attribute(dataValue, word(~mask))),
      nested(xorData, attribute(dataValue, word(value))),
    ),
    expression('meta', u32BeAttribute(metaKey, NFT_META_MARK), u32BeAttribute(metaSreg, NFT_REG_1)),
  ];
}

/** Hands the packet to a user-space queue; with `bypass` it passes when nobody listens, else it is dropped. */
export function queue(number: number, bypass: boolean): NftExpression {
  const [num, total, flags] = [1, 2, 3];
  const NFT_QUEUE_FLAG_BYPASS = 1;
  const be = (value: number): number => ((value & 0xff) << 8) | (value >> 8);
  return expression(
    'queue',
    u16Attribute(num, be(number)),
    u16Attribute(total, be(1)),
    u16Attribute(flags, be(bypass ? NFT_QUEUE_FLAG_BYPASS : 0)),
  );
}

/** Counts packets and bytes that come this far. */
export function counter(): NftExpression {
  return expression('counter');
}
