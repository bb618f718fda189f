"""Containers whose address this host no longer holds: after a lost lease somebody else may have it, too.

Computed from what Docker runs and what this host's records hold, so it also finds what a crash kept from the log. The
records are read before Docker is asked and after: a container that comes or goes meanwhile has its address in one of
the two."""

import logging
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from cluster.engine import EngineNetwork
from cluster.garbage import Ours
from ipam.pool_journal import LOST
from ipam.spaces import SpacedPool
from store.ip import IPAddress

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Conflict:
    endpoint_id: str
    container: str
    network: str
    address: IPAddress

    def __str__(self) -> str:
        return (
            f"container {self.container} on network {self.network} has address {self.address}, which this host no "
            "longer holds and another may have been given: disconnect it and connect it again"
        )


def conflicts(ours: Ours, engine: Collection[EngineNetwork]) -> Iterator[Conflict]:
    """Pure."""
    adopted = {network.id: network.pools[0] for network in ours.networks if network.adopted}
    for network in engine:
        pools: list[SpacedPool] = [(pool_id.space, pool_id.pool) for pool_id in network.pools if pool_id in ours.held]
        if network.id in adopted:
            pools.append(("", adopted[network.id]))
        for endpoint_id, attached in network.endpoints.items():
            for address in attached.addresses:
                pool = next((pool for pool in pools if address in pool[1]), None)
                if pool is not None and not _is_held(ours, pool, address, adopted=network.id in adopted):
                    yield Conflict(endpoint_id, attached.container, network.name, address)


def _is_held(ours: Ours, pool: SpacedPool, address: IPAddress, *, adopted: bool) -> bool:
    if adopted:  # Docker gives the addresses, of a block that is the whole pool
        return pool[1] in ours.blocks.get(pool, ())
    lease = ours.leases.get(pool, {}).get(address)
    return lease is not None and lease.released is None and lease.kind != LOST


class Conflicts:
    def __init__(self, engine: Callable[[], Collection[EngineNetwork]], ours: Callable[[], Ours]) -> None:
        self._engine, self._ours = engine, ours
        self.found: frozenset[Conflict] = frozenset()  # as of the last look

    def look(self) -> None:
        """EngineUnavailable if Docker cannot be asked."""
        before, engine, after = self._ours(), self._engine(), self._ours()
        found = frozenset(conflicts(before, engine)) & frozenset(conflicts(after, engine))
        for conflict in found - self.found:
            log.error("address may be in use twice", extra={"what": conflict})
        for conflict in self.found - found:
            log.info("address is used once again", extra={"container": conflict.container, "address": conflict.address})
        self.found = found
