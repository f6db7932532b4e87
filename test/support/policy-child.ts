/** Processes that apply a policy and are killed before a given step. */
import type { ApplyRequest } from '../../src/host/index.ts';
import { KilledChildren, type KilledTask } from './killed-children.ts';

export interface ChildTask extends KilledTask {
  readonly request: Omit<ApplyRequest, 'rulesets'>;
  readonly rules: readonly { readonly family: 'ipv4' | 'ipv6'; readonly text: string }[];
}

export class PolicyChildren extends KilledChildren<ChildTask> {
  constructor() {
    super('policy-child.mjs');
  }
}
