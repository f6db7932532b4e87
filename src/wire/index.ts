/**
 * Packets as bytes: headers of every protocol that a packet path meets, captures, checksums, printers.
 *
 * Two levels per protocol. The *view*: `checkX(bytes, offset, end)` says what is wrong with a header or `undefined`,
 * and accessors `xField(bytes, offset)` read single fields without allocating. The *representation*: `parseX` gives
 * a plain object (or `undefined`), `emitX(header, payload)` bytes. Nothing throws on input, however short or wrong:
 * accessors read zero for bytes that are not there. Emitters throw WireError for values that no header can hold.
 * `Frame` and `IpPacket` are reusable objects for whole frames and packets. Numbers are in host order, addresses
 * stay bytes in network order.
 */
export * from './arp.ts';
export * from './bytes.ts';
export * from './capture/index.ts';
export * from './checksum.ts';
export * from './dccp.ts';
export * from './ethernet.ts';
export * from './fragment.ts';
export * from './frame.ts';
export * from './gre.ts';
export * from './icmp.ts';
export * from './ipsec.ts';
export * from './ipv4.ts';
export * from './ipv4-options.ts';
export * from './ipv6.ts';
export * from './ipv6-extension.ts';
export * from './ipv6-find-header.ts';
export * from './link-type.ts';
export * from './options.ts';
export * from './packet.ts';
export * from './print-line.ts';
export * from './print-tree.ts';
export * from './problem.ts';
export * from './protocol.ts';
export * from './sctp.ts';
export * from './tcp.ts';
export * from './transport-checksum.ts';
export * from './udp.ts';
export * from './vlan.ts';
