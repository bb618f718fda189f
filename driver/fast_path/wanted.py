"""Which links have the program, and for which networks: pure functions.

Those of containers, and those by which a network's packets come from other hosts. Not of a container with published
ports of ours: what it answers must meet the translation again. Nor where a network's packets leave by a link that is
not of type Ethernet, which a process may read."""

import hashlib
from collections.abc import Collection, Iterable, Iterator

from driver.backends import BACKENDS
from driver.backends.interface import Underlay
from driver.fast_path.program import Groups, program
from driver.model import Endpoint, Network
from driver.state import FastPath


def of_links(underlay: Underlay, networks: Iterable[tuple[Network, Collection[Endpoint]]]) -> Iterator[FastPath]:
    """Of all links, whether these are there or not."""
    entrances: dict[str, set[Groups]] = {}
    for network, endpoints in networks:
        for dev in _entrances(network, underlay):
            entrances.setdefault(dev, set()).add((network.pools,))
        yield from filter(None, (of_endpoint(network, underlay, endpoint) for endpoint in endpoints))
    for dev, groups in entrances.items():
        yield _fast_path(dev, tuple(sorted(group for some in groups for group in some)))


def of_endpoint(network: Network, underlay: Underlay, endpoint: Endpoint) -> FastPath | None:
    """None if its packets go the ordinary way."""
    if endpoint.published or not _entrances(network, underlay):
        return None
    return _fast_path(endpoint.host_link, (network.pools,))


def _entrances(network: Network, underlay: Underlay) -> tuple[str, ...]:
    if not network.fast_path or network.adopted:  # an adopted pool is on this host alone
        return ()
    return BACKENDS[network.backend].entrances(network, underlay)


def _fast_path(dev: str, groups: Groups) -> FastPath:
    code = program(groups)
    return FastPath(dev, hashlib.sha256(code).hexdigest()[:12], code)
