"""The subnets of Docker's networks, as the Engine last told: a pool that flannelpy chooses keeps clear of them.

RequestPool may not ask, since the Engine waits for it; and a network of macvlan, say, shows in no route of the host."""

import logging
from collections.abc import Callable, Collection, Sequence
from typing import Protocol

from cluster.agent import Persistent
from cluster.dockerd import EngineUnavailable
from cluster.engine import Event, ListedNetwork
from store.ip import IPNetwork

log = logging.getLogger(__name__)

AGAIN = 5.0  # seconds until a look is repeated for which the Engine was away


class Engine(Protocol):
    def listed(self) -> Sequence[ListedNetwork]: ...


class Subnets(Persistent):
    """A listener of Docker's events."""

    def __init__(self, engine: Engine, held: Callable[[], Collection[IPNetwork]]) -> None:
        """`held` are the pools of this host's own records: those tell of them sooner, when one goes, too."""
        self._engine, self._held = engine, held
        self._others: Collection[IPNetwork] = ()
        super().__init__("subnets", AGAIN)

    def others(self) -> Collection[IPNetwork]:
        return self._others

    def resync(self) -> None:
        self.poke()

    def event(self, event: Event) -> None:
        if event.kind == "network" and event.action in ("create", "destroy"):
            self.poke()

    def _attempt(self) -> bool:
        try:
            listed = self._engine.listed()
        except EngineUnavailable as error:
            log.debug("Docker's subnets stay as they were last seen", extra={"why": error})
            return False
        except Exception:  # the loop must live
            log.exception("reading Docker's subnets failed")
            return True
        self._others = {pool for network in listed for pool in network.shape.pools} - {*self._held()}
        return True
