/** Connections a second: to a steered address against a plain listener, and while everything changes. */
import { addAddress, withNetns } from '../../src/kernel/index.ts';
import { addressBytes } from '../../test/support/netns.ts';
import { TcpStream } from '../../test/support/socket.ts';
import { ASKED_PER_SECOND, changeUnderLoad } from '../../test/support/sockets/load.ts';
import { Processes } from '../../test/support/sockets/processes.ts';
import type { SteeredNetns } from './lookups.ts';

const CONNECTIONS = 1000;
const ROUNDS = 40;

/** The best round of each, interleaved; each connection is accepted and closed. */
export async function measureConnections(at: SteeredNetns): Promise<object> {
  const connections = (target: Uint8Array, port: number): number =>
    withNetns(at.netns, () => {
      const start = performance.now();
      for (let count = 0; count < CONNECTIONS; count++) {
        const client = TcpStream.connect(target, port, 5000);
        at.server.accept(5000)!.close();
        client.close();
      }
      return (CONNECTIONS * 1000) / (performance.now() - start);
    });
  await at.apply([
    {
      label: 'web',
      protocol: 'tcp',
      prefix: { address: { family: 'ipv4', bytes: Uint8Array.of(127, 1, 0, 0) }, length: 16 },
      ports: { min: 443, max: 443 },
    },
  ]);
  let [plain, steered] = [0, 0];
  for (let round = 0; round < ROUNDS; round++) {
    plain = Math.max(plain, connections(addressBytes('127.0.0.1'), at.server.port));
    steered = Math.max(steered, connections(addressBytes('127.1.0.1'), 443));
  }
  return {
    plain: Math.round(plain),
    steered: Math.round(steered),
    ratio: Number((steered / plain).toFixed(3)),
  };
}

function rates(perSecond: readonly number[]): object {
  const mean = perSecond.reduce((sum, each) => sum + each, 0) / perSecond.length;
  return { slowest: Math.min(...perSecond), mean: Math.round(mean) };
}

/** What became of connections and flows during the changes that the live test makes. */
export async function measureChanges(at: SteeredNetns): Promise<object> {
  withNetns(at.netns, () => {
    for (const address of ['fd00::1', 'fd00::2'])
      addAddress({ index: 1, address: addressBytes(address), prefixLength: 64 });
  });
  const processes = new Processes(at.name);
  try {
    const { udp, ...tcp } = await changeUnderLoad(at.steering, processes);
    return {
      askedPerSecond: ASKED_PER_SECOND,
      connections: { made: tcp.made, failures: tcp.failures, perSecond: rates(tcp.perSecond) },
      udpFlows: {
        made: udp.made,
        failures: udp.failures,
        movedBeforeEnd: udp.moves.filter(({ atMs }) => atMs < udp.handOver.endMs).length,
        perSecond: rates(udp.perSecond),
      },
    };
  } finally {
    await processes.close();
  }
}
