"""Veth pairs of containers, each made in one message together with what its host's end has.

The kernel changes links, addresses and routes one at a time, and who asks for a change waits in a queue. What comes in
one message is rarely parted: the next change is asked for before the kernel has woken whoever waits. Sent one after the
other, each waits for its turn again. Addresses and routes name a link by its number, and this one is not there yet, so
its number is chosen here, as the kernel lets one.

Layouts: linux/if_link.h (IFLA_*), linux/veth.h."""

import random
from collections.abc import Iterator
from itertools import count
from typing import NamedTuple

from driver.kernel import wire
from driver.kernel.seen import IFLA_ADDRESS, IFLA_INFO_DATA, IFLA_INFO_KIND, IFLA_LINKINFO, IFLA_MTU

IFLA_GSO_MAX_SEGS, VETH_INFO_PEER = 40, 1
FIRST, LAST = 1 << 24, 1 << 30  # far from the numbers that the kernel gives, which begin at 1


class Pair(NamedTuple):
    host_link: str
    container_link: str
    mtu: int
    mac: str  # of the host's end
    segments: int | None = None  # of the largest packets that the container's TCP makes

    def __str__(self) -> str:
        return f"link {self.host_link} type veth peer {self.container_link} mtu {self.mtu}"


def numbers() -> Iterator[int]:
    """For links to come. Where one is taken by another program, the next is not."""
    return count(random.randrange(FIRST, LAST))  # noqa: S311 - no secret


def pack_pair(pair: Pair, index: int) -> bytes:
    """The host's end is up, and has this number."""
    peer = wire.IFINFO.pack(0, 0, 0, 0, 0) + _shape(pair.container_link, pair.mtu)
    if pair.segments is not None:
        peer += wire.attribute(IFLA_GSO_MAX_SEGS, wire.U32.pack(pair.segments))
    kind = wire.attribute(IFLA_INFO_KIND, b"veth")
    kind += wire.attribute(IFLA_INFO_DATA, wire.attribute(VETH_INFO_PEER, peer))
    own = _shape(pair.host_link, pair.mtu) + wire.attribute(IFLA_ADDRESS, wire.mac_bytes(pair.mac))
    return wire.IFINFO.pack(0, 0, index, wire.UP, wire.UP) + own + wire.attribute(IFLA_LINKINFO, kind)


def _shape(name: str, mtu: int) -> bytes:
    return wire.attribute(wire.IFLA_IFNAME, f"{name}\0".encode()) + wire.attribute(IFLA_MTU, wire.U32.pack(mtu))
