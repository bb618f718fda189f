"""What the kernel tells by itself: that links, addresses, neighbours and routes changed."""

import errno
from collections.abc import Callable
from socket import AF_UNSPEC

from driver.errors import KernelError
from driver.kernel import wire
from driver.kernel.rawsocket import BUFFER, RawSocket, enlarge, open_socket
from driver.state import Entry

# RTMGRP_*: links, neighbours, addresses and routes of both families
GROUPS = 0x1 | 0x4 | 0x10 | 0x40 | 0x100 | 0x400
NETWORK_LINK, ENDPOINT_LINK = "fl.", "flv"
CONTAINERS = (ENDPOINT_LINK, "flc", "veth", "docker", "br-")  # links that come and go with containers


class Notices:
    """For one thread: make it there. `expected` says of an entry, made or changed, whether it is as it should be: most
    are our own doing, thousands when many hosts come."""

    def __init__(self, netns: str | None = None, expected: Callable[[Entry], bool] = lambda _: False) -> None:
        self._expected = expected
        try:
            self._socket = open_socket(netns, GROUPS)  # before the links are asked for: none is missed
            enlarge(self._socket)
            self._netns, self._names = netns, _names_of_links(netns)
        except OSError as error:
            raise KernelError(f"no notices from the kernel: {error}") from error

    def wait(self) -> bool:
        """Block until the kernel tells something; whether it may concern what we keep. KernelError when closed."""
        try:
            data = self._socket.recv(BUFFER)
        except OSError as error:
            if error.errno == errno.ENOBUFS:
                self._names = _names_of_links(self._netns)
                return True  # too much at once: some of it is lost, and all must be looked at
            raise KernelError(f"no more notices from the kernel: {error}") from error
        concerns = [self._concerns_us(kind, payload) for kind, _, _, payload in wire.messages(data)]
        return any(concerns)  # all of them were read: names are learned

    def _concerns_us(self, kind: int, payload: bytes) -> bool:
        """Not the coming of containers, which is most of it and our own doing."""
        if kind in (wire.NEW_ROUTE, wire.DEL_ROUTE):
            return wire.is_ours(payload) and (kind == wire.DEL_ROUTE or self._is_news_of_route(payload))
        if kind in (wire.NEW_LINK, wire.DEL_LINK):
            index, name = wire.read_link(payload)
            if kind == wire.NEW_LINK:
                self._names[index] = name
            elif payload[0] == AF_UNSPEC:  # a bridge tells so, as AF_BRIDGE, of a port that only leaves it
                self._names.pop(index, None)
        elif kind in (wire.NEW_ADDRESS, wire.DEL_ADDRESS, wire.NEW_NEIGHBOUR, wire.DEL_NEIGHBOUR):
            # at the same place in an address's message
            name = self._names.get(wire.index_of_neighbour(payload), "")
        else:
            return False
        if kind in (wire.NEW_NEIGHBOUR, wire.DEL_NEIGHBOUR):
            ours = name.startswith(NETWORK_LINK)
            return ours and (kind == wire.DEL_NEIGHBOUR or self._is_news(wire.read_neighbour(payload, name)))
        if name.startswith(ENDPOINT_LINK):
            return kind == wire.DEL_ADDRESS or (kind == wire.NEW_LINK and wire.was_set_down(payload))
        return name.startswith(NETWORK_LINK) or not name.startswith(CONTAINERS)

    def _is_news_of_route(self, payload: bytes) -> bool:
        name = self._names.get(wire.index_of_route(payload) or 0, "")
        return not name.startswith(ENDPOINT_LINK) and self._is_news(wire.read_route(payload, name))

    def _is_news(self, entry: Entry | None) -> bool:
        return entry is not None and not self._expected(entry)

    def close(self) -> None:
        self._socket.close()


def _names_of_links(netns: str | None) -> dict[int, str]:
    links = RawSocket(netns)
    try:
        return dict(map(wire.read_link, links.dump(wire.GET_LINK, wire.IFINFO.pack(0, 0, 0, 0, 0))))
    finally:
        links.close()
