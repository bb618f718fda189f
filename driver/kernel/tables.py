"""The tables that have many entries: read whole, and changed in batches.

What a message says is remembered by its bytes, so that a look at a table that did not change only compares bytes."""

import errno
import logging
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from driver.entries import AnyRoute, Entry, Fdb, Key, Local, Neighbour, Route, Unreachable
from driver.errors import KernelError
from driver.host_network import AddressSeen, HostRoute
from driver.kernel import wire
from driver.kernel.dump import Dump
from driver.kernel.pairs import Pair, pack_pair
from driver.kernel.rawsocket import RawSocket, words
from driver.kernel.seen import dump_addresses, dump_links
from driver.plan import Operation, Put
from driver.state import Address, Object, State, state_of
from store.ip import IPNetwork

log = logging.getLogger(__name__)

Packed = Address | Neighbour | Fdb | AnyRoute
ALREADY_GONE = (errno.ENOENT, errno.ESRCH, errno.ENODEV, errno.EADDRNOTAVAIL)
E = TypeVar("E", Neighbour | Fdb | None, AnyRoute)
Request = tuple[int, int, bytes]  # type, flags, payload
DROPS = (wire.DEL_ADDRESS, wire.DEL_ROUTE, wire.DEL_NEIGHBOUR)


class Tables:
    """For one thread."""

    def __init__(self, netns: str | None = None) -> None:
        self._socket = RawSocket(netns)
        self._own_routes = [
            Dump(self._socket, wire.GET_ROUTE, head, wire.is_ours)
            for head in _route_tables(wire.PROTOCOL, (wire.MAIN_TABLE, wire.LOCAL_TABLE))
        ]
        self._host_routes = [
            Dump(self._socket, wire.GET_ROUTE, head, _is_the_hosts) for head in _route_tables(0, (wire.MAIN_TABLE,))
        ]
        self._raw_routes: list[bytes] = []
        self._known_routes: dict[bytes, tuple[int | None, AnyRoute]] = {}  # with their links' numbers
        self._route_links: dict[int, str | None] = {}
        self._routes: State = {}
        self._neighbours: dict[tuple[int, str, int], _Neighbours] = {}  # by link and family
        self._put: dict[Key, object] = {}  # and not yet read

    def close(self) -> None:
        self._socket.close()

    # reading

    def links(self) -> list[bytes]:
        """For `link_of` and `tunnel_of`."""
        return dump_links(self._socket)

    def addresses(self) -> list[AddressSeen]:
        return dump_addresses(self._socket)

    def routes(self, names: dict[int, str]) -> State:
        """Ours; `names` are all links by index. A route whose link is younger than `names` is left out."""
        raws = [raw for dump in self._own_routes for raw in dump.read()]
        # a link that came or went, or whose number another one has got, or that has another name
        other = {index for index, name in self._route_links.items() if names.get(index) != name}
        if other or raws != self._raw_routes:
            known = {raw: standing for raw, standing in self._known_routes.items() if standing[0] not in other}
            self._known_routes = {raw: known.get(raw) or self._read_route(raw, names) for raw in raws}
            found = self._known_routes.values()
            self._route_links = {i: names.get(i) for i in {i for i, _ in found} if i is not None}
            self._routes = state_of(route for i, route in found if i is None or i in names)
            self._raw_routes = raws
        return self._routes

    def host_routes(self) -> Iterator[HostRoute]:
        return (route for dump in self._host_routes for raw in dump.read() for route in wire.read_host_routes(raw))

    def destinations(self) -> Iterator[IPNetwork]:
        """What is spoken for by routes that are not ours, in whatever table."""
        heads = _route_tables(0, (wire.EVERY_TABLE,))
        raws = (raw for head in heads for raw in self._socket.dump(wire.GET_ROUTE, head))
        return filter(None, map(wire.spoken_for, filter(_is_the_hosts, raws)))

    def neighbours(self, links: dict[int, str]) -> State:
        """The permanent neighbours and the forwarding entries of links, which are names by index."""
        families = (*wire.FAMILIES, socket.AF_BRIDGE)
        tables = [(index, name, family) for index, name in links.items() for family in families]
        self._neighbours = {table: self._neighbours.get(table) or self._table_of(*table) for table in tables}
        found: dict[Key, Object] = {}
        for known in self._neighbours.values():
            found |= known.read()
        return found

    def _table_of(self, index: int, name: str, family: int) -> "_Neighbours":
        return _Neighbours(self._socket, index, name, family, self._own)

    def _read_route(self, raw: bytes, names: dict[int, str]) -> tuple[int | None, AnyRoute]:
        index = wire.index_of_route(raw)
        route = self._own(wire.read_route(raw, names.get(index, "?") if index is not None else "?"))
        return (index, route) if isinstance(route, Route) else (None, route)

    def _own(self, entry: E) -> E:
        """The very object that was put, where the entry is as it was put: comparing the two takes no time then."""
        put = self._put.pop(entry.key, None) if entry is not None else None
        return put if put == entry else entry  # type: ignore[return-value]  # equal, so of one type

    # changing

    def make_pair(self, pair: Pair, index: int, objects: Sequence[Packed]) -> tuple[int, bool]:
        """Make the pair, its host's end with this number and `objects`. The pair's errno, 0 if it was made, and whether
        all objects are there: `change` says of one that is not what is the matter."""
        made = (wire.NEW_LINK, wire.CREATE | wire.EXCLUSIVE, pack_pair(pair, index))
        refused = self._socket.change([made, *(self._request(Put(o), lambda _: index) for o in objects)])
        return refused.get(0, 0), not refused

    def change(
        self, operations: Sequence[Operation], index: Callable[[str], int], names: Callable[[], dict[int, str]]
    ) -> dict[Operation, str]:
        """Carry out operations, in their order, but for routes that replace others, which come last; what
        failed, and why. `index` gives a link's number, `names` all links by theirs."""
        refused: dict[Operation, str] = {}
        requests: list[tuple[Operation, Request]] = []
        put = [operation.object for operation in operations if isinstance(operation, Put)]
        self._put |= {o.key: o for o in put if isinstance(o, Entry)}
        for operation in operations:
            try:
                requests.append((operation, self._request(operation, index)))
            except KernelError as error:
                if isinstance(operation, Put):
                    refused[operation] = f"{operation}: {error}"
        standing = []
        for operation, code in self._send(requests):
            if code == errno.EEXIST and isinstance(operation.object, AnyRoute):
                standing.append(operation)
            else:
                refused[operation] = f"{operation}: {words(code)}"
        return {**refused, **self._replace(standing, index, names)} if standing else refused

    def _replace(
        self, operations: Sequence[Operation], index: Callable[[str], int], names: Callable[[], dict[int, str]]
    ) -> dict[Operation, str]:
        """Routes of ours take the new shape. A route to the same place that is not ours is never overwritten, unless it
        has itself taken the place of ours."""
        ours = self.routes(names())
        refused: dict[Operation, str] = {}
        requests: list[tuple[Operation, Request]] = []
        for operation in operations:
            o = operation.object
            assert isinstance(operation, Put)
            assert isinstance(o, AnyRoute)
            if o.key not in ours and operation.again:
                log.warning("somebody's route was in the place of ours", extra={"put": o})
            if o.key in ours or operation.again:
                payload = wire.pack_route(o, index(o.dev) if o.dev else 0)
                requests.append((operation, (wire.NEW_ROUTE, wire.CREATE | wire.REPLACE, payload)))
            else:
                refused[operation] = f"{operation}: this host has another route to {o.destination}; remove it"
        return {**refused, **{operation: f"{operation}: {words(code)}" for operation, code in self._send(requests)}}

    def _send(self, requests: Sequence[tuple[Operation, Request]]) -> Iterator[tuple[Operation, int]]:
        for position, code in self._socket.change([request for _, request in requests]).items():
            operation = requests[position][0]
            gone = requests[position][1][0] in DROPS and code in ALREADY_GONE
            if not gone:
                yield operation, code

    def _request(self, operation: Operation, index: Callable[[str], int]) -> Request:
        put = isinstance(operation, Put)
        match operation.object:
            case Route() | Unreachable() | Local() as o:
                payload = wire.pack_route(o, index(o.dev) if o.dev else 0)
                return (wire.NEW_ROUTE, wire.CREATE | wire.EXCLUSIVE, payload) if put else (wire.DEL_ROUTE, 0, payload)
            case Address() as o:
                payload = wire.pack_address(o, index(o.dev))
                return (
                    (wire.NEW_ADDRESS, wire.CREATE | wire.REPLACE, payload) if put else (wire.DEL_ADDRESS, 0, payload)
                )
            case Neighbour() as o:
                payload = wire.pack_neighbour(o, index(o.dev))
            case Fdb() as o:
                payload = (wire.pack_fdb if put else wire.pack_fdb_mac)(o, index(o.dev))
            case o:
                raise TypeError(f"{o} is in no table")
        # A new destination takes the old one's place: there is no moment without one.
        return (wire.NEW_NEIGHBOUR, wire.CREATE | wire.REPLACE, payload) if put else (wire.DEL_NEIGHBOUR, 0, payload)


class _Neighbours:
    """What was last read of one link and family."""

    def __init__(
        self,
        kernel: RawSocket,
        index: int,
        dev: str,
        family: int,
        own: Callable[[Neighbour | Fdb | None], Neighbour | Fdb | None],
    ) -> None:
        """`own` is that of `Tables`."""
        self._dev, self._own, ours = dev, own, wire.S32.pack(index)
        head = wire.NDMSG.pack(family, 0, 0, 0, 0) + wire.attribute(wire.NDA_IFINDEX, ours)
        # An old kernel tells of other links, too.
        self._dump = Dump(kernel, wire.GET_NEIGHBOUR, head, lambda raw: raw[4:8] == ours, _lasting)
        self._raws: list[bytes] = []
        self._known: dict[bytes, Neighbour | Fdb | None] = {}
        self._state: State = {}

    def read(self) -> State:
        raws = self._dump.read()
        if raws is not self._raws:
            self._learn(raws)
        return self._state

    def _learn(self, raws: list[bytes]) -> None:
        known = self._known
        self._known = {
            identity: known[identity] if identity in known else self._own(wire.read_neighbour(raw, self._dev))
            for identity, raw in ((wire.identity(raw), raw) for raw in raws)
        }
        self._state = state_of(entry for entry in self._known.values() if entry is not None)
        self._raws = raws


def _route_tables(protocol: int, tables: Sequence[int]) -> Iterator[bytes]:
    """The questions for them: of one protocol, 0 for all, and more is told where the kernel does not filter."""
    for family in wire.FAMILIES:
        for table in tables:
            yield wire.RTMSG.pack(family, 0, 0, 0, table, protocol, 0, 0, 0)


def _is_the_hosts(route: bytes) -> bool:
    return not wire.is_ours(route)


def _lasting(neighbour: bytes) -> int:
    return len(wire.identity(neighbour))


def is_packed(operation: Operation) -> bool:
    """Whether `Tables` is what carries it out."""
    return isinstance(operation.object, Packed)
