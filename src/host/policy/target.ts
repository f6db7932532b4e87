/** Where a policy is to be enforced: namespaces, and devices and a cgroup in them. */
import { statSync } from 'node:fs';
import { type AttachPoint, entryIndex, type HookName } from '../../compile/index.ts';
import { findDevice, withNetns, type XdpMode } from '../../kernel/index.ts';
import { type NamedNetns, openNamedNetns } from '../netns.ts';
import { PolicyError } from './error.ts';
import { parseTcxPosition, type TcxPosition } from './tcxposition.ts';

/** A namespace with the devices that were named, by index. */
export interface Target extends NamedNetns {
  readonly devices: readonly { readonly name: string; readonly index: number }[];
}

export interface Attachment {
  readonly hooks: readonly HookName[];
  readonly devices: readonly string[];
  readonly cgroup: string | undefined;
  readonly xdpMode?: XdpMode | undefined;
  readonly tcxPosition?: TcxPosition | undefined;
}

/** A link that a namespace is to have. */
export interface WantedLink {
  /** Name of its pin. */
  readonly name: string;
  readonly kind: 'dispatcher' | 'backstop';
  readonly point: AttachPoint;
  readonly ifindex?: number;
}

/**
 * Checks that hooks, devices and cgroup fit each other.
 * @throws {PolicyError} `HOST_POLICY_USAGE`; `HOST_POLICY_TARGET` where there is no such cgroup
 */
export function checkAttachment({ hooks, devices, cgroup, xdpMode, tcxPosition }: Attachment): void {
  const refuse = (message: string, hint: string): never => {
    throw new PolicyError('HOST_POLICY_USAGE', message, hint);
  };
  const onDevices = hooks.filter((hook) => hook === 'xdp' || hook.startsWith('tcx'));
  if (onDevices.length > 0 && devices.length === 0)
    refuse(`--hook ${onDevices[0]} needs a device`, 'name it with --dev, once for each');
  if (onDevices.length === 0 && devices.length > 0)
    refuse(
      '--dev is for the hooks xdp, tcx-ingress and tcx-egress',
      'rules at netfilter name devices with -i and -o',
    );
  if (xdpMode !== undefined && !hooks.includes('xdp'))
    refuse('--xdp-mode is for the hook xdp', 'add --hook xdp');
  if (tcxPosition !== undefined && !hooks.some((hook) => hook.startsWith('tcx')))
    refuse('--tcx-position is for the hooks tcx-ingress and tcx-egress', 'add --hook tcx-ingress');
  if (tcxPosition !== undefined) parseTcxPosition(tcxPosition);
  const ofCgroups = hooks.some((hook) => hook.startsWith('cgroup'));
  if (ofCgroups && cgroup === undefined)
    refuse('the cgroup hooks need a cgroup', 'name its directory with --cgroup');
  if (!ofCgroups && cgroup !== undefined)
    refuse('--cgroup is for the hooks cgroup-ingress and cgroup-egress', 'add --hook cgroup-egress');
  if (cgroup !== undefined) cgroupInode(cgroup);
}

/** Opens the namespaces and finds the devices in each. The caller closes them. */
export function openTargets(names: readonly string[], devices: readonly string[]): Target[] {
  const opened: Target[] = [];
  try {
    for (const name of names.length === 0 ? [undefined] : names) {
      const netns = openNamedNetns(name);
      opened.push({ ...netns, devices: [] });
      const found = devices.map((device) => {
        const index = withNetns(netns.netns, () => findDevice(device))?.index;
        if (index === undefined) {
          const where = netns.name === '' ? 'this namespace' : `namespace ${netns.name}`;
          throw new PolicyError(
            'HOST_POLICY_TARGET',
            `${where} has no device ${device}`,
            'list them with: ip link',
          );
        }
        return { name: device, index };
      });
      if (opened.slice(0, -1).some(({ cookie }) => cookie === netns.cookie)) opened.pop()?.netns.close();
      else opened[opened.length - 1] = { ...netns, devices: found };
    }
    return opened;
  } catch (error) {
    closeTargets(opened);
    throw error;
  }
}

export function closeTargets(targets: readonly Target[]): void {
  for (const { netns } of targets) netns.close();
}

/** The links that dispatchers at these points, and backstops at those that hand on, make in a namespace. */
export function wantedLinks(
  points: readonly AttachPoint[],
  handing: readonly AttachPoint[],
  target: Target,
  cgroup: string | undefined,
): WantedLink[] {
  const links: WantedLink[] = [];
  for (const point of points) {
    switch (point.flavour) {
      case 'netfilter': {
        const name = `${point.group}_${point.family}_${point.hook}`;
        links.push({ name: `nf_${name}`, kind: 'dispatcher', point });
        if (handing.some((other) => entryIndex(other) === entryIndex(point)))
          links.push({ name: `backstop_${name}`, kind: 'backstop', point });
        break;
      }
      case 'xdp':
        for (const { index } of target.devices)
          links.push({ name: `xdp_${index}`, kind: 'dispatcher', point, ifindex: index });
        break;
      case 'tcx':
        for (const { index } of target.devices)
          links.push({ name: `tcx_${point.direction}_${index}`, kind: 'dispatcher', point, ifindex: index });
        break;
      case 'cgroup':
        links.push({
          name: `cgroup_${point.direction}_${cgroupInode(cgroup!)}`,
          kind: 'dispatcher',
          point,
        });
        break;
    }
  }
  return links;
}

/** A cgroup's id is the inode of its directory. */
function cgroupInode(path: string): number {
  try {
    return statSync(path).ino;
  } catch (cause) {
    throw new PolicyError(
      'HOST_POLICY_TARGET',
      `there is no cgroup ${path}`,
      'give a directory below the cgroup2 mount',
      {
        cause,
      },
    );
  }
}
