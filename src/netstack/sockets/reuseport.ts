/** SO_REUSEPORT groups: net/core/sock_reuseport.c. */
import type { NetSocket } from './socket.ts';

/** What a group's program (SO_ATTACH_REUSEPORT_EBPF) answers: a member, drop, or nothing, then the hash decides. */
export type ReuseportProgram = (group: ReuseportGroup, hash: number) => NetSocket | 'drop' | undefined;

export class ReuseportGroup {
  readonly members: NetSocket[] = [];
  program: ReuseportProgram | undefined = undefined;
  /** A member has been connected at some time (reuse->has_conns). */
  hasConnections = false;

  add(socket: NetSocket): void {
    this.members.push(socket);
    socket.group = this;
  }

  /** The last member takes the place of the one that leaves, as in the kernel. */
  remove(socket: NetSocket): void {
    const at = this.members.indexOf(socket);
    if (at < 0) return;
    const last = this.members.pop()!;
    if (last !== socket) this.members[at] = last;
    socket.group = undefined;
  }
}

/** The socket that the group of `socket` chooses: `undefined` when it has none (reuseport_select_sock). */
export function selectReuseport(socket: NetSocket, hash: number): NetSocket | 'drop' | undefined {
  const { group } = socket;
  if (group === undefined) return undefined;
  const answer = group.program?.(group, hash);
  if (answer === 'drop') return 'drop';
  // A program may name members only; anything else is no answer.
  if (answer !== undefined && group.members.includes(answer)) return answer;
  return selectByHash(group, hash);
}

/** reuseport_select_sock_by_hash: reciprocal_scale, skipping connected sockets. */
function selectByHash({ members }: ReuseportGroup, hash: number): NetSocket | undefined {
  if (members.length === 0) return undefined;
  const first = Number((BigInt(hash >>> 0) * BigInt(members.length)) >> 32n);
  for (let step = 0; step < members.length; step++) {
    const member = members[(first + step) % members.length]!;
    if (member.state !== 'ESTABLISHED') return member;
  }
  return undefined;
}
