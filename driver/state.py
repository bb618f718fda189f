"""The kernel objects that we keep, as values: what must exist, what exists, and how an operator would type each.

An object's `key` says what it is about (there is one per key in a kernel), the rest how it must be. `rank` is the
order in which objects are built; they are taken down the other way round."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

from driver.entries import AllowedIp, AnyRoute, Fdb, Key, Neighbour, UdpPeer, WireguardPeer
from store.ip import IPAddress, IPInterface


@dataclass(frozen=True, slots=True)
class VxlanLink:
    """`plain=False` is one that learns, or has a TTL of its own: it is found, never wanted."""

    rank: ClassVar[int] = 0
    dev: str
    vni: int
    local: IPAddress
    port: int
    mac: str
    plain: bool = True

    @property
    def key(self) -> Key:
        return ("link", self.dev)

    def __str__(self) -> str:
        typed = f"link {self.dev} address {self.mac} type vxlan id {self.vni} local {self.local} dstport {self.port}"
        return typed if self.plain else f"{typed} changed"


@dataclass(frozen=True, slots=True)
class BridgeLink:
    """A bridge without ports: holds the host's own address where there is no tunnel device to hold it."""

    rank: ClassVar[int] = 0
    dev: str
    mac: str

    @property
    def key(self) -> Key:
        return ("link", self.dev)

    def __str__(self) -> str:
        return f"link {self.dev} address {self.mac} type bridge"


@dataclass(frozen=True, slots=True)
class WireguardLink:
    """The kernel's WireGuard, or a TUN device with wireguard-go behind it. `alive=False` is a TUN device whose process
    is not heard: it is found, never wanted."""

    rank: ClassVar[int] = 0
    dev: str
    alive: bool = True

    @property
    def key(self) -> Key:
        return ("link", self.dev)

    def __str__(self) -> str:
        return f"link {self.dev} type wireguard"


@dataclass(frozen=True, slots=True)
class TunLink:
    """A device whose packets a process carries: see Forwarder. It lasts until it is deleted, with or without one."""

    rank: ClassVar[int] = 0
    dev: str

    @property
    def key(self) -> Key:
        return ("link", self.dev)

    def __str__(self) -> str:
        return f"link {self.dev} type tun"


@dataclass(frozen=True, slots=True)
class EndpointLink:
    """The host's end of a container's veth pair. Join makes it and its container takes it along: it can only be kept,
    renamed back or removed here."""

    rank: ClassVar[int] = 0
    dev: str

    @property
    def key(self) -> Key:
        return ("link", self.dev)

    def __str__(self) -> str:
        return f"link {self.dev} type veth"


@dataclass(frozen=True, slots=True)
class LinkState:
    """What can be changed while a link is in use. `up=False` is what is found, never what is wanted; so is `ported`, a
    link that is a port of a bridge, which takes all that comes in by it."""

    rank: ClassVar[int] = 1
    dev: str
    mtu: int
    up: bool = True
    ported: bool = False

    @property
    def key(self) -> Key:
        return ("state", self.dev)

    def __str__(self) -> str:
        return f"link {self.dev} mtu {self.mtu} {'up' if self.up else 'down'}{' in a bridge' if self.ported else ''}"


@dataclass(frozen=True, slots=True)
class LinkSwitches:
    """What the host takes from a container's link: see driver/sysctl.py, guard_endpoint. `guarded=False`, where that is
    any source, or a router's word, is found and never wanted."""

    rank: ClassVar[int] = 1
    dev: str
    proxy_arp: bool = False
    leads_out: bool = False
    guarded: bool = True

    @property
    def key(self) -> Key:
        return ("switches", self.dev)

    def __str__(self) -> str:
        on = {"guarded": self.guarded, "proxy_arp": self.proxy_arp, "route_localnet": self.leads_out}
        return " ".join(["switches", self.dev, *(name for name, value in on.items() if value)])


@dataclass(frozen=True, slots=True)
class NoChecksumOffload:
    """A tunnel device that computes the checksums of what it carries, instead of leaving that to the network card."""

    rank: ClassVar[int] = 1
    dev: str

    @property
    def key(self) -> Key:
        return ("offload", self.dev)

    def __str__(self) -> str:
        return f"link {self.dev} tx-checksum-ip-generic off"


@dataclass(frozen=True, slots=True)
class WireguardDevice:
    """Where a WireGuard link listens and who it is. `own_key=False` is what is found, never what is wanted.

    Of the rank of LinkState, and yielded before it: the port is bound when the link comes up."""

    rank: ClassVar[int] = 1
    dev: str
    port: int
    own_key: bool = True

    @property
    def key(self) -> Key:
        return ("wg", self.dev)

    def __str__(self) -> str:
        return f"wg {self.dev} listen-port {self.port}{'' if self.own_key else ' with a foreign key'}"


@dataclass(frozen=True, slots=True)
class Address:
    rank: ClassVar[int] = 2
    dev: str
    address: IPInterface

    @property
    def key(self) -> Key:
        return ("addr", self.dev, self.address)

    def __str__(self) -> str:
        return f"addr {self.address} dev {self.dev}"


@dataclass(frozen=True, slots=True)
class Forwarder:
    """That the process which has this UDP port carries the packets of the device `dev`."""

    rank: ClassVar[int] = 1
    dev: str
    vni: int
    port: int
    local: IPAddress

    @property
    def key(self) -> Key:
        return ("forwarder", self.dev)

    def __str__(self) -> str:
        return f"forwarder {self.dev} vni {self.vni} local {self.local} port {self.port}"


@dataclass(frozen=True, slots=True)
class FastPath:
    """The program on what a link receives: see driver/fast_path. `digest` is that of its code, which is not read."""

    rank: ClassVar[int] = 5
    dev: str
    digest: str
    code: bytes = field(default=b"", compare=False, repr=False)

    @property
    def key(self) -> Key:
        return ("fast path", self.dev)

    def __str__(self) -> str:
        return f"fast path {self.digest} dev {self.dev}"


Wireguard = WireguardDevice | WireguardPeer | AllowedIp
Udp = Forwarder | UdpPeer
Link = VxlanLink | BridgeLink | WireguardLink | TunLink | EndpointLink
Object = (
    Link
    | LinkState
    | LinkSwitches
    | NoChecksumOffload
    | Address
    | Neighbour
    | Fdb
    | AnyRoute
    | FastPath
    | Wireguard
    | Udp
)
State = Mapping[Key, Object]


def changes_in_place(old: Link, new: Link) -> bool:
    """Whether the kernel can turn one link into the other while packets flow: another MAC, and for a tunnel another
    address of its own of the same family, and what it must not do. VNI and port are fixed for a device's life."""
    if isinstance(old, VxlanLink) and isinstance(new, VxlanLink):
        return old.local.version == new.local.version and replace(old, local=new.local, mac=new.mac, plain=True) == new
    return isinstance(old, BridgeLink) and isinstance(new, BridgeLink)


def state_of(objects: Iterable[Object]) -> dict[Key, Object]:
    return {o.key: o for o in objects}
