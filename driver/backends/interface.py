"""What a backend is: a description of the kernel objects that carry a network's packets between hosts."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from driver.model import Network
from driver.state import Object
from store.ip import IPAddress, IPNetwork

# What follows from another host is computed when the host is first seen, and remembered:
REMEMBERED = 1 << 14  # hosts of a network
NETWORKS = 64


@dataclass(frozen=True, slots=True)
class Underlay:
    """The interface that carries packets to other hosts: its addresses (at most one per family, preferred first),
    those that peers send to, and the prefixes that are on its link."""

    dev: str
    mtu: int
    addresses: tuple[IPAddress, ...]
    advertised: tuple[IPAddress, ...]
    on_link: tuple[IPNetwork, ...]
    broken_offload: bool = False  # checksums of tunnelled packets are known to go wrong here
    default_devs: tuple[str, ...] = ()  # the interfaces of this host's default routes, of which this need not be one
    ethernet: bool = True  # it carries frames of that type

    @property
    def uplinks(self) -> frozenset[str]:
        """The interfaces that lead to the world."""
        return frozenset((self.dev, *self.default_devs))

    @property
    def sources(self) -> tuple[IPAddress, ...]:
        """Those that its packets have and peers do not send to."""
        return tuple(address for address in self.addresses if address not in self.advertised)

    def address(self, version: int) -> IPAddress | None:
        return next((address for address in self.addresses if address.version == version), None)

    @property
    def local(self) -> IPAddress:
        """This host's end of a tunnel: its own address of the family that peers send to."""
        return self.address(self.advertised[0].version) or self.addresses[0]

    @property
    def link(self) -> tuple[IPNetwork, ...]:
        """The prefixes on the link that hold an address which is both this host's own and the one peers send to."""
        own = set(self.addresses) & set(self.advertised)
        return tuple(sorted({p for p in self.on_link if any(a in p for a in own)}, key=lambda p: (p.version, p)))


@dataclass(frozen=True, slots=True)
class Remote:
    """Another host of the network, and the blocks of the network's pools that it holds."""

    host: str
    addresses: tuple[IPAddress, ...]  # in the underlay, at most one per family, preferred first
    blocks: tuple[IPNetwork, ...]
    public_key: str | None = None  # base64, where the backend encrypts
    sources: tuple[IPAddress, ...] = ()  # that its packets have, where those are others
    link: tuple[IPNetwork, ...] = ()  # the prefixes on the link of its addresses
    _hash: int = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        found = hash((self.host, self.addresses, self.blocks, self.public_key, self.sources, self.link))
        object.__setattr__(self, "_hash", found)

    def __hash__(self) -> int:
        """Computed once: what is remembered of thousands of hosts is found by it, again and again."""
        return self._hash

    def address(self, version: int) -> IPAddress | None:
        return next((address for address in self.addresses if address.version == version), None)


class Guard(Enum):
    """How the filter tells what a peer sends to the tunnel's port from what a stranger sends."""

    NONE = "none"  # there is no tunnel, or it proves itself who sends
    SOURCE = "source"  # by the sender's address
    VNI = "vni"  # by that and by the VXLAN network number


class Backend(Protocol):
    port: int  # UDP port of the tunnel, 0 if there is none
    guard: Guard
    encrypts: bool  # nobody between the hosts can read or forge what containers send each other

    def devices(self, network: Network) -> tuple[str, ...]:
        """The links that carry the network."""

    def overhead(self, underlay: Underlay) -> int:
        """Bytes of encapsulation, taken from the underlay's MTU."""

    def objects(self, network: Network, host: str, underlay: Underlay, others: Collection[Remote]) -> Iterator[Object]:
        """All that this host's kernel must hold to reach the others, but for the host's addresses. Pure: no I/O."""

    def most_segments(self, mtu: int) -> int | None:
        """How many segments a container shall hand over in one piece at most; None if as many as it likes."""

    def entrances(self, network: Network, underlay: Underlay) -> tuple[str, ...]:
        """The links by which packets of other hosts come in, if they and those of this host can take the fast path."""

    def refusal(self, underlay: Underlay, other: Remote) -> str | None:
        """Why this backend cannot reach that host, as a sentence; None if it can."""


def no_common_family(underlay: Underlay, other: Remote) -> str | None:
    """Why a tunnel that starts at this host's end of it cannot end at that host; None if it can."""
    if other.address(underlay.local.version):
        return None
    theirs = " and ".join(str(address) for address in other.addresses)
    return (
        f"host {other.host} has only {theirs} and this host tunnels from {underlay.local}: "
        "give both an address of one family"
    )
