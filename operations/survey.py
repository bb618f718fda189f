"""The cluster as its records show it: pure functions over the store's entries."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from driver.backends import BACKENDS
from operations.model import Address, Container, HeldBlock, Host, Network, NetworkMap, Picture, PoolMap
from store import records
from store.codec import BadRecord, decode
from store.ip import IPAddress, IPNetwork, parse_network

R = TypeVar("R")
Entries = Mapping[str, bytes]
Where = tuple[str, IPNetwork]  # a pool and its name space


@dataclass(frozen=True, slots=True)
class Here:
    """What only this host knows."""

    host: str
    silences: Mapping[str, float]  # seconds without a sign of life, by host
    names: Mapping[Where, str]  # Docker's names of the networks, by any of their pools
    uses: Mapping[Where, Mapping[IPAddress, str]]  # of this host's own addresses
    containers: Mapping[tuple[Where, IPAddress], str]  # names
    spread: Mapping[str, str]  # sentences by Docker's name of a network, where it is not as the cluster has it
    absent: Mapping[str, str]  # the same by the cluster's name, of those that this host takes no part in


def hosts(entries: Entries, here: Here) -> list[Host]:
    blocks, given, networks, reached = Counter[str](), Counter[str](), defaultdict[str, list[str]](list), {}
    for (_, _), _block, holder in _blocks(entries):
        blocks[holder] += 1
    for _, told in _leases(entries):
        given[told.host] += len(told.given)
    for key, peer in _decoded(entries, "/peers/", records.Peer):
        networks[peer.host].append(str(records.pool_of_key(key)))
        reached[peer.host] = tuple(map(str, peer.addresses))
    known = {key.removeprefix(records.HOSTS): value for key, value in entries.items() if key.startswith(records.HOSTS)}
    found = []
    for name in sorted({*known, *blocks, *networks}):
        with suppress(BadRecord):
            lost = bool(known) and (name not in known or decode(records.Host, known[name]).reclaimed)
            silent = None if name == here.host else here.silences.get(name)
            where = tuple(sorted(networks[name]))
            found.append(
                Host(name, name == here.host, reached.get(name, ()), where, blocks[name], given[name], silent, lost)
            )
    return found


def networks(entries: Entries, here: Here) -> list[Network]:
    taken, given = Counter[Where](), Counter[Where]()
    for where, _block, _holder in _blocks(entries):
        taken[where] += 1
    for where, told in _leases(entries):
        given[where] += len(told.given)
    specs = {records.pool_of_key(key): spec for key, spec in _decoded(entries, "/network", records.NetworkSpec)}
    pools = {_where(key): pool for key, pool in _decoded(entries, "/pool", records.Pool)}
    peers, holders = _members(entries, "/peers/"), _members(entries, "/holders/")
    recorded = {("", pool): record.name for record in _docker_networks(entries) for pool in record.pools[:1]}
    complete = any(key.startswith(records.HOSTS) for key in entries)  # else the store is away
    second = {pool for spec in specs.values() for pool in spec.pools[1:]}
    found = []
    for where, record in sorted(pools.items(), key=lambda item: str(item[0])):
        space, pool = where
        if not space and pool in second:
            continue
        spec = specs.get(pool) if not space else None
        all_pools = spec.pools if spec else (pool,)
        members = tuple(sorted(peers[where] if spec else holders[where]))
        name = here.names.get(where) or recorded.get(where)
        spread = here.spread.get(name or "") or here.absent.get(recorded.get(where, ""))
        if spec and complete and not name and here.host not in members:
            spread = _untold(spec, record)
        found.append(
            Network(
                pool=str(pool),
                more_pools=tuple(map(str, all_pools[1:])),
                space=space,
                name=name,
                backend=spec.backend if spec else None,
                vni=spec.vni if spec else None,
                port=spec.port if spec else None,
                mtu=spec.mtu if spec else None,
                internal=spec.internal if spec else False,
                here=here.host in members,
                hosts=members,
                size=pool.num_addresses,
                block_size=1 << pool.max_prefixlen - record.block_prefix,
                blocks=taken[where],
                given=sum(given[space, each] for each in all_pools),
                spread=spread,
            )
        )
    return found


def _untold(spec: records.NetworkSpec, pool: records.Pool) -> str:
    """Why a network of our driver is not here, and nothing will bring it."""
    if pool.docker_host is not None:
        return f"local: Docker's own IPAM on host {pool.docker_host} gives its addresses, so it is that host's alone"
    versions = {each.version for each in spec.pools}
    families = [*["--ipv4=false"] * (4 not in versions), *["--ipv6"] * (6 in versions)]
    words = [*["--internal"] * spec.internal, *families, *(f"--subnet {each}" for each in spec.pools)]
    return (
        "untold: its hosts have it for themselves, with FLANNELPY_PROPAGATE=false or since the cluster has another "
        f"network of its name; type: docker network create -d flannelpy --ipam-driver flannelpy {' '.join(words)} NAME"
    )


def picture(entries: Entries, here: Here, containers: int) -> Picture:
    """All that the page shows of the cluster."""
    given = {(where, block): len(told.given) for where, block, told in _leases_by_block(entries)}
    held = defaultdict[Where, list[HeldBlock]](list)
    for where, block, host in sorted(_blocks(entries), key=lambda item: int(item[1].network_address)):
        held[where].append(HeldBlock(str(block), host, given.get((where, block), 0)))
    sizes = {_where(key): pool.block_prefix for key, pool in _decoded(entries, "/pool", records.Pool)}

    def pool_map(space: str, pool: IPNetwork) -> PoolMap:
        prefix = sizes[space, pool]
        count, size = 1 << prefix - pool.prefixlen, 1 << pool.max_prefixlen - prefix
        return PoolMap(str(pool), count, size, tuple(held[space, pool]))

    maps = []
    for network in networks(entries, here):
        pools = map(parse_network, (network.pool, *network.more_pools))
        encrypted = network.backend is not None and BACKENDS[network.backend].encrypts
        known = [pool for pool in pools if (network.space, pool) in sizes]
        maps.append(NetworkMap(network, encrypted, tuple(pool_map(network.space, pool) for pool in known)))
    return Picture(tuple(hosts(entries, here)), tuple(maps), containers)


def containers(endpoints: Entries, here: Here) -> list[Container]:
    """As the hosts tell of them, and as Docker knows those of this host."""
    found: dict[tuple[str, str, tuple[str, ...]], Container] = {}
    for ((space, pool), address), name in here.containers.items():
        container = Container(name, here.host, here.names.get((space, pool)), str(pool), (str(address),))
        found[container.host, container.name, container.addresses[:1]] = container
    for key, value in records.sound(endpoints):
        with suppress(BadRecord):
            told = decode(records.Endpoint, value)
            host, addresses = records.host_of_endpoint(key), tuple(map(str, told.addresses))
            where = str(records.pool_of_key(key))
            found[host, told.name, addresses[:1]] = Container(told.name, host, told.network, where, addresses)
    return sorted(found.values(), key=lambda each: (each.name, each.host, each.pool))


def addresses(entries: Entries, here: Here, wanted: IPAddress | None = None) -> list[Address]:
    """Every address that somebody has, or the wanted one alone."""
    found: dict[tuple[Where, IPAddress], Address] = {}
    for where, told in _leases(entries):
        for address in told.given:
            found[where, address] = _address(where, address, told.host, "in use", here)
    for key, borrowed in _decoded(entries, "/borrowed/", records.Borrowed):
        where, address = _where(key), records.address_of_key(key)
        found[where, address] = _address(where, address, borrowed.host, "resting" if borrowed.idle else "in use", here)
    for where, uses in here.uses.items():
        for address, use in uses.items():
            if use != "lent":
                found[where, address] = _address(where, address, here.host, use, here)
    for where, pool in [(_where(key), pool) for key, pool in _decoded(entries, "/pool", records.Pool)]:
        for address in pool.reserved:
            found[where, address] = _address(where, address, "-", "reserved", here)
        if pool.gateway is not None:
            found[where, pool.gateway] = _address(where, pool.gateway, "every host", "gateway", here)
    order = sorted(found, key=lambda item: (item[0][0], item[1].version, item[1]))
    return [found[item] for item in order if wanted is None or item[1] == wanted]


def holder(entries: Entries, wanted: IPAddress) -> list[tuple[str, str, str]]:
    """The blocks that hold an address: space, block and host. For an address that nobody has."""
    return [(where[0], str(block), host) for where, block, host in _blocks(entries) if wanted in block]


def shared_addresses(entries: Entries) -> dict[str, tuple[str, ...]]:
    """Underlay addresses that more than one host publishes, and these hosts."""
    published = defaultdict[str, set[str]](set)
    for _key, peer in _decoded(entries, "/peers/", records.Peer):
        for address in peer.addresses:
            published[str(address)].add(peer.host)
    return {address: tuple(sorted(hosts)) for address, hosts in sorted(published.items()) if len(hosts) > 1}


def _address(where: Where, address: IPAddress, host: str, use: str, here: Here) -> Address:
    container = here.containers.get((where, address))
    return Address(str(address), str(where[1]), where[0], host, use, container, here.names.get(where))


def _where(key: str) -> Where:
    return records.space_of_key(key), records.pool_of_key(key)


def _members(entries: Entries, part: str) -> Mapping[Where, list[str]]:
    found = defaultdict[Where, list[str]](list)
    for key, _value in records.sound(entries):
        if key.startswith(records.POOLS) and part in key:
            found[_where(key)].append(key.rpartition("/")[2])
    return found


def _blocks(entries: Entries) -> Iterator[tuple[Where, IPNetwork, str]]:
    for key, block in _decoded(entries, "/blocks/", records.Block):
        yield _where(key), records.block_of_key(key), block.host


def _leases(entries: Entries) -> Iterator[tuple[Where, records.BlockLeases]]:
    for where, _block, told in _leases_by_block(entries):
        yield where, told


def _leases_by_block(entries: Entries) -> Iterator[tuple[Where, IPNetwork, records.BlockLeases]]:
    for key, value in records.sound(entries):
        if key.startswith(records.LEASES):
            with suppress(BadRecord):
                yield _where(key), records.block_of_key(key), decode(records.BlockLeases, value)


def _docker_networks(entries: Entries) -> Iterator[records.DockerNetwork]:
    """Those that every host is to have."""
    for key, value in entries.items():
        if key.startswith(records.NETWORKS):
            with suppress(BadRecord):
                found = decode(records.DockerNetwork, value)
                if not found.removed:
                    yield found


def _decoded(entries: Entries, part: str, kind: type[R]) -> Iterator[tuple[str, R]]:
    """The records below `pools/` whose key has that part, or ends with it. What cannot be read is passed over: the
    doctor tells of it."""
    for key, value in records.sound(entries):
        if key.startswith(records.POOLS) and (part in key if part.endswith("/") else key.endswith(part)):
            with suppress(BadRecord):
                yield key, decode(kind, value)
