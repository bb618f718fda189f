"""TUN devices: the only file that knows their ioctls.

A device lasts until it is deleted, with its addresses and routes, whether a process has it open or not. The kernel
hands over TCP and UDP packets of up to 64 KiB, without checksums, and takes them alike (linux/if_tun.h)."""

import errno
import fcntl
import os
import socket
import struct

DEVICE = "/dev/net/tun"
TUNSETIFF, TUNSETPERSIST, TUNSETOFFLOAD = 0x400454CA, 0x400454CB, 0x400454D0
IFF_TUN, IFF_NO_PI, IFF_VNET_HDR = 0x0001, 0x1000, 0x4000
TUN_F_CSUM, TUN_F_TSO4, TUN_F_TSO6, TUN_F_TSO_ECN, TUN_F_USO4, TUN_F_USO6 = 0x01, 0x02, 0x04, 0x08, 0x20, 0x40
TCP = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN


def create(name: str) -> None:
    """Make the device, or keep the one that is there. OSError if the kernel refuses."""
    descriptor = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
    try:
        _choose(descriptor, name)
        fcntl.ioctl(descriptor, TUNSETPERSIST, 1)
    except OSError as error:
        if error.errno != errno.EBUSY:  # a forwarder has it
            raise
    finally:
        os.close(descriptor)


def attach(name: str) -> int:
    """The device's file, without blocking. OSError if the kernel refuses, or another process has it."""
    descriptor = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        _choose(descriptor, name)
        fcntl.ioctl(descriptor, TUNSETPERSIST, 1)
        try:
            fcntl.ioctl(descriptor, TUNSETOFFLOAD, TCP | TUN_F_USO4 | TUN_F_USO6)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            fcntl.ioctl(descriptor, TUNSETOFFLOAD, TCP)  # before Linux 6.2
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def index(name: str) -> int | None:
    """The number of the link that is called so here; None if none is."""
    try:
        return socket.if_nametoindex(name)
    except OSError:
        return None


def give_up(descriptor: int) -> bool:
    """The device will not stay when it is closed; False if it is gone already."""
    try:
        fcntl.ioctl(descriptor, TUNSETPERSIST, 0)
    except OSError as error:
        if error.errno != errno.EBADFD:
            raise
        return False
    return True


def close(descriptor: int) -> None:
    """The device stays."""
    os.close(descriptor)


def _choose(descriptor: int, name: str) -> None:
    request = struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI | IFF_VNET_HDR)
    fcntl.ioctl(descriptor, TUNSETIFF, request)
