"""Looks at any network namespace, and changes nothing: links, addresses, and where the kernel would send a packet."""

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from driver.errors import KernelError
from driver.host_network import LinkSeen
from driver.kernel import wire
from driver.kernel.rawsocket import RawSocket
from driver.kernel.seen import dump_addresses, dump_links, link_of
from store.ip import IPAddress, IPInterface, IPNetwork

RTA_SRC, RTA_IIF, RTA_PREFSRC = 2, 3, 7
LOCAL = 2  # RTN_LOCAL, a route's type; by its table it cannot be told: without rules the kernel keeps both as one
LOOKUP_TABLE, FIB_MATCH = 0x1000, 0x2000  # RTM_F_*: answer with the route that matched, not with the way alone


@dataclass(frozen=True, slots=True)
class Way:
    """The route that the kernel takes for a packet."""

    destination: IPNetwork
    dev: str
    via: IPAddress | None
    ours: bool  # the reconciler made it
    table: int
    source: IPAddress | None = None  # from which the kernel would send, where it was asked for a packet of its own
    ends_here: bool = False  # at an address of this host itself

    def __str__(self) -> str:
        via = f" via {self.via}" if self.via else ""
        return f"{self.destination}{via} dev {self.dev}" + (f" table {self.table}" if self.table != 254 else "")


class Look:
    """For one thread. `netns` is a name, or a path such as /proc/PID/ns/net; OSError if it cannot be entered."""

    def __init__(self, netns: str | None = None) -> None:
        self._socket = RawSocket(netns)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def links(self) -> list[LinkSeen]:
        return [link_of(raw) for raw in dump_links(self._socket)]

    def addresses(self) -> Iterator[tuple[int, IPInterface]]:
        """With the index of their links."""
        return ((seen.index, seen.interface) for seen in dump_addresses(self._socket))

    def foreign_routes(self) -> Iterator[tuple[IPNetwork, int | None]]:
        """The unicast routes of the main table that are not ours, with the index of their links."""
        for family in wire.FAMILIES:
            head = wire.RTMSG.pack(family, 0, 0, 0, wire.MAIN_TABLE, 0, 0, 0, 0)
            for raw in self._socket.dump(wire.GET_ROUTE, head):
                if not wire.is_ours(raw):
                    yield from ((route.destination, route.index) for route in wire.read_host_routes(raw))

    def way(self, to: IPAddress, source: IPAddress | None = None, arriving: int | None = None) -> Way | str:
        """The route for a packet of this host, or for one that comes in on the link `arriving`; else its no."""
        full = to.max_prefixlen
        flags = FIB_MATCH | (LOOKUP_TABLE if to.version == 4 else 0)  # IPv6 tells the table unasked
        head = wire.RTMSG.pack(wire.family_of(to.version), full, full if source else 0, 0, 0, 0, 0, 0, flags)
        request = head + wire.attribute(wire.RTA_DST, to.packed)
        request += wire.attribute(RTA_SRC, source.packed) if source else b""
        request += wire.attribute(RTA_IIF, wire.U32.pack(arriving)) if arriving else b""
        try:
            raw = self._socket.ask(wire.GET_ROUTE, request)
        except OSError as error:
            return f"{os.strerror(error.errno or 0)} ({errno.errorcode.get(error.errno or 0, '?')})"
        return self._way(raw)

    def _way(self, raw: bytes) -> Way:
        family, length, _, _, table, protocol, _, kind, _ = wire.RTMSG.unpack_from(raw)
        found = wire.attributes(raw, wire.RTMSG.size)
        index = wire.U32.unpack(found[wire.RTA_OIF])[0] if wire.RTA_OIF in found else 0
        via, source = found.get(wire.RTA_GATEWAY), found.get(RTA_PREFSRC)
        return Way(
            wire.prefix(family, found.get(wire.RTA_DST), length),
            next((link.name for link in self.links() if link.index == index), "?"),
            wire.address(via) if via else None,
            protocol == wire.PROTOCOL,
            wire.U32.unpack(found[wire.RTA_TABLE])[0] if wire.RTA_TABLE in found else table,
            wire.address(source) if source else None,
            kind == LOCAL,
        )

    def permanent_neighbours(self, index: int) -> dict[IPAddress, str]:
        """What somebody has written down by hand: addresses and MACs on a link."""
        found = {}
        for family in wire.FAMILIES:
            head = wire.NDMSG.pack(family, 0, 0, 0, 0) + wire.attribute(wire.NDA_IFINDEX, wire.S32.pack(index))
            for raw in self._socket.dump(wire.GET_NEIGHBOUR, head):
                _, link, state, _, _ = wire.NDMSG.unpack_from(raw)
                parts = wire.attributes(raw, wire.NDMSG.size)
                if link == index and state & wire.PERMANENT and {wire.NDA_DST, wire.NDA_LLADDR} <= parts.keys():
                    found[wire.address(parts[wire.NDA_DST])] = parts[wire.NDA_LLADDR].hex(":")
        return found


def inside(netns: str, host_link: LinkSeen) -> tuple["Look", LinkSeen]:
    """The namespace where the other end of a veth is, and that end. KernelError if it is not there: a process id may
    mean another process where this program has its own numbers."""
    try:
        look = Look(netns)
    except OSError as error:
        raise KernelError(f"the container's namespace {netns} cannot be entered: {error}") from error
    for link in look.links():
        ends = (link.index, link.other_end)
        if ends == (host_link.other_end, host_link.index) and link.mac != host_link.mac:
            return look, link
    look.__exit__(None, None, None)
    raise KernelError(f"the other end of {host_link.name} is not in {netns}")
