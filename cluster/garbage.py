"""What nobody has any more: found by comparing our records with the Engine's, and freed only when it is certain.

Certain means: the Engine gave a whole answer, twice, some time apart, in which the thing was missing, and the thing is
older than any call of Docker's can take. What cannot be asked is kept."""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from cluster.engine import EngineNetwork
from driver.model import Endpoint, Network
from ipam.journal import Held
from ipam.model import PoolId
from ipam.pool_journal import CONTAINERS, Lease
from ipam.spaces import SpacedPool
from store.ip import IPAddress, IPNetwork

log = logging.getLogger(__name__)

YOUNG = 120.0  # seconds: what is younger may belong to a call that Docker has not finished
CONFIRMED = 60.0  # seconds between the first and the last look at a thing before it is freed


@dataclass(frozen=True, slots=True)
class GoneNetwork:
    network_id: str

    def __str__(self) -> str:
        return f"network {self.network_id[:12]}, which Docker no longer has"


@dataclass(frozen=True, slots=True)
class GoneEndpoint:
    network_id: str
    endpoint_id: str

    def __str__(self) -> str:
        return f"endpoint {self.endpoint_id[:12]} of network {self.network_id[:12]}, which Docker no longer has"


@dataclass(frozen=True, slots=True)
class LeakedAddress:
    pool_id: PoolId
    address: IPAddress
    since: float  # when it was given: given again, it is something else

    def __str__(self) -> str:
        return f"address {self.address} of pool {self.pool_id}, which no container has"


@dataclass(frozen=True, slots=True)
class LeakedPool:
    """The pool is held for more networks than Docker has: a `docker network create` failed halfway."""

    pool_id: PoolId
    since: float  # when it was last held for one more

    def __str__(self) -> str:
        return f"a hold on pool {self.pool_id}, which no network uses"


Garbage = GoneNetwork | GoneEndpoint | LeakedAddress | LeakedPool


@dataclass(frozen=True, slots=True)
class Ours:
    """What this host's records say."""

    networks: Sequence[Network]
    endpoints: Sequence[Endpoint]
    held: Mapping[PoolId, Held]
    leases: Mapping[SpacedPool, Mapping[IPAddress, Lease]]
    blocks: Mapping[SpacedPool, Collection[IPNetwork]]


def find(ours: Ours, engine: Collection[EngineNetwork], now: float) -> Iterator[Garbage]:
    """What our records have and the Engine has not. Pure."""
    known = {network.id: network for network in engine}
    for network in ours.networks:
        if network.id not in known:
            yield GoneNetwork(network.id)
    for endpoint in ours.endpoints:
        if endpoint.network_id in known and endpoint.id not in known[endpoint.network_id].endpoints:
            yield GoneEndpoint(endpoint.network_id, endpoint.id)
    used = {a for network in engine for attached in network.endpoints.values() for a in attached.addresses}
    used |= {a for network in engine for a in network.reserved}
    for (space, _), leases in ours.leases.items():
        for address, lease in leases.items():
            old = lease.released is None and now - lease.since > YOUNG
            if old and lease.kind in CONTAINERS and address not in used:
                yield LeakedAddress(replace(PoolId.parse(lease.pool_id), space=space), address, lease.since)
    uses = Counter(pool_id for network in engine for pool_id in network.pools)
    uses.update(PoolId(network.pools[0]) for network in ours.networks if network.adopted)
    for pool_id, held in ours.held.items():
        if held.uses > uses[pool_id] and now - held.since > YOUNG:
            yield LeakedPool(pool_id, held.since)


class Freeing(Protocol):
    """Who frees what; each call may find that it is gone already."""

    def delete_network(self, network_id: str) -> None: ...
    def delete_endpoint(self, network_id: str, endpoint_id: str) -> None: ...


class FreeingAddresses(Protocol):
    def release_address(self, pool_id: PoolId, address: IPAddress, since: float) -> None: ...
    def release_pool(self, pool_id: PoolId) -> None: ...


class Collector:
    def __init__(
        self,
        engine: Callable[[], Collection[EngineNetwork]],
        ours: Callable[[], Ours],
        driver: Freeing,
        ipam: FreeingAddresses,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._engine, self._ours, self._driver, self._ipam, self._clock = engine, ours, driver, ipam, clock
        self._suspects: dict[Garbage, float] = {}
        self._looked = 0.0
        self._collecting = threading.Lock()
        self.freed = 0

    def look(self) -> list[Garbage]:
        """What looks like garbage now; nothing is freed. EngineUnavailable if Docker cannot be asked."""
        return list(find(self._ours(), self._engine(), self._clock()))

    def collect(self) -> list[Garbage]:
        """One look; frees what was missing for long enough, and returns that. One caller after the other."""
        with self._collecting:
            now, engine = self._clock(), self._engine()
            found = find(self._ours(), engine, now)
            self._looked = now
            self._suspects = {item: self._suspects.get(item, now) for item in found}
            certain = [item for item, since in self._suspects.items() if now - since >= CONFIRMED]
            return [item for item in certain if self._collect(item, engine)]

    def _collect(self, item: Garbage, engine: Collection[EngineNetwork]) -> bool:
        """Looks at our records again: Docker may have got the same thing from us while others were freed."""
        del self._suspects[item]
        if item not in find(self._ours(), engine, self._clock()):
            return False
        self._free(item)
        self.freed += 1
        log.warning("freed", extra={"what": item})
        return True

    def suspected(self) -> list[Garbage]:
        """What was missing in Docker in more than one look, and is not yet certain to be gone."""
        return [item for item, since in list(self._suspects.items()) if since < self._looked]

    def _free(self, item: Garbage) -> None:
        match item:
            case GoneNetwork():
                self._driver.delete_network(item.network_id)
            case GoneEndpoint():
                self._driver.delete_endpoint(item.network_id, item.endpoint_id)
            case LeakedAddress():
                self._ipam.release_address(item.pool_id, item.address, item.since)
            case LeakedPool():
                self._ipam.release_pool(item.pool_id)
