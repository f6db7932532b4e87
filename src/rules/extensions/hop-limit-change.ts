/** The body of `TTL` and `HL`: net/netfilter/xt_HL.c. */

import type { Family } from '../../net/index.ts';
import { defineTarget, OptionError, type OptionSpec, type TargetExtension } from '../extension.ts';
import { boundedNumber } from '../text/bounded.ts';
import { refuse } from '../uapi/errno.ts';
import { withHopLimit } from './header-change.ts';

/** By number of IPT_TTL_* and IP6T_HL_*. */
const OPERATIONS = ['set', 'inc', 'dec'] as const;

interface HopLimitChange {
  change: { readonly operation: 'set' | 'inc' | 'dec'; readonly value: number } | undefined;
}

/** The target for one family; its options begin with `prefix`. */
export function defineHopLimitChange(
  name: 'TTL' | 'HL',
  prefix: 'ttl' | 'hl',
  family: Family,
  field: string,
): TargetExtension {
  const option = (operation: 'set' | 'inc' | 'dec', summary: string): OptionSpec<HopLimitChange> => ({
    name: `${prefix}-${operation}`,
    arguments: 1,
    syntax: 'number',
    summary,
    apply(state, [value]) {
      if (state.change !== undefined)
        throw new OptionError(`only one of the options of ${name} is possible`, { argument: -1 });
      state.change = { operation, value: boundedNumber(value!, operation === 'set' ? 0 : 1, 255) };
    },
  });
  return defineTarget<HopLimitChange>({
    name,
    families: [family],
    summary: `Changes the ${field} and goes on`,
    where: { tables: ['mangle'] },
    options: [
      option('set', `Sets the ${field} to the number`),
      option('dec', `Lowers the ${field} by the number`),
      option('inc', `Raises the ${field} by the number`),
    ],
    initial: () => ({ change: undefined }),
    finish(state) {
      if (state.change === undefined)
        throw new OptionError('an option is missing', {
          hint: `one of --${prefix}-set, --${prefix}-dec, --${prefix}-inc`,
        });
    },
    print: ({ change }) => ` --${prefix}-${change!.operation} ${change!.value}`,
    // struct ipt_TTL_info, struct ip6t_HL_info
    abi: [
      {
        name,
        revision: 0,
        size: 2,
        decode(view) {
          const operation = OPERATIONS[view.getUint8(0)];
          const value = view.getUint8(1);
          if (operation === undefined || (operation !== 'set' && value === 0))
            refuse(`${name} does nothing that is known`);
          return { change: { operation, value } };
        },
        encode({ change }, view) {
          view.setUint8(0, OPERATIONS.indexOf(change!.operation));
          view.setUint8(1, change!.value);
        },
      },
    ],
    effect({ change }, packet, host) {
      const { operation, value } = change!;
      const step = operation === 'inc' ? value : -value;
      const next = (now: number): number =>
        operation === 'set' ? value : Math.min(255, Math.max(0, now + step));
      host.replace(withHopLimit(packet, next));
      return 'continue';
    },
  });
}
