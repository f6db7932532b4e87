/** One emitter for each kind of attach point. */
import type { AttachPoint } from '../attach.ts';
import type { HookEmitter } from './hook.ts';
import { NetfilterHook } from './netfilter.ts';
import { SkbHook } from './skb.ts';
import { XdpHook } from './xdp.ts';

export function hookEmitter(point: AttachPoint): HookEmitter {
  switch (point.flavour) {
    case 'netfilter':
      return new NetfilterHook(point);
    case 'xdp':
      return new XdpHook();
    case 'tcx':
    case 'cgroup':
      return new SkbHook(point);
  }
}
