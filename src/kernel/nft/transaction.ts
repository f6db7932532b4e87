/**
 * Changing and reading nf_tables of the calling thread's namespace. A transaction takes effect as a whole or not at all.
 * Source: net/netfilter/nf_tables_api.c, nfnetlink.c.
 */
import {
  decodeAttributes,
  NLM_F_ACK,
  NLM_F_APPEND,
  NLM_F_CREATE,
  nested,
  stringAttribute,
  u32BeAttribute,
} from '../netlink/message.ts';
import { NETLINK_NETFILTER, NetlinkSocket, type NetlinkStep } from '../netlink/socket.ts';
import { Errno } from '../sys/errno.ts';
import { isErrno } from '../sys/error.ts';
import { cString } from '../sys/struct.ts';
import type { NftExpression } from './expression.ts';
import {
  NFNL_MSG_BATCH_BEGIN,
  NFNL_MSG_BATCH_END,
  NFNL_SUBSYS_NFTABLES,
  NftFamily,
  NftMessage,
  nfgenmsg,
  nftType,
} from './protocol.ts';

const NFTA_TABLE_NAME = 1;
const NFTA_CHAIN_TABLE = 1;
const NFTA_CHAIN_NAME = 3;
const NFTA_CHAIN_HOOK = 4;
const NFTA_CHAIN_POLICY = 5;
const NFTA_CHAIN_TYPE = 7;
const NFTA_HOOK_HOOKNUM = 1;
const NFTA_HOOK_PRIORITY = 2;
const NFTA_RULE_TABLE = 1;
const NFTA_RULE_CHAIN = 2;
const NFTA_RULE_EXPRESSIONS = 4;

export interface NftChain {
  readonly name: string;
  /** A base chain: where packets enter. Without it the chain only runs when another jumps to it. */
  readonly hook?: {
    readonly type: 'filter' | 'nat' | 'route';
    /** NF_INET_* number. */
    readonly number: number;
    readonly priority: number;
    /** What packets get that reach the end. */
    readonly policy: 'accept' | 'drop';
  };
}

/** Builds a list of changes; {@link commit} makes them. */
export class NftTransaction {
  readonly #steps: NetlinkStep[] = [];
  readonly #family: number;
  readonly #label: string;
  readonly #table: string;

  /** Changes to one table. */
  constructor(family: NftFamily, table: string) {
    this.#family = NftFamily[family];
    this.#table = table;
    this.#label = `nftables table ${family} ${table}`;
  }

  /** Makes the table unless it is there. */
  addTable(): this {
    return this.#add('creating', NftMessage.NEWTABLE, NLM_F_CREATE, [
      stringAttribute(NFTA_TABLE_NAME, this.#table),
    ]);
  }

  /** Removes the table with all that is in it. Fails with ENOENT when there is none. */
  deleteTable(): this {
    return this.#add('deleting', NftMessage.DELTABLE, 0, [stringAttribute(NFTA_TABLE_NAME, this.#table)]);
  }

  /** Makes a chain unless it is there. */
  addChain({ name, hook }: NftChain): this {
    const base =
      hook === undefined
        ? []
        : [
            nested(
              NFTA_CHAIN_HOOK,
              u32BeAttribute(NFTA_HOOK_HOOKNUM, hook.number),
              u32BeAttribute(NFTA_HOOK_PRIORITY, hook.priority),
            ),
            u32BeAttribute(NFTA_CHAIN_POLICY, hook.policy === 'accept' ? 1 : 0),
            stringAttribute(NFTA_CHAIN_TYPE, hook.type),
          ];
    return this.#add(`adding chain ${name} to`, NftMessage.NEWCHAIN, NLM_F_CREATE, [
      stringAttribute(NFTA_CHAIN_TABLE, this.#table),
      stringAttribute(NFTA_CHAIN_NAME, name),
      ...base,
    ]);
  }

  /** Removes a chain that is empty and that no rule jumps to. */
  deleteChain(name: string): this {
    return this.#add(`deleting chain ${name} of`, NftMessage.DELCHAIN, 0, [
      stringAttribute(NFTA_CHAIN_TABLE, this.#table),
      stringAttribute(NFTA_CHAIN_NAME, name),
    ]);
  }

  /** Removes all rules of a chain. */
  flushChain(name: string): this {
    return this.#add(`emptying chain ${name} of`, NftMessage.DELRULE, 0, [
      stringAttribute(NFTA_RULE_TABLE, this.#table),
      stringAttribute(NFTA_RULE_CHAIN, name),
    ]);
  }

  /** Appends a rule to a chain. */
  addRule(chain: string, expressions: readonly NftExpression[]): this {
    return this.#add(`adding a rule to chain ${chain} of`, NftMessage.NEWRULE, NLM_F_CREATE | NLM_F_APPEND, [
      stringAttribute(NFTA_RULE_TABLE, this.#table),
      stringAttribute(NFTA_RULE_CHAIN, chain),
      nested(NFTA_RULE_EXPRESSIONS, ...expressions),
    ]);
  }

  /** Makes all changes at once. @throws {SyscallError} naming the step that the kernel refused; then nothing changed */
  commit(): void {
    const marker = (type: number): NetlinkStep => ({
      type,
      flags: 0,
      parts: [nfgenmsg(0, NFNL_SUBSYS_NFTABLES)],
      what: `changing ${this.#label}`,
    });
    withNfSocket((socket) =>
      socket.transact([marker(NFNL_MSG_BATCH_BEGIN), ...this.#steps, marker(NFNL_MSG_BATCH_END)]),
    );
  }

  #add(doing: string, message: number, flags: number, attributes: readonly Uint8Array[]): this {
    this.#steps.push({
      type: nftType(message),
      flags: flags | NLM_F_ACK,
      parts: [nfgenmsg(this.#family), ...attributes],
      what: `${doing} ${this.#label}`,
    });
    return this;
  }
}

function withNfSocket<T>(use: (socket: NetlinkSocket) => T): T {
  const socket = new NetlinkSocket(NETLINK_NETFILTER);
  try {
    return use(socket);
  } finally {
    socket.close();
  }
}

export interface NftTable {
  readonly family: NftFamily | 'other';
  readonly name: string;
}

/** All tables of the namespace, anybody's. */
export function listNftTables(): NftTable[] {
  const messages = withNfSocket((socket) =>
    socket.dump(nftType(NftMessage.GETTABLE), [nfgenmsg(0)], 'listing nftables tables'),
  );
  return messages.map(({ payload }) => {
    const family =
      (Object.keys(NftFamily) as NftFamily[]).find((name) => NftFamily[name] === payload[0]) ?? 'other';
    const name = decodeAttributes(payload.subarray(4)).get(NFTA_TABLE_NAME);
    return { family, name: name === undefined ? '' : cString(name) };
  });
}

/** Number of rules in a chain; `undefined` when table or chain are not there. */
export function countNftRules(family: NftFamily, table: string, chain: string): number | undefined {
  return withNfSocket((socket) => {
    const attributes = [stringAttribute(NFTA_CHAIN_TABLE, table), stringAttribute(NFTA_CHAIN_NAME, chain)];
    const parts = [nfgenmsg(NftFamily[family]), ...attributes];
    const what = `looking for nftables chain ${family} ${table} ${chain}`;
    try {
      socket.request({ type: nftType(NftMessage.GETCHAIN), flags: 0, parts }, what);
    } catch (error) {
      if (isErrno(error, Errno.ENOENT)) return undefined;
      throw error;
    }
    const filter = [stringAttribute(NFTA_RULE_TABLE, table), stringAttribute(NFTA_RULE_CHAIN, chain)];
    return socket.dump(nftType(NftMessage.GETRULE), [nfgenmsg(NftFamily[family]), ...filter], what).length;
  });
}
