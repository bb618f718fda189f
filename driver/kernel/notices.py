"""What the kernel tells by itself: that links, addresses, neighbours and routes changed."""

import errno
from collections.abc import Callable
from socket import AF_UNSPEC
from typing import NamedTuple

from driver.errors import KernelError
from driver.kernel import wire
from driver.kernel.rawsocket import BUFFER, RawSocket, enlarge, open_socket
from driver.kernel.seen import address_of, dump_links, link_of
from driver.model import ENDPOINT_LINK, NETWORK_LINK
from driver.state import Address, Object

# RTMGRP_*: links, neighbours, addresses and routes of both families
GROUPS = 0x1 | 0x4 | 0x10 | 0x40 | 0x100 | 0x400
CONTAINERS = (ENDPOINT_LINK, "flc", "veth", "docker", "br-")  # links that come and go with containers


class _Link(NamedTuple):
    name: str
    mtu: int


class Notices:
    """For one thread: make it there. `expected` says of an object, made or changed, whether it is as it should be: most
    are our own doing, thousands when many hosts come, and a few for each container. `attached` says of a container's
    link whether the container still has it: what becomes of others is our own doing, too."""

    def __init__(
        self,
        netns: str | None = None,
        expected: Callable[[Object], bool] = lambda _: False,
        attached: Callable[[str], bool] = lambda _: True,
    ) -> None:
        self._expected, self._attached = expected, attached
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
            return wire.is_ours(payload) and self._concerns_route(kind, payload)
        if kind in (wire.NEW_LINK, wire.DEL_LINK):
            return self._concerns_link(kind, payload)
        if kind in (wire.NEW_ADDRESS, wire.DEL_ADDRESS):
            return self._concerns_address(kind, payload)
        if kind in (wire.NEW_NEIGHBOUR, wire.DEL_NEIGHBOUR):
            name = self._name(wire.index_of_neighbour(payload))
            ours = name.startswith(NETWORK_LINK)
            return ours and (kind == wire.DEL_NEIGHBOUR or self._is_news(wire.read_neighbour(payload, name)))
        return False

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
            harmed = link != before or (wire.was_set_down(payload) and self._attached(link.name))
            return kind == wire.NEW_LINK and harmed
        return not link.name.startswith(CONTAINERS)

    def _concerns_address(self, kind: int, payload: bytes) -> bool:
        seen = address_of(payload)
        name = self._name(seen.index)
        if name.startswith((NETWORK_LINK, ENDPOINT_LINK)) and seen.interface.is_link_local:
            return False  # the kernel's own, which comes a second after its link is up
        if name.startswith(ENDPOINT_LINK):
            return self._attached(name) if kind == wire.DEL_ADDRESS else self._is_news(Address(name, seen.interface))
        return name.startswith(NETWORK_LINK) or not name.startswith(CONTAINERS)

    def _concerns_route(self, kind: int, payload: bytes) -> bool:
        name = self._name(wire.index_of_route(payload) or 0)
        if kind == wire.DEL_ROUTE:
            return not name.startswith(ENDPOINT_LINK) or self._attached(name)
        return self._is_news(wire.read_route(payload, name))

    def _is_news(self, o: Object | None) -> bool:
        return o is not None and not self._expected(o)

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
    return seen.index, _Link(seen.name, seen.mtu)
