/** Lists of one match and one verdict: addresses, and ports. */

import { xorshift } from '../../test/support/xorshift.ts';
import {
  addressText,
  FLOW_COUNT,
  INPUT,
  inputRules,
  isUsable,
  nftRules,
  nftSetRules,
  type Scenario,
} from './scenario.ts';

const TARGET = 0x0a000001;
const UDP = 17;

export interface AddressList {
  /** As text. */
  readonly sources: readonly string[];
  readonly scenario: Scenario;
}

/** `count` distinct addresses, all dropped; every flow comes from one of them. */
export function addressList(count: number): AddressList {
  const random = xorshift(count + 1);
  const addresses = new Set<number>();
  while (addresses.size < count) {
    const address = random();
    if (isUsable(address)) addresses.add(address);
  }
  const all = [...addresses];
  const sources = all.map(addressText);
  const flows = Array.from({ length: FLOW_COUNT }, () => ({
    source: all[random() % count]!,
    destination: TARGET,
    protocol: UDP,
    sourcePort: random() & 0xffff,
    destinationPort: random() & 0xffff,
  }));
  const scenario: Scenario = {
    family: 'addresses',
    name: `addresses ${count}`,
    rules: count,
    place: INPUT,
    save: inputRules(sources.map((source) => `-s ${source}/32 -j DROP`)),
    flows,
    nftLinear: nftRules(sources.map((source) => `ip saddr ${source} counter drop`)),
    nftSet: nftSetRules('ipv4_addr', sources, 'ip saddr @listed counter drop'),
  };
  return { sources, scenario };
}

/** The ports 1 to `count`, each its own rule; every flow goes to one of them. */
export function portList(count: number): Scenario {
  const random = xorshift(count);
  const ports = Array.from({ length: count }, (_, index) => index + 1);
  const flows = Array.from({ length: FLOW_COUNT }, () => ({
    source: 0x0a000002,
    destination: TARGET,
    protocol: UDP,
    sourcePort: random() & 0xffff,
    destinationPort: 1 + (random() % count),
  }));
  return {
    family: 'ports',
    name: `ports ${count}`,
    rules: count,
    place: INPUT,
    save: inputRules(ports.map((port) => `-p udp -m udp --dport ${port} -j DROP`)),
    flows,
    nftLinear: nftRules(ports.map((port) => `udp dport ${port} counter drop`)),
    nftSet: nftSetRules('inet_service', ports.map(String), 'udp dport @listed counter drop'),
  };
}
