"""What the kernel tells by itself: that links, addresses, neighbours, routes and switches changed."""

import errno
from collections.abc import Collection
from socket import AF_UNSPEC
from typing import NamedTuple, Protocol

from driver.entries import Key
from driver.errors import KernelError
from driver.kernel import programs, wire
from driver.kernel.rawsocket import BUFFER, RawSocket, enlarge, open_socket
from driver.kernel.seen import address_of, dump_links, link_of
from driver.model import ENDPOINT_LINK, NETWORK_LINK
from driver.state import Address, FastPath, Object

# RTMGRP_*: links, neighbours, classifiers, addresses and routes of both families; their switches
# (RTNLGRP_IPV4_NETCONF, ..6_..)
GROUPS = 0x1 | 0x4 | programs.GROUP | 0x10 | 0x40 | 0x100 | 0x400 | 1 << 23 | 1 << 24
CONTAINERS = (ENDPOINT_LINK, "flc", "veth", "docker", "br-")  # links that come and go with containers


class _Link(NamedTuple):
    name: str
    mtu: int
    ported: bool


class Concerns(Protocol):
    """What is of interest; all for any thread."""

    def expects(self, o: Object) -> bool:
        """Whether an object, made or changed, is as it should be: most are our own doing, thousands when many hosts
        come, and a few for each container."""

    def keeps(self, key: Key) -> bool:
        """Whether there should be an object of that key, however it is."""

    def attached(self, link: str) -> bool:
        """Whether its container still has a link: what becomes of others is our own doing, too."""

    @property
    def uplinks(self) -> Collection[str]:
        """The links to other hosts and to the world, whatever they are called."""


class Everything:
    """All that is not known to be nothing to us is of interest."""

    uplinks: Collection[str] = ()

    def expects(self, o: Object) -> bool:
        return False

    def keeps(self, key: Key) -> bool:
        return False

    def attached(self, link: str) -> bool:
        return True


class Notices:
    """For one thread: make it there."""

    def __init__(self, netns: str | None = None, concerns: Concerns | None = None) -> None:
        self._our: Concerns = concerns or Everything()
        try:
            self._socket = open_socket(netns, GROUPS)  # before the links are asked for: none is missed
            enlarge(self._socket)
            self._netns, self._links = netns, _all_links(netns)
        except OSError as error:
            raise KernelError(f"no notices from the kernel: {error}") from error

    def wait(self) -> bool:
        """Block until the kernel tells something; whether it may concern what we keep. KernelError when closed."""
        try:
            data = self._socket.recv(BUFFER)
        except OSError as error:
            if error.errno == errno.ENOBUFS:
                self._links = _all_links(self._netns)
                return True  # too much at once: some of it is lost, and all must be looked at
            raise KernelError(f"no more notices from the kernel: {error}") from error
        concerns = [self._concerns_us(kind, payload) for kind, _, _, payload in wire.messages(data)]
        return any(concerns)  # all of them were read: links are learned

    def _concerns_us(self, kind: int, payload: bytes) -> bool:
        """Not the coming of containers, which is most of it and our own doing."""
        if kind in (wire.NEW_ROUTE, wire.DEL_ROUTE):
            return self._concerns_route(kind, payload) if wire.is_ours(payload) else self._concerns_foreign(payload)
        if kind in (wire.NEW_LINK, wire.DEL_LINK):
            return self._concerns_link(kind, payload)
        if kind in (wire.NEW_ADDRESS, wire.DEL_ADDRESS):
            return self._concerns_address(kind, payload)
        if kind in (wire.NEW_NEIGHBOUR, wire.DEL_NEIGHBOUR):
            return self._concerns_neighbour(kind, payload)
        if kind in (programs.DEL_QDISC, programs.DEL_FILTER):
            return self._our.keeps(FastPath(self._name(programs.link_of(payload)), digest="").key)
        return kind == wire.NEW_SWITCHES and self._concerns_switches(payload)

    def _concerns_link(self, kind: int, payload: bytes) -> bool:
        """Whichever name it had or has got."""
        index, link = _known(payload)
        before = self._links.get(index, link)
        if kind == wire.NEW_LINK:
            self._links[index] = link
        elif payload[0] == AF_UNSPEC:  # a bridge tells so, as AF_BRIDGE, of a port that only leaves it
            self._links.pop(index, None)
        names = link.name, before.name
        if any(name.startswith(NETWORK_LINK) for name in names):
            return True
        if any(name.startswith(ENDPOINT_LINK) for name in names):
            harmed = link != before or (wire.was_set_down(payload) and self._our.attached(link.name))
            return kind == wire.NEW_LINK and harmed
        return any(not self._is_containers(name) for name in names)

    def _concerns_address(self, kind: int, payload: bytes) -> bool:
        seen = address_of(payload)
        name = self._name(seen.index)
        if name.startswith((NETWORK_LINK, ENDPOINT_LINK)) and seen.interface.is_link_local:
            return False  # the kernel's own, which comes a second after its link is up
        if name.startswith(ENDPOINT_LINK):
            put = kind == wire.NEW_ADDRESS
            return not self._our.expects(Address(name, seen.interface)) if put else self._our.attached(name)
        return name.startswith(NETWORK_LINK) or not self._is_containers(name)

    def _is_containers(self, name: str) -> bool:
        """A bridge between hosts may be called like one between containers."""
        return name.startswith(CONTAINERS) and name not in self._our.uplinks

    def _concerns_route(self, kind: int, payload: bytes) -> bool:
        name = self._name(wire.index_of_route(payload) or 0)
        if kind == wire.DEL_ROUTE:
            return not name.startswith(ENDPOINT_LINK) or self._our.attached(name)
        return not self._our.expects(wire.read_route(payload, name))

    def _concerns_foreign(self, payload: bytes) -> bool:
        """A route: one in the place of one of ours, and what the underlay follows from, the default routes and what is
        on its link. Not what a routing daemon has by the thousand, through other routers."""
        for route in wire.read_host_routes(payload):
            on_link = route.is_direct and self._name(route.index or 0) in self._our.uplinks
            if on_link or not route.destination.prefixlen:
                return True
        return payload[4] == wire.MAIN_TABLE and self._our.keeps(wire.read_route(payload, "").key)

    def _concerns_neighbour(self, kind: int, payload: bytes) -> bool:
        name = self._name(wire.index_of_neighbour(payload))
        if not name.startswith(NETWORK_LINK):
            return False
        if kind == wire.DEL_NEIGHBOUR:
            return True
        if (entry := wire.read_neighbour(payload, name)) is not None:
            return not self._our.expects(entry)
        learned = wire.neighbour_named(payload, name)
        return learned is not None and self._our.keeps(learned.key)  # it is in the place of ours

    def _concerns_switches(self, payload: bytes) -> bool:
        """Forwarding, turned off for all; of a container's link, what is not on any more as it was made. A link that
        comes tells of all its switches at once."""
        index, switches = wire.read_switches(payload)
        if index == wire.ALL_LINKS:
            return switches.get(wire.FORWARDING) == 0
        harmed = len(switches) == 1 and 1 not in switches.values()
        name = self._name(index)
        return harmed and name.startswith(ENDPOINT_LINK) and self._our.attached(name)

    def _name(self, index: int) -> str:
        link = self._links.get(index)
        return link.name if link else ""

    def close(self) -> None:
        self._socket.close()


def _all_links(netns: str | None) -> dict[int, _Link]:
    links = RawSocket(netns)
    try:
        return dict(map(_known, dump_links(links)))
    finally:
        links.close()


def _known(payload: bytes) -> tuple[int, _Link]:
    """A link's number, and what is remembered of it. Not remembered by its bytes, which hold its counters."""
    seen = link_of.__wrapped__(payload)
    return seen.index, _Link(seen.name, seen.mtu, seen.ported)
