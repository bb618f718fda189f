"""Which links have the program, and for which networks: pure functions.

Those of containers, and those by which a network's packets come from other hosts: on one host all of a network's or
none, for connection tracking must see both directions of a connection, or neither."""

import hashlib
from collections.abc import Collection, Iterable, Iterator
from functools import lru_cache

from driver.backends import BACKENDS
from driver.backends.interface import Underlay
from driver.fast_path.program import Groups, program
from driver.model import Endpoint, Network
from driver.state import FastPath
from store.ip import IPNetwork

MOST = 64  # networks in one program: each is compared with every packet that the underlay's link receives
Local = tuple[Network, Collection[Endpoint]]  # a network and its endpoints on this host


def of_links(underlay: Underlay, networks: Iterable[Local]) -> Iterator[FastPath]:
    """Of all links, whether these are there or not."""
    entrances: dict[str, list[tuple[IPNetwork, ...]]] = {}
    for network, endpoints in sorted(networks, key=lambda local: _order(local[0].pools)):
        devs = _entrances(network, endpoints, underlay)
        if any(len(entrances.get(dev, ())) >= MOST for dev in devs):
            continue
        for dev in devs:
            entrances.setdefault(dev, []).append(network.pools)
        for endpoint in endpoints if devs else ():
            yield _fast_path(endpoint.host_link, (network.pools,))
    for dev, groups in entrances.items():
        yield _fast_path(dev, tuple(groups))


def _entrances(network: Network, endpoints: Collection[Endpoint], underlay: Underlay) -> tuple[str, ...]:
    """None where its packets go the ordinary way: also where a port of ours leads to one of its containers, whose
    answers must meet the translation again."""
    if not network.fast_path or network.adopted or any(endpoint.published for endpoint in endpoints):
        return ()
    return BACKENDS[network.backend].entrances(network, underlay)


def _order(pools: tuple[IPNetwork, ...]) -> list[tuple[int, int, int]]:
    """Of different families, too, which do not compare by themselves."""
    return [(pool.version, int(pool.network_address), pool.prefixlen) for pool in pools]


@lru_cache(1024)
def _fast_path(dev: str, groups: Groups) -> FastPath:
    code = program(groups)
    return FastPath(dev, hashlib.sha256(code).hexdigest()[:12], code)
