/** Transport checksums as nf_checksum() and sctp_error() verify them: the packet must carry all that is covered. */
import {
  addToSum,
  computeSctpChecksum,
  foldSum,
  IpProtocol,
  pseudoHeaderSum,
  sctpChecksum,
} from '../../wire/index.ts';
import type { Located } from './packet.ts';

/**
 * IPv4 ICMP has no pseudo-header, SCTP has a CRC; everything else a sum over `coverage` bytes from the header on and a
 * pseudo-header whose length is that of all that follows the IP header.
 */
export function checksumIsRight(located: Located, coverage?: number): boolean {
  const { family, bytes, protocol, offset } = located;
  if (protocol === IpProtocol.SCTP) return computeSctpChecksum(bytes, offset) === sctpChecksum(bytes, offset);
  const [source, destination, addressBytes] = family === 'ipv4' ? [12, 16, 4] : [8, 24, 16];
  const plain = family === 'ipv4' && protocol === IpProtocol.ICMP;
  const length = bytes.length - offset;
  // The kernel verifies UDP-Lite as if its number were UDP's, so a right UDP-Lite checksum is wrong to it.
  const number = protocol === IpProtocol.UDPLITE ? IpProtocol.UDP : protocol;
  const pseudo = plain ? 0 : pseudoHeaderSum(bytes, source, destination, addressBytes, number, length);
  return foldSum(addToSum(pseudo, bytes, offset, offset + (coverage ?? length))) === 0xffff;
}
