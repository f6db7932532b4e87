/**
 * How a policy's programs stand at devices: XDP in the driver or in the stack, tcx before or after the programs of others. A link
 * keeps its manner for life, so that one that is live is never replaced for it: that would be an instant without policy.
 */
import type { XdpMode } from '../../kernel/index.ts';
import { PolicyError } from './error.ts';
import type { PolicyStore } from './store.ts';
import type { TcxPosition } from './tcxposition.ts';

export interface Manner {
  readonly xdpMode: XdpMode;
  readonly tcxPosition: TcxPosition;
}

const USUAL: Manner = { xdpMode: 'auto', tcxPosition: 'last' };

/**
 * What was asked for; what was not, is as it is live in these namespaces.
 * @throws {PolicyError} `HOST_POLICY_TARGET` when live links stand otherwise
 */
export function mannerOf(
  store: PolicyStore,
  cookies: readonly bigint[],
  wanted: { readonly xdpMode?: XdpMode; readonly tcxPosition?: TcxPosition },
): Manner {
  const live = cookies.flatMap((cookie) => {
    const record = store.records.find(cookie);
    return (record === undefined ? undefined : store.loadedAt(record.running)) ?? [];
  });
  const xdp = live.filter(({ hooks }) => hooks.includes('xdp')).map(({ manner }) => manner.xdpMode);
  const tcx = live
    .filter(({ hooks }) => hooks.some((hook) => hook.startsWith('tcx')))
    .map(({ manner }) => manner.tcxPosition);
  const manner = {
    xdpMode: wanted.xdpMode ?? xdp[0] ?? USUAL.xdpMode,
    tcxPosition: wanted.tcxPosition ?? tcx[0] ?? USUAL.tcxPosition,
  };
  const stays = (what: string, option: string): PolicyError =>
    new PolicyError(
      'HOST_POLICY_TARGET',
      `policy ${store.name} ${what}, and its links cannot change that while they are live`,
      `remove it first, or leave ${option} out`,
    );
  const otherMode = xdp.find((mode) => mode !== manner.xdpMode);
  if (otherMode !== undefined) throw stays(`runs at xdp in the mode ${otherMode}`, '--xdp-mode');
  const otherPosition = tcx.find((position) => position !== manner.tcxPosition);
  if (otherPosition !== undefined) throw stays(`stands ${otherPosition} at tcx`, '--tcx-position');
  return manner;
}
