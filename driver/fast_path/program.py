"""The program: what a link of a network receives for the same network leaves at once by the link that the routes say.

It knows nothing but the network's pools. Where a packet goes, and whether it may come from where it came, the kernel's
own routes say, which the reconciler keeps: so nothing here can be out of date. Whatever it does not understand goes the
ordinary way: rules, reverse-path filters, ICMP errors. So does what has to be told of: a source that this host would
not send to by the same link, a hop limit that is used up, a packet that is too large where it goes on.

One program for both ways and all links. From a container, the route leads to the tunnel or to the underlay; from there,
to the container. The neighbour's entry is kept fresh, as for any packet that is routed.

Helpers and structures: bpf-helpers(7); linux/bpf.h, `__sk_buff`, `bpf_fib_lookup` and `bpf_redir_neigh`."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import count

from driver.fast_path.instructions import (
    BYTE,
    DOUBLE,
    EQUAL,
    HALF,
    R0,
    R1,
    R2,
    R3,
    R4,
    R5,
    R6,
    R7,
    R8,
    R9,
    R10,
    UNEQUAL,
    WORD,
    Code,
)
from store.ip import IPNetwork

Groups = tuple[tuple[IPNetwork, ...], ...]  # of pools: within each of them packets take the fast path

FIB_LOOKUP, REDIRECT_NEIGH, CHECK_MTU, STORE_BYTES, REPLACE_CHECKSUM = 69, 152, 163, 9, 10  # helpers
PACKET_TYPE, PROTOCOL, VLAN_PRESENT, IFINDEX, DATA, DATA_END = 4, 16, 20, 40, 76, 80  # in __sk_buff
TO_THIS_HOST = 0  # PACKET_HOST
FOUND, NEIGHBOUR_UNKNOWN = 0, 7  # BPF_FIB_LKUP_RET_*
SEGMENTS_TOO = 1  # BPF_MTU_CHK_SEGS
RECOMPUTE = 1  # BPF_F_RECOMPUTE_CSUM: what the network card has summed up
ORDINARY_WAY = -1  # TC_ACT_UNSPEC: as if there were no program

# On the stack, by their distance from its top: bpf_fib_lookup, bpf_redir_neigh, the MTU that is told unasked, and the
# hop limit that is left.
ROUTE, ROUTE_SIZE = -64, 64
ROUTE_IFINDEX, ROUTE_SOURCE, ROUTE_DESTINATION, ROUTE_FROM, ROUTE_TO = (ROUTE + at for at in (8, 16, 32, 52, 58))
HOP, HOP_SIZE = -84, 20
HOP_ADDRESS = HOP + 4
MTU = -88
HOPS_LEFT = -96

PACKET, LINK, TOLD = R6, R9, R8  # registers that calls leave alone: __sk_buff, its link's number, ...
BYTES = R7  # ... and where its bytes begin
ETHERNET = 14  # bytes before the header
ORDINARY = "the ordinary way"


@dataclass(frozen=True, slots=True)
class Layout:
    """Where things are in a frame, counted from its beginning."""

    version: int
    protocol: bytes  # Ethernet's number for it
    family: int  # the address family of Linux
    end: int
    start: int | None  # what it must begin with: version and length of a header without options
    hop_limit: int
    checksum: int | None  # of the header, right behind the hop limit and another byte
    source: int
    destination: int
    words: int  # of 32 bits in an address


LAYOUTS = (
    Layout(4, b"\x08\x00", family=2, end=34, start=0x45, hop_limit=22, checksum=24, source=26, destination=30, words=1),
    Layout(
        6, b"\x86\xdd", family=10, end=54, start=None, hop_limit=21, checksum=None, source=22, destination=38, words=4
    ),
)


@lru_cache(256)
def program(groups: Groups) -> bytes:
    """Instructions for a classifier in direct-action mode, on what links of type Ethernet receive."""
    code = Code()
    code.copy(PACKET, R1)
    code.load(WORD, R1, PACKET, PACKET_TYPE)
    code.jump(R1, UNEQUAL, TO_THIS_HOST, ORDINARY)
    code.load(WORD, R1, PACKET, VLAN_PRESENT)  # for another link, on top of this one
    code.jump(R1, UNEQUAL, 0, ORDINARY)
    code.load(WORD, LINK, PACKET, IFINDEX)
    code.load(WORD, BYTES, PACKET, DATA)
    code.load(WORD, TOLD, PACKET, DATA_END)
    for layout in LAYOUTS:
        pools = [tuple(pool for pool in group if pool.version == layout.version) for group in groups]
        if any(pools):
            _family(code, layout, [group for group in pools if group])
    code.label(ORDINARY)
    code.set(R0, ORDINARY_WAY)
    code.exit()
    return bytes(code)


def _family(code: Code, layout: Layout, groups: Sequence[Sequence[IPNetwork]]) -> None:
    other = f"not IPv{layout.version}"
    code.load(WORD, R1, PACKET, PROTOCOL)
    code.jump(R1, UNEQUAL, _number(layout.protocol), other)
    code.copy(R1, BYTES)
    code.add(R1, layout.end)
    code.jump_beyond(R1, TOLD, ORDINARY)
    if layout.start is not None:
        code.load(BYTE, R1, BYTES, ETHERNET)
        code.jump(R1, UNEQUAL, layout.start, ORDINARY)
    code.load(BYTE, R1, BYTES, layout.hop_limit)
    for used_up in (0, 1):
        code.jump(R1, EQUAL, used_up, ORDINARY)
    _within(code, layout, groups)
    # Where the source is reached: by the link it came from, or it is not the source's.
    _route(code, layout, source=layout.destination, destination=layout.source, known=False)
    code.load(WORD, R1, R10, ROUTE_IFINDEX)
    code.jump_by(R1, UNEQUAL, LINK, ORDINARY)
    _route(code, layout, source=layout.source, destination=layout.destination, known=True)
    code.load(WORD, R1, R10, ROUTE_IFINDEX)
    code.jump_by(R1, EQUAL, LINK, ORDINARY)
    _fits(code)
    _count_down(code, layout)
    _leave(code, layout)
    code.label(other)


def _within(code: Code, layout: Layout, groups: Sequence[Sequence[IPNetwork]]) -> None:
    """Both ends of the packet are within one group, or it goes the ordinary way."""
    names = (f"IPv{layout.version} {number}" for number in count())
    matched = next(names)
    for group in groups:
        other = next(names)
        for address in (layout.source, layout.destination):
            _in_any(code, address, group, names, other)
        code.go(matched)
        code.label(other)
    code.go(ORDINARY)
    code.label(matched)


def _in_any(code: Code, address: int, pools: Sequence[IPNetwork], names: Iterator[str], other: str) -> None:
    found = next(names)
    for pool in pools:
        next_pool = next(names)
        mask, prefix = pool.netmask.packed, pool.network_address.packed
        for at in range(0, len(mask), 4):
            if any(mask[at : at + 4]):
                code.load(WORD, R1, BYTES, address + at)
                code.mask(R1, _number(mask[at : at + 4]))
                code.jump(R1, UNEQUAL, _number(prefix[at : at + 4]), next_pool)
        code.go(found)
        code.label(next_pool)
    code.go(other)
    code.label(found)


def _route(code: Code, layout: Layout, source: int, destination: int, *, known: bool) -> None:
    """Ask the kernel for the way of such a packet: ROUTE_IFINDEX, the next hop as ROUTE_DESTINATION, and if it must be
    `known` also both ends' MACs. One that is not, or does not answer, goes the ordinary way, which asks and tells."""
    for at in range(0, ROUTE_SIZE, 8):
        code.store_number(DOUBLE, R10, ROUTE + at, 0)
    code.store_number(BYTE, R10, ROUTE, layout.family)
    code.store(WORD, R10, ROUTE_IFINDEX, LINK)
    for word in range(0, 4 * layout.words, 4):
        code.load(WORD, R1, BYTES, source + word)
        code.store(WORD, R10, ROUTE_SOURCE + word, R1)
        code.load(WORD, R1, BYTES, destination + word)
        code.store(WORD, R10, ROUTE_DESTINATION + word, R1)
    code.copy(R1, PACKET)
    code.copy(R2, R10)
    code.add(R2, ROUTE)
    code.set(R3, ROUTE_SIZE)
    code.set(R4, 0)
    code.call(FIB_LOOKUP)
    there = f"IPv{layout.version} to {destination}"
    code.jump(R0, EQUAL, FOUND, there)
    if known:
        code.go(ORDINARY)
    else:
        code.jump(R0, UNEQUAL, NEIGHBOUR_UNKNOWN, ORDINARY)
    code.label(there)
    code.load(BYTE, R1, R10, ROUTE)
    code.jump(R1, UNEQUAL, layout.family, ORDINARY)  # IPv4 by a router with IPv6


def _fits(code: Code) -> None:
    """Each segment of the packet is small enough for the link it leaves by."""
    code.store_number(WORD, R10, MTU, 0)
    code.copy(R1, PACKET)
    code.load(WORD, R2, R10, ROUTE_IFINDEX)
    code.copy(R3, R10)
    code.add(R3, MTU)
    code.set(R4, 0)
    code.set(R5, SEGMENTS_TOO)
    code.call(CHECK_MTU)
    code.jump(R0, UNEQUAL, 0, ORDINARY)


def _count_down(code: Code, layout: Layout) -> None:
    """One hop less is left. Where the packet's bytes are is not known any more afterwards."""
    code.load(BYTE, R1, BYTES, layout.hop_limit)
    code.add(R1, -1)
    code.store(BYTE, R10, HOPS_LEFT, R1)
    if layout.checksum is not None:
        code.load(HALF, R3, BYTES, layout.hop_limit)
        code.copy(R4, R3)
        code.add(R4, -1)  # the hop limit is the lower byte
        code.copy(R1, PACKET)
        code.set(R2, layout.checksum)
        code.set(R5, 2)
        code.call(REPLACE_CHECKSUM)
    # Two changes that cancel each other out, or one.
    _store(code, layout.hop_limit, HOPS_LEFT, 1, 0 if layout.checksum is not None else RECOMPUTE)


def _leave(code: Code, layout: Layout) -> None:
    """The frame has its new MACs before the kernel writes them once more: it takes the old ones for a part of what the
    network card has summed up, and the new ones out of that sum."""
    for at, mac in ((0, ROUTE_TO), (6, ROUTE_FROM)):
        _store(code, at, mac, 6)
    for at in range(0, HOP_SIZE, 4):
        code.store_number(WORD, R10, HOP + at, 0)
    code.store_number(WORD, R10, HOP, layout.family)
    for word in range(0, 4 * layout.words, 4):
        code.load(WORD, R1, R10, ROUTE_DESTINATION + word)
        code.store(WORD, R10, HOP_ADDRESS + word, R1)
    code.load(WORD, R1, R10, ROUTE_IFINDEX)
    code.copy(R2, R10)
    code.add(R2, HOP)
    code.set(R3, HOP_SIZE)
    code.set(R4, 0)
    code.call(REDIRECT_NEIGH)
    code.exit()


def _store(code: Code, at: int, source: int, length: int, flags: int = 0) -> None:
    """So many bytes of the stack into the packet."""
    code.copy(R1, PACKET)
    code.set(R2, at)
    code.copy(R3, R10)
    code.add(R3, source)
    code.set(R4, length)
    code.set(R5, flags)
    code.call(STORE_BYTES)


def _number(value: bytes) -> int:
    """As the machine loads it from memory."""
    return int.from_bytes(value, sys.byteorder)
