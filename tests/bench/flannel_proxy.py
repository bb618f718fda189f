"""`flannel_proxy.py LIBRARY DEVICE MTU OWN LOCAL THEIRS PEER`: flannel's C program at work, until it is killed.

It carries packets between the TUN device and UDP at address LOCAL; those for the prefix THEIRS go to PEER."""

import ctypes
import fcntl
import os
import socket
import struct
import sys

from driver.forwarder.tun import DEVICE, IFF_NO_PI, IFF_TUN, TUNSETIFF

PORT = 8285
COMMAND = struct.Struct("=i4si4sh2x")  # struct command of its proxy_amd64.h
SET_ROUTE = 1


def main(library: str, device: str, mtu: str, own: str, local: str, theirs: str, peer: str) -> None:
    tun = os.open(DEVICE, os.O_RDWR)
    fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH22x", device.encode(), IFF_TUN | IFF_NO_PI))
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind((local, PORT))
    network, _, length = theirs.partition("/")
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.send(COMMAND.pack(SET_ROUTE, socket.inet_aton(network), int(length), socket.inet_aton(peer), PORT))
    run_proxy = ctypes.CDLL(library).run_proxy
    run_proxy.argtypes = (*[ctypes.c_int] * 3, ctypes.c_uint32, ctypes.c_size_t, ctypes.c_int)
    address = int.from_bytes(socket.inet_aton(own), sys.byteorder)
    run_proxy(tun, udp.fileno(), its.fileno(), address, int(mtu), 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
