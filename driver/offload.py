"""The checksum offload of tunnel devices: a door that speaks ethtool, and where the offload is known to be broken.

The outer UDP checksum comes out wrong where the inner packet's is left to be computed late: with kernels before 5.7
when packets are also masqueraded with `--random-fully`; and VMware's vmxnet3 takes only packets of the ports it knows
(4789, 8472) for VXLAN and spoils the others. Ping works, TCP does not. The cure costs segmentation offload, too.

ETHTOOL_GTXCSUM and ETHTOOL_STXCSUM are `tx-checksumming` of `ethtool -K`; see linux/ethtool.h."""

import ctypes
import errno
import fcntl
import os
import re
import socket
import struct
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from driver.errors import KernelError
from driver.one_by_one import one_by_one
from driver.plan import Operation, Put
from driver.state import NoChecksumOffload, Object

SIOCETHTOOL = 0x8946
GET_DRIVER, GET_TX_CHECKSUM, SET_TX_CHECKSUM = 0x3, 0x16, 0x17
NAME = 32  # bytes of a driver's name
DRIVER_INFO = 196  # bytes of struct ethtool_drvinfo
NETWORK_LINK, VXLAN = "fl.", b"vxlan"
FIRST_SOUND_KERNEL = (5, 7)
BROKEN_DRIVERS = {"vmxnet3"}
DEVICES = Path("/sys/class/net")


class Offloads:
    kinds: tuple[type[Object], ...] = (NoChecksumOffload,)

    def read(self) -> Iterator[Object]:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as door:
            for _, name in socket.if_nameindex():
                if name.startswith(NETWORK_LINK):
                    with suppress(OSError):  # gone meanwhile
                        if _driver(door, name) == VXLAN and not _tx_checksum(door, name):
                            yield NoChecksumOffload(name)

    def apply_all(self, operations: Iterable[Operation]) -> dict[Operation, str]:
        return one_by_one(self._apply, operations)

    def _apply(self, operation: Operation) -> None:
        dev, on = operation.object.dev, not isinstance(operation, Put)
        try:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as door:
                _ask(door, dev, struct.pack("=II", SET_TX_CHECKSUM, on))
        except OSError as error:
            if not (on and error.errno == errno.ENODEV):
                raise KernelError(f"{operation}: the kernel says {error.strerror}") from error


def known_broken(dev: str, *, release: str | None = None, devices: Path = DEVICES) -> bool:
    """Whether this kernel, or a network card under the interface, spoils the checksums of tunnelled packets."""
    version = re.match(r"(\d+)\.(\d+)", release or os.uname().release)
    old = version is not None and tuple(map(int, version.groups())) < FIRST_SOUND_KERNEL
    return old or not BROKEN_DRIVERS.isdisjoint(_drivers(devices, dev))


def _drivers(devices: Path, dev: str) -> Iterator[str]:
    """Of the interface and, under a bond, bridge or VLAN, of all below it."""
    driver = devices / dev / "device/driver"
    if driver.exists():
        yield driver.resolve().name
    for lower in (devices / dev).glob("lower_*"):
        yield from _drivers(devices, lower.name.removeprefix("lower_"))


def _driver(door: socket.socket, dev: str) -> bytes:
    return _ask(door, dev, struct.pack("=I", GET_DRIVER).ljust(DRIVER_INFO, b"\0"))[4 : 4 + NAME].rstrip(b"\0")


def _tx_checksum(door: socket.socket, dev: str) -> bool:
    return bool(struct.unpack("=II", _ask(door, dev, struct.pack("=II", GET_TX_CHECKSUM, 0)))[1])


def _ask(door: socket.socket, dev: str, data: bytes) -> bytes:
    """One ethtool command; the kernel answers in the same bytes. OSError as the kernel has it."""
    buffer = ctypes.create_string_buffer(data, len(data))
    fcntl.ioctl(door, SIOCETHTOOL, struct.pack("16sP16x", dev.encode(), ctypes.addressof(buffer)))
    return buffer.raw
