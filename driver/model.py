"""What Docker asks of a network driver, in our words, and what this host remembers of it."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from store.ip import IPAddress, IPInterface, IPNetwork

NETWORK_LINK, ENDPOINT_LINK = "fl.", "flv"  # how the names of our links begin
PROTOCOLS = {6: "tcp", 17: "udp", 132: "sctp"}  # those that Docker can publish, by their IP protocol numbers


@dataclass(frozen=True, slots=True)
class PoolData:
    """One element of CreateNetwork's IPv4Data or IPv6Data."""

    pool: IPNetwork
    gateway: IPInterface | None
    address_space: str
    reserved: tuple[IPAddress, ...] = ()  # --aux-address


@dataclass(frozen=True, slots=True)
class NetworkRequest:
    id: str
    pools: tuple[PoolData, ...]  # IPv4 first
    options: Mapping[str, str] = field(default_factory=dict)  # -o
    internal: bool = False


@dataclass(frozen=True, slots=True)
class Network:
    """A network of ours on this host: Docker's id for it here, and what the cluster agreed on."""

    id: str
    pools: tuple[IPNetwork, ...]  # the first one is the network's name in the cluster
    gateways: tuple[IPAddress, ...]  # one per pool, the same on every host
    backend: str
    vni: int
    port: int
    mtu: int | None  # the containers' MTU, None: from the underlay
    internal: bool
    host_addresses: tuple[IPAddress, ...]  # this host's own, at most one per pool
    direct_routing: bool = False
    checksum_offload: str = "auto"
    fast_path: bool = False
    adopted: bool = False  # Docker's own IPAM gives the addresses, with the pool's prefix, on this host alone
    direct: bool = False  # the way out, and published ports, are ours and not docker_gwbridge's

    @property
    def leads_out(self) -> bool:
        """Whether its containers reach the world, and the world their published ports, through us."""
        return self.direct and not self.internal

    @property
    def device(self) -> str:
        return f"{NETWORK_LINK}{self.vni}"


@dataclass(frozen=True, slots=True)
class EndpointRequest:
    network_id: str
    id: str
    addresses: tuple[IPInterface, ...]  # IPv4 first
    mac: str | None  # only when the user gave one


@dataclass(frozen=True, slots=True)
class PortRequest:
    """One `-p`. A range of host ports means any one of them; 0 to 0 means any port at all."""

    protocol: int  # IP protocol number
    port: int  # the container's
    host_address: IPAddress | None  # None: every address of the host, of both families
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Published:
    """A port of the host that leads to a container."""

    protocol: int  # IP protocol number
    host_address: IPAddress  # 0.0.0.0 or ::, every one of its family
    host_port: int
    port: int  # the container's

    def __str__(self) -> str:
        host = f"[{self.host_address}]" if self.host_address.version == 6 else str(self.host_address)
        return f"{host}:{self.host_port}/{PROTOCOLS[self.protocol]}"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One container's attachment, as this host remembers it."""

    id: str
    network_id: str
    addresses: tuple[IPAddress, ...]
    mac: str
    published: tuple[Published, ...] = ()
    sandbox: str = ""  # the same for all endpoints of one container; empty before it joined
    resolver: IPNetwork | None = None  # the container's route to the resolver through this endpoint
    mtu: int | None = None  # of both ends of its pair; None: made by a version that did not remember it

    @property
    def host_link(self) -> str:
        return f"{ENDPOINT_LINK}{self.id[:11]}"

    @property
    def container_link(self) -> str:
        return f"flc{self.id[:11]}"


@dataclass(frozen=True, slots=True)
class StaticRoute:
    """A route that libnetwork adds in the container: through `next_hop`, or on the link itself if None."""

    destination: IPNetwork
    next_hop: IPAddress | None


@dataclass(frozen=True, slots=True)
class JoinAnswer:
    source_link: str  # libnetwork moves this link into the container
    destination_prefix: str  # and names it eth0, eth1, ...
    static_routes: tuple[StaticRoute, ...]
    gateways: tuple[IPAddress, ...] = ()  # of the container, at most one per family


def mac_of(*parts: object) -> str:
    """The same parts always get the same unicast, locally administered MAC: nothing to store, nothing to lose."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return ":".join(f"{byte:02x}" for byte in bytes([digest[0] & 0xFC | 0x02]) + digest[1:6])
