#!/usr/bin/python3
"""Records what a kernel's own LOG target prints of packets: log-lines.txt, "flags packet line" each.

The kernel writes LOG lines of the initial network namespace only (net.netfilter.nf_log_all_netns apart, which is the
machine's to set). So they are recorded in a kernel of their own: user-mode Linux, which runs as a process. As root on
Debian, with the packages user-mode-linux, iptables and iproute2:

    python3 test/host/vectors/record-log-lines.py

The script starts the kernel with itself as the first process. Packets are random, from a fixed seed: whole, cut off,
fragments, options and extension headers, ICMP errors with what they quote. They come in at a veth device and meet LOG
in the raw table, before anything looks at more than their IP headers.
"""
import ctypes
import os
import random
import socket
import struct
import subprocess
import sys
import time

PLACE = os.path.dirname(os.path.abspath(__file__))
SEED = 20261121
PACKETS = 60
MODULES = ['ipv6', 'veth', 'xt_LOG', 'nf_log_syslog', 'iptable_raw', 'ip6table_raw']
NR_FINIT_MODULE = 313
TO = bytes.fromhex('02000000000b')
FROM = bytes.fromhex('02000000000a')
# XT_LOG_* and the options that set them.
FLAGS = [
    (0x00, ''),
    (0x01, '--log-tcp-sequence'),
    (0x02, '--log-tcp-options'),
    (0x04, '--log-ip-options'),
    (0x08, '--log-uid'),
    (0x20, '--log-macdecode'),
    (0x27, '--log-tcp-sequence --log-tcp-options --log-ip-options --log-macdecode'),
]

random_source = random.Random(SEED)
pick = random_source.choice


def number(below):
    return random_source.randrange(below)


def noise(length):
    return bytes(number(256) for _ in range(length))


def cut(data):
    return data[: number(len(data) + 1)]


def checksum(data):
    total = sum(struct.unpack('!%dH' % (len(data) // 2), data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ipv4(protocol, payload, options=b'', fragment=0):
    words = 5 + len(options) // 4
    head = struct.pack(
        '!BBHHHBBH4s4s', 0x40 | words, pick([0, 0x10, 0xFF, 3]), words * 4 + len(payload), number(65536), fragment,
        1 + number(255), protocol, 0, bytes([10, number(256), 0, 1]), bytes([10, 0, number(256), 2])) + options
    return head[:10] + struct.pack('!H', checksum(head)) + head[12:] + payload


def ipv6(next_header, payload):
    address = lambda: bytes.fromhex('20010db8') + noise(12)
    head = struct.pack('!IHBB', 0x60000000 | number(1 << 28), len(payload), next_header, 1 + number(255))
    return head + address() + address() + payload


def tcp():
    options = noise(4 * pick([0, 1, 3, 5]))
    # Without the flag AE, which kernels since 6.15 print.
    reserved = pick([0, 2, 4, 6, 14])
    return struct.pack(
        '!HHIIBBHHH', number(65536), number(65536), number(1 << 32), number(1 << 32),
        (5 + len(options) // 4) << 4 | reserved, number(256), number(65536), 0, pick([0, 7])) + options + noise(pick([0, 4]))


def udp():
    length = pick([0, 5])
    return struct.pack('!HHHH', number(65536), number(65536), 8 + length, 0) + noise(length)


def icmp(types, errors, quoted, lengths):
    kind = pick(types)
    body = bytes([kind, pick([0, 1, 2, 3, 4, 5, 9]), 0, 0]) + noise(4)
    return body + (quoted()[: pick(lengths)] if kind in errors else noise(pick([0, 4, 12, 16])))


def icmp4():
    types = [0, 3, 4, 5, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 30, 255]
    return icmp(types, (3, 4, 5, 11, 12), packet4, [200, 28, 30, 20, 10])


def icmp6():
    types = [1, 2, 3, 4, 128, 129, 130, 131, 132, 133, 134, 135, 136, 137, 143, 200]
    return icmp(types, (1, 2, 3, 4), packet6, [200, 60, 48, 40, 10])


def packet4():
    kind = pick(['tcp', 'udp', 'udplite', 'icmp', 'ah', 'esp', 'other', 'cut', 'fragment', 'options'])
    if kind == 'fragment':
        places = [0x2000, 0x2003, 0x0005, 0x1FFF, 0x8000, 0x4001, 0x6000]
        return ipv4(pick([6, 17, 1, 50, 51]), noise(16), fragment=pick(places))
    if kind == 'options':
        return ipv4(pick([6, 17]), tcp(), options=noise(4 * pick([1, 2, 10])))
    if kind == 'cut':
        protocol, whole = pick([(6, tcp), (17, udp), (1, icmp4), (51, lambda: noise(12)), (50, lambda: noise(8))])
        return ipv4(protocol, cut(whole()))
    return {
        'tcp': lambda: ipv4(6, tcp()),
        'udp': lambda: ipv4(17, udp()),
        'udplite': lambda: ipv4(136, udp()),
        'icmp': lambda: ipv4(1, icmp4()),
        'ah': lambda: ipv4(51, bytes([6, 4, 0, 0]) + noise(pick([4, 8, 12]))),
        'esp': lambda: ipv4(50, noise(pick([8, 20]))),
        'other': lambda: ipv4(pick([2, 47, 89, 132, 255]), noise(pick([0, 8]))),
    }[kind]()


def packet6():
    protocol, make = pick([
        (6, tcp), (17, udp), (58, icmp6), (136, udp), (50, lambda: noise(12)), (47, lambda: noise(4)), (59, bytes)])
    rest = make()
    fragment = lambda following: bytes([following, 0]) + struct.pack('!H', pick([0, 1, 8, 9, 0xFFF8])) + noise(4)
    kind = pick(['plain', 'plain', 'plain', 'options', 'fragment', 'ah', 'route', 'two', 'cut'])
    if kind == 'cut':
        protocol, whole = pick([
            (6, tcp), (17, udp), (58, icmp6), (51, lambda: noise(12)), (44, lambda: noise(8)), (60, lambda: noise(8))])
        return ipv6(protocol, cut(whole()))
    return {
        'plain': lambda: ipv6(protocol, rest),
        'options': lambda: ipv6(60, bytes([protocol, 0, 1, 4, 0, 0, 0, 0]) + rest),
        'fragment': lambda: ipv6(44, fragment(pick([protocol, 60])) + rest),
        'ah': lambda: ipv6(51, bytes([protocol, 1, 0, 0]) + noise(8) + rest),
        'route': lambda: ipv6(43, bytes([protocol, 0, pick([0, 2, 4]), 0]) + noise(4) + rest),
        'two': lambda: ipv6(60, bytes([44, 0, 1, 4, 0, 0, 0, 0]) + fragment(protocol) + rest),
    }[kind]()


def run(line):
    subprocess.run(line, shell=True, check=True)


def load_modules():
    base = f'/usr/lib/uml/modules/{os.uname().release}/'
    needs = {}
    for line in open(base + 'modules.dep'):
        path, following = line.split(':')
        needs[os.path.basename(path)[:-3]] = [path, *following.split()]
    system = ctypes.CDLL(None).syscall
    for module in MODULES:
        for path in reversed(needs[module]):
            # One that is there already is refused, and no matter.
            with open(base + path, 'rb') as file:
                system(NR_FINIT_MODULE, file.fileno(), b'', 0)


def read_log(log):
    lines = []
    while True:
        try:
            lines.append(os.read(log, 8192))
        except BlockingIOError:
            return [line.split(b';', 1)[1].split(b'\n')[0].decode('latin1') for line in lines if b';x IN=' in line]
        except BrokenPipeError:
            # Older lines have been overwritten.
            continue


def record(out):
    load_modules()
    for line in ['add dev a type veth peer name b', f'set dev a address {FROM.hex(":")}', f'set dev b address {TO.hex(":")}']:
        run(f'ip link {line}')
    run('sysctl -q -w net.ipv6.conf.a.disable_ipv6=1; ip link set dev a up; ip link set dev b up')
    time.sleep(0.5)
    log = os.open('/dev/kmsg', os.O_RDONLY | os.O_NONBLOCK)
    sender = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    sender.bind(('a', 0))
    for tool in ('iptables-legacy', 'ip6tables-legacy'):
        run(f'{tool} -t raw -P PREROUTING DROP')
    for flags, words in FLAGS:
        for tool in ('iptables-legacy', 'ip6tables-legacy'):
            run(f'{tool} -t raw -F; {tool} -t raw -A PREROUTING -i b -j LOG --log-prefix "x " {words}')
        for count in range(PACKETS):
            packet, kind = (packet6(), b'\x86\xdd') if count % 2 else (packet4(), b'\x08\x00')
            read_log(log)
            sender.send(TO + FROM + kind + packet)
            end = time.monotonic() + 5
            lines = []
            while not lines and time.monotonic() < end:
                lines = read_log(log)
            print(flags, packet.hex(), *lines, file=out)


if os.getpid() == 1:
    run('mount -t proc proc /proc; mount -t sysfs sysfs /sys; mount -t tmpfs run /run')
    os.environ['PATH'] = '/usr/sbin:/usr/bin:/sbin:/bin'
    with open(f'{PLACE}/log-lines.txt', 'w') as file:
        record(file)
    with open('/proc/sysrq-trigger', 'w') as trigger:
        trigger.write('o')
    time.sleep(60)
else:
    options = 'rootfstype=hostfs rootflags=/ rw mem=128M log_buf_len=1M quiet con=null con0=null,fd:2 ssl=null'
    sys.exit(subprocess.run(['linux.uml', *options.split(), f'init={os.path.abspath(__file__)}'], stdin=subprocess.DEVNULL).returncode)
