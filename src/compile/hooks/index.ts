/** One emitter for each kind of attach point. */
import type { AttachPoint } from '../attach.ts';
import type { HookEmitter } from './hook.ts';
import { NetfilterHook } from './netfilter.ts';
import { NetfilterGroupHook } from './netfiltergroup.ts';
import { SkbHook } from './skb.ts';
import { TCX_ANSWER } from './tcxanswer.ts';
import { XdpHook } from './xdp.ts';
import { XDP_ANSWER } from './xdpanswer.ts';

/** The emitter of a program that runs at all attach points of {@link sharedPlace}. */
export function sharedEmitter(point: AttachPoint): HookEmitter {
  return point.flavour === 'netfilter' ? new NetfilterGroupHook(point) : hookEmitter(point);
}

export function hookEmitter(point: AttachPoint): HookEmitter {
  switch (point.flavour) {
    case 'netfilter':
      return new NetfilterHook(point);
    case 'xdp':
      return new XdpHook(XDP_ANSWER);
    case 'tcx':
      return point.direction === 'ingress' ? new SkbHook(point, TCX_ANSWER) : new SkbHook(point);
    case 'cgroup':
      return new SkbHook(point);
  }
}
