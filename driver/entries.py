"""Neighbours, forwarding entries, routes and peers: the objects of which a host has thousands.

Like all objects that we keep (driver/state.py), with what follows from their values computed once."""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import ClassVar

from store.ip import IPAddress, IPNetwork

Key = Hashable


class Entry:
    """An object of which a host has thousands: what it is keyed and compared by is computed once.

    `typed` says all that there is to say about it, so two that are typed alike are alike. Some have `odd`: what else
    was found of one that somebody changed. It is never wanted."""

    __slots__ = ("key", "typed")
    key: Key
    typed: str

    def _set(self, key: str, typed: str) -> None:
        object.__setattr__(self, "key", key)
        object.__setattr__(self, "typed", typed)

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Entry) and self.typed == other.typed)

    def __hash__(self) -> int:
        return hash(self.typed)

    def __str__(self) -> str:
        return self.typed


@dataclass(frozen=True, slots=True, eq=False)
class Neighbour(Entry):
    rank: ClassVar[int] = 3
    dev: str
    address: IPAddress
    mac: str

    def __post_init__(self) -> None:
        self._set(f"neigh {self.address} dev {self.dev}", f"neigh {self.address} lladdr {self.mac} dev {self.dev}")


@dataclass(frozen=True, slots=True, eq=False)
class Fdb(Entry):
    rank: ClassVar[int] = 3
    dev: str
    mac: str
    remote: IPAddress
    odd: str = ""

    def __post_init__(self) -> None:
        self._set(f"fdb {self.mac} dev {self.dev}", f"fdb {self.mac} dst {self.remote} dev {self.dev}{self.odd}")


@dataclass(frozen=True, slots=True, eq=False)
class WireguardPeer(Entry):
    """Another host, by its public key. WireGuard itself follows a peer that sends from elsewhere; `endpoint` is where
    it is said to be, as `ADDRESS:PORT` or `[ADDRESS]:PORT`. `keepalive` in seconds, 0 for none."""

    rank: ClassVar[int] = 2
    dev: str
    public_key: str
    endpoint: str
    keepalive: int = 0

    def __post_init__(self) -> None:
        peer = f"wg {self.dev} peer {self.public_key}"
        keepalive = f" persistent-keepalive {self.keepalive}" if self.keepalive else ""
        self._set(peer, f"{peer} endpoint {self.endpoint}{keepalive}")


@dataclass(frozen=True, slots=True, eq=False)
class AllowedIp(Entry):
    """Which peer has a prefix, for sending to it and for believing where a packet comes from. A prefix has one peer,
    and the longest one holds; giving it to another peer takes it from the first."""

    rank: ClassVar[int] = 3
    dev: str
    destination: IPNetwork
    public_key: str

    def __post_init__(self) -> None:
        peer = f"wg {self.dev} peer {self.public_key}"
        self._set(f"wg {self.dev} allowed-ips {self.destination}", f"{peer} allowed-ips {self.destination}")


@dataclass(frozen=True, slots=True, eq=False)
class UdpPeer(Entry):
    """Another host, as a forwarder knows it: what is for its blocks goes there, what comes from there is from them."""

    rank: ClassVar[int] = 3
    dev: str
    host: str
    address: IPAddress
    port: int
    blocks: tuple[IPNetwork, ...]
    sources: tuple[IPAddress, ...] = ()  # from which it may send, too

    def __post_init__(self) -> None:
        blocks = " ".join(map(str, self.blocks))
        sources = "".join(f" or {source}" for source in self.sources)
        typed = f"peer {self.host} at {self.address}{sources} port {self.port} dev {self.dev} blocks {blocks}"
        self._set(f"udp-peer {self.host} dev {self.dev}", typed)


class _Route(Entry):
    """A kernel has one for each destination, metric and type of service. 0 is what those have that name none, as ours
    do: another one is found, never wanted."""

    __slots__ = ()

    def _route(self, typed: str, destination: IPNetwork, metric: int, tos: int, odd: str) -> None:
        suffix = (f" metric {metric}" if metric else "") + (f" tos {tos}" if tos else "")
        self._set(f"route {destination}{suffix}", typed + suffix + odd)


@dataclass(frozen=True, slots=True, eq=False)
class Route(_Route):
    """`source` is the address that this host itself uses to send that way."""

    rank: ClassVar[int] = 4
    dev: str
    destination: IPNetwork
    via: IPAddress | None = None
    source: IPAddress | None = None
    onlink: bool = False
    metric: int = 0
    tos: int = 0
    odd: str = ""

    def __post_init__(self) -> None:
        via = f" via {self.via}" if self.via else ""
        source = f" src {self.source}" if self.source else ""
        rest = f"{via} dev {self.dev}{source}{' onlink' if self.onlink else ''}"
        self._route(f"route {self.destination}{rest}", self.destination, self.metric, self.tos, self.odd)


@dataclass(frozen=True, slots=True, eq=False)
class Unreachable(_Route):
    """A route that ends here: what nobody in the pool has must not leave this host by its default route."""

    rank: ClassVar[int] = 4
    dev: ClassVar[str] = ""
    destination: IPNetwork
    metric: int = 0
    tos: int = 0
    odd: str = ""

    def __post_init__(self) -> None:
        typed = f"route unreachable {self.destination}"
        self._route(typed, self.destination, self.metric, self.tos, self.odd)


@dataclass(frozen=True, slots=True, eq=False)
class Local(Entry):
    """Packets to this address end on this host, though no interface has it."""

    rank: ClassVar[int] = 4
    dev: ClassVar[str] = "lo"
    destination: IPNetwork

    def __post_init__(self) -> None:
        self._set(f"local {self.destination}", f"route local {self.destination}")


AnyRoute = Route | Unreachable | Local
