"""The --aux-address of other drivers' networks: the Engine's list alone tells it from a container's (docs/adr/0029)."""

import logging
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from cluster.engine import ListedNetwork
from ipam.errors import IpamError
from ipam.model import PoolId
from store.ip import IPAddress, IPNetwork

log = logging.getLogger(__name__)


class Addresses(Protocol):
    def listed(self, networks: Mapping[PoolId, int], as_of: float) -> None: ...

    def reserve(self, space: str, wanted: Mapping[IPNetwork, Collection[IPAddress]], as_of: float) -> None: ...


class Auxiliaries:
    """Reads each of Docker's lists: what is an --aux-address of a network that is there becomes the cluster's, and from
    then on no request for it in that network is a create's."""

    def __init__(self, addresses: Addresses) -> None:
        self._addresses = addresses

    def networks(self, listed: Sequence[ListedNetwork], as_of: float) -> None:
        """StoreUnavailable, Contended."""
        pools = [pool for network in listed for pool in network.leased]
        self._addresses.listed(Counter(pool.id for pool in pools), as_of)
        found = defaultdict[tuple[str, IPNetwork], set[IPAddress]](set)
        for pool in pools:
            found[pool.id.space, pool.id.pool].update(pool.auxiliary)
        for (space, of), addresses in found.items():
            self._reserve_in(space, of, addresses, as_of)

    def _reserve_in(self, space: str, pool: IPNetwork, addresses: Collection[IPAddress], as_of: float) -> None:
        """Each by itself: one that cannot be hinders no other, and is still this host's alone."""
        for address in sorted(addresses, key=int):
            try:
                self._addresses.reserve(space, {pool: [address]}, as_of)
            except IpamError as error:  # a pool that is lost was told of by then
                log.debug("an auxiliary address is kept by this host alone", extra={"address": address, "why": error})
