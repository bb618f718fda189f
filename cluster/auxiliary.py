"""The --aux-address of other drivers' networks: the Engine's list alone tells it from a container's (docs/adr/0029)."""

import logging
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping
from typing import Protocol

from cluster.agent import Persistent
from cluster.dockerd import EngineUnavailable
from cluster.engine import EnginePool, Event
from ipam.errors import IpamError
from ipam.model import PoolId
from store.interface import Contended, StoreUnavailable
from store.ip import IPAddress, IPNetwork

log = logging.getLogger(__name__)

AGAIN = 5.0  # seconds until a look is repeated for which the store or the Engine was away


class Engine(Protocol):
    def pools(self) -> list[EnginePool]: ...


class Addresses(Protocol):
    def listed(self, networks: Mapping[PoolId, int], as_of: float) -> None: ...

    def reserve(self, space: str, wanted: Mapping[IPNetwork, Collection[IPAddress]], as_of: float) -> None: ...


class Auxiliaries(Persistent):
    """A listener of Docker's events: what is an --aux-address of a network that is there becomes the cluster's, and
    from then on no request for it in that network is a create's."""

    def __init__(self, engine: Engine, addresses: Addresses, clock: Callable[[], float] = time.time) -> None:
        self._engine, self._addresses, self._clock = engine, addresses, clock
        super().__init__("auxiliary addresses", AGAIN)

    def resync(self) -> None:
        self.poke()

    def event(self, event: Event) -> None:
        if (event.kind, event.action) == ("network", "create"):
            self.poke()

    def _attempt(self) -> bool:
        try:
            self.look()
        except (StoreUnavailable, Contended, EngineUnavailable) as error:
            log.info("auxiliary addresses are reserved later", extra={"why": error})
            return False
        except Exception:  # the loop must live
            log.exception("reserving auxiliary addresses failed")
        return True

    def look(self) -> None:
        now, found = self._clock(), defaultdict[tuple[str, IPNetwork], set[IPAddress]](set)
        pools = self._engine.pools()
        self._addresses.listed(Counter(known.id for known in pools), now)
        for known in pools:
            found[known.id.space, known.id.pool].update(known.auxiliary)
        for (space, pool), addresses in found.items():
            if addresses:
                self._reserve_in(space, pool, addresses, now)

    def _reserve_in(self, space: str, pool: IPNetwork, addresses: Collection[IPAddress], now: float) -> None:
        """Each by itself: one that cannot be hinders no other, and is still this host's alone."""
        for address in sorted(addresses, key=int):
            try:
                self._addresses.reserve(space, {pool: [address]}, now)
            except IpamError as error:  # a pool that is lost was told of by then
                log.debug("an auxiliary address is kept by this host alone", extra={"address": address, "why": error})
