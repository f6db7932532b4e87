"""Answers datagrams with the port they were sent to, from the address and port they were sent to."""
import socket, struct, sys

address, port = sys.argv[1], int(sys.argv[2])
six = ':' in address
server = socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM)
server.setsockopt(socket.IPPROTO_IPV6 if six else socket.IPPROTO_IP, 74 if six else 20, 1)  # IP(V6)_RECVORIGDSTADDR
server.bind((address, port))
print('listening', flush=True)
while True:
    data, control, _, peer = server.recvmsg(2048, 256)
    name = next(value for _, kind, value in control if kind in (20, 74))
    to_port = struct.unpack('!H', name[2:4])[0]
    to = socket.inet_ntop(socket.AF_INET6, name[8:24]) if six else socket.inet_ntop(socket.AF_INET, name[4:8])
    with socket.socket(server.family, socket.SOCK_DGRAM) as reply:
        reply.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reply.bind((to, to_port))
        reply.sendto(str(to_port).encode(), peer)
