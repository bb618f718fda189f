"""Every key and every record of the cluster: the page that says what the hosts agree on.

    epoch                         ipam, by whoever finds that there is none, or that the store has forgotten something
    index                         all pools, so that no two overlap
    vnis/<vni>                    which pool's network has this number, so that no two share it
    pools/<pool>/pool             ipam, by whoever comes first: block size, gateway, reserved addresses
    pools/<pool>/holders/<host>   ipam on a host that uses the pool, with or without a block
    pools/<pool>/blocks/<block>   ipam on the host that holds the block
    pools/<pool>/wanted/<addr>    ipam on a host that asks the block's holder for one address, and the holder's no
    pools/<pool>/borrowed/<addr>  ipam on the holder, naming the host that now has the address
    hosts/<host>                  ipam on that host: its instance, and a beat that says that it lives
    leases/<pool>/<block>         ipam on the holder: who has which address, for everybody to see
    pools/<pool>/owner            which network the pool belongs to, so that no two share it
    pools/<pool>/network          the driver, by whoever comes first: backend, VNI, port, MTU
    pools/<pool>/peers/<host>     the driver on that host
    feed/<topic>/...              each commit below `pools/`, `endpoints/` or `networks/` tells of itself (store.feed)
    networks/<name>               cluster, by the host where a user made or removed a network: its name and all that
                                  makes the same network on another host
    endpoints/<pool>/<host>/<id>  the agent on that host: a container in the network, where it is and what it is called

With `--ipam-opt network=NAME` a pool stands in a name space of its own: `index@NAME`, `pools/NAME@<pool>/...`.
A network of two families is kept under its first pool. All a host must know to forward packets is below `pools/`."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import ip_address
from typing import TypeVar
from urllib.parse import quote

from store.ip import IPAddress, IPNetwork, contains, parse_network

R = TypeVar("R")
EPOCH = "epoch"
INDEX = "index"
POOLS = "pools/"
HOSTS = "hosts/"
LEASES = "leases/"
ENDPOINTS = "endpoints/"
NETWORKS = "networks/"


@dataclass(frozen=True, slots=True)
class Epoch:
    """See ipam.epoch. While it is not settled, hosts tell the store again what they hold, and take nothing new."""

    id: str
    number: int  # higher than that of any before, as far as the host that declared it remembered
    settled: bool
    gone: int = 0  # host records that were removed by others
    cluster: str = ""  # the id of the first one, which was begun by a host that remembered none


@dataclass(frozen=True, slots=True)
class Index:
    pools: tuple[IPNetwork, ...] = ()


@dataclass(frozen=True, slots=True)
class Pool:
    block_prefix: int  # prefix length of every block
    gateway: IPAddress | None = None  # the same on every host
    reserved: tuple[IPAddress, ...] = ()  # --aux-address
    docker_host: str | None = None  # Docker's own IPAM on this host gives the addresses, and nobody else may
    closing: bool = False  # see store.shared


@dataclass(frozen=True, slots=True)
class Block:
    host: str
    epoch: str = ""  # in which the host took it, or told it again


@dataclass(frozen=True, slots=True)
class Borrowed:
    """A single address that `host` has in a block that another host holds."""

    host: str
    epoch: str = ""  # in which it was lent, or told again
    idle: bool = False  # no container has it any more: whoever wants it first may have it, the holder not asked


@dataclass(frozen=True, slots=True)
class Wanted:
    """`host` asks for the address; the holder's answer is a sentence why not, or that it is granted."""

    host: str
    refused: str | None = None
    granted: bool = False

    @property
    def is_open(self) -> bool:
        return self.refused is None and not self.granted


@dataclass(frozen=True, slots=True)
class Host:
    """A host's claim to its name and to all that it holds.

    Each beat is a write, and so moves the key's version. `reclaimed` is set by whoever saw it stand still for the
    whole lease time: from then on nothing that the host holds is its own any more. `ttl` is that time in seconds as
    the host itself has it, by which it stops giving addresses out."""

    instance: str
    beat: int = 0
    reclaimed: bool = False
    ttl: float = 0.0


@dataclass(frozen=True, slots=True)
class BlockLeases:
    host: str
    given: tuple[IPAddress, ...]


@dataclass(frozen=True, slots=True)
class NetworkSpec:
    """What all hosts of a network must have in common."""

    pools: tuple[IPNetwork, ...]
    gateways: tuple[IPAddress, ...]
    backend: str
    vni: int
    port: int
    mtu: int | None
    internal: bool
    gateway: str = "gwbridge"  # which way out of the cluster: Docker's bridge, or "direct" by our own translation
    direct_routing: bool = False  # vxlan: plain routes between hosts on one link
    checksum_offload: str = "auto"  # vxlan: `on`, `off`, or as each host thinks best
    fast_path: bool = False  # packets within the network go past the hosts' rules, where their kernels can do that
    closing: bool = False  # see store.shared


@dataclass(frozen=True, slots=True)
class Peer:
    """Where a host of the network can be reached in the underlay: at most one address per family, preferred first."""

    host: str
    addresses: tuple[IPAddress, ...]
    public_key: str | None = None  # base64, where the backend encrypts
    sources: tuple[IPAddress, ...] = ()  # that its packets have, where it sends from others than it is reached at
    link: tuple[IPNetwork, ...] = ()  # the prefixes on the link of these addresses


@dataclass(frozen=True, slots=True)
class NetworkShape:
    """What a user said at `docker network create`, as Docker tells it. Every sequence is sorted."""

    name: str
    driver: str
    ipam_driver: str
    pools: tuple[IPNetwork, ...]  # IPv4 first
    ranges: tuple[IPNetwork, ...]  # --ip-range
    gateways: tuple[IPAddress, ...]
    reserved: tuple[tuple[str, str], ...]  # --aux-address: name, address
    options: tuple[tuple[str, str], ...]
    ipam_options: tuple[tuple[str, str], ...]
    labels: tuple[tuple[str, str], ...]
    internal: bool
    attachable: bool
    ipv6: bool
    ipv4: bool = field(default=True, kw_only=True)  # Engines before 28 know no network without


@dataclass(frozen=True, slots=True)
class DockerNetwork(NetworkShape):
    """A network that every host of the cluster is to have, or, `removed`, to have no more.

    The token is another one each time the network is made, so that a removal is never taken for one of a later
    network of the same name."""

    token: str
    host: str  # that wrote this
    removed: bool = False
    kept: str | None = None  # why a removal was undone


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A container's attachment to a network, whose key names the host and begins with the network's first pool."""

    container: str  # Docker's id, shortened as `docker ps` has it
    name: str
    names: tuple[str, ...]  # all by which Docker's own resolver would know it
    network: str  # what Docker calls the network on that host
    addresses: tuple[IPAddress, ...]
    mac: str
    image: str
    labels: tuple[tuple[str, str], ...] = ()  # the container's, sorted, as many as cluster/endpoints.py lets through


@lru_cache(maxsize=4096)
def _name(prefix: IPNetwork) -> str:
    return str(prefix).replace("/", "-")


@lru_cache(maxsize=4096)
def _prefix(name: str) -> IPNetwork:
    return parse_network(name.replace("-", "/"))


def vni_key(vni: int) -> str:
    return f"vnis/{vni}"


def is_index(key: str) -> bool:
    """Of whichever space."""
    return key.partition("@")[0] == INDEX


def pool_key(pool: IPNetwork) -> str:
    return f"{POOLS}{_name(pool)}/pool"


def blocks_prefix(pool: IPNetwork) -> str:
    return f"{POOLS}{_name(pool)}/blocks/"


def block_key(pool: IPNetwork, block: IPNetwork) -> str:
    return blocks_prefix(pool) + _name(block)


def block_of_key(key: str) -> IPNetwork:
    return _prefix(key.rpartition("/")[2])


def holders_prefix(pool: IPNetwork) -> str:
    return f"{POOLS}{_name(pool)}/holders/"


def holder_key(pool: IPNetwork, host: str) -> str:
    return holders_prefix(pool) + host


def borrowed_prefix(pool: IPNetwork) -> str:
    return f"{POOLS}{_name(pool)}/borrowed/"


def borrowed_key(pool: IPNetwork, address: IPAddress) -> str:
    return f"{borrowed_prefix(pool)}{address}"


def wanted_prefix(pool: IPNetwork) -> str:
    return f"{POOLS}{_name(pool)}/wanted/"


def wanted_key(pool: IPNetwork, address: IPAddress) -> str:
    return f"{wanted_prefix(pool)}{address}"


def address_of_key(key: str) -> IPAddress:
    return ip_address(key.rpartition("/")[2])


def pool_of_key(key: str) -> IPNetwork:
    """The pool of a key below `pools/`, `leases/` or `endpoints/`, without its space."""
    return _prefix(key.split("/")[1].rpartition("@")[2])


def names_pool(key: str) -> bool:
    """Whether `pool_of_key` can tell: anybody may have written to the store."""
    try:
        pool_of_key(key)
    except (ValueError, IndexError):
        return False
    return True


def is_sound(key: str) -> bool:
    """Whether a key below `pools/`, `leases/` or `endpoints/` can be read: its pool, and the block or the address in
    that pool that it names. A mistyped one must hinder nobody."""
    try:
        _, _, part, *_ = key.split("/")
        pool = pool_of_key(key)
        if key.startswith(LEASES) or (key.startswith(POOLS) and part == "blocks"):
            return contains(pool, block_of_key(key))
        if key.startswith(POOLS) and part in ("borrowed", "wanted"):
            return address_of_key(key) in pool
    except ValueError:
        return False
    return not key.endswith("/")


def sound(entries: Mapping[str, R]) -> Iterator[tuple[str, R]]:
    return ((key, entry) for key, entry in entries.items() if is_sound(key))


def space_of_key(key: str) -> str:
    """The name space of such a key, empty for the one that all networks of our driver are in."""
    return key.split("/")[1].rpartition("@")[0]


def host_key(host: str) -> str:
    return f"{HOSTS}{host}"


def leases_prefix(pool: IPNetwork) -> str:
    return f"{LEASES}{_name(pool)}/"


def leases_key(pool: IPNetwork, block: IPNetwork) -> str:
    return leases_prefix(pool) + _name(block)


def owner_key(pool: IPNetwork) -> str:
    return f"{POOLS}{_name(pool)}/owner"


def network_key(pool: IPNetwork) -> str:
    return f"{POOLS}{_name(pool)}/network"


def peers_prefix(pool: IPNetwork) -> str:
    return f"{POOLS}{_name(pool)}/peers/"


def peer_key(pool: IPNetwork, host: str) -> str:
    return peers_prefix(pool) + host


def peers(keys: Iterable[str]) -> Iterator[tuple[IPNetwork, str]]:
    """Networks and the hosts that are their peers, among the keys below `pools/`."""
    for key in keys:
        where, _, host = key.rpartition("/")
        if where.endswith("/peers") and names_pool(key):
            yield pool_of_key(key), host


def docker_network_key(name: str) -> str:
    """Docker allows any name; a key does not."""
    text = quote(name, safe="").replace("%", "=")
    return NETWORKS + (text if text.strip(".") else text.replace(".", "=2E"))


def endpoint_key(pool: IPNetwork, host: str, endpoint_id: str) -> str:
    return f"{ENDPOINTS}{_name(pool)}/{host}/{endpoint_id[:12]}"


def host_of_endpoint(key: str) -> str:
    """Empty, as no host is called, for a key that is none of an endpoint."""
    parts = key.split("/")
    return parts[2] if len(parts) == 4 and names_pool(key) else ""


def pools_with_peer(keys: Iterable[str], host: str) -> list[IPNetwork]:
    """The networks that have this host as a peer, among the keys below `pools/`."""
    return [pool_of_key(key) for key in keys if key.endswith(f"/peers/{host}") and names_pool(key)]


def pools_with_holder(keys: Iterable[str], host: str) -> list[tuple[str, IPNetwork]]:
    """The pools, each with its space, that this host uses, among the keys below `pools/`."""
    return [_spaced(key) for key in keys if key.endswith(f"/holders/{host}") and names_pool(key)]


def pools_of(keys: Iterable[str]) -> set[tuple[str, IPNetwork]]:
    """The pools, each with its space, of keys below `pools/`."""
    return {_spaced(key) for key in keys if names_pool(key)}


def _spaced(key: str) -> tuple[str, IPNetwork]:
    return space_of_key(key), pool_of_key(key)
