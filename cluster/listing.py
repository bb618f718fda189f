"""Docker's list of networks: asked for once when one has come or gone, for all who need to know no more than that."""

import logging
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from cluster.agent import Persistent
from cluster.dockerd import EngineUnavailable
from cluster.engine import Event, ListedNetwork
from store.interface import Contended, StoreUnavailable

log = logging.getLogger(__name__)

AGAIN = 5.0  # seconds until it is asked for again, when the Engine was away, or the store for somebody who needs it


class Engine(Protocol):
    def listed(self) -> Sequence[ListedNetwork]: ...


class Reader(Protocol):
    def networks(self, listed: Sequence[ListedNetwork], as_of: float) -> None:
        """What Docker listed when it was asked at `as_of` (seconds since the epoch). May wait for the store, and raise
        what it raises: then the list is asked for again."""


class Listing(Persistent):
    """A listener of Docker's events."""

    def __init__(self, engine: Engine, readers: Sequence[Reader], clock: Callable[[], float] = time.time) -> None:
        self._engine, self._readers, self._clock = engine, readers, clock
        super().__init__("listing", AGAIN)

    def resync(self) -> None:
        self.poke()

    def event(self, event: Event) -> None:
        if event.kind == "network" and event.action in ("create", "destroy"):
            self.poke()

    def _attempt(self) -> bool:
        as_of = self._clock()
        try:
            listed = self._engine.listed()
        except EngineUnavailable as error:
            log.debug("Docker's networks stay as they were last seen", extra={"why": error})
            return False
        except Exception:  # the loop must live
            log.exception("reading Docker's networks failed")
            return True
        done = [self._told(reader, listed, as_of) for reader in self._readers]
        return all(done)

    def _told(self, reader: Reader, listed: Sequence[ListedNetwork], as_of: float) -> bool:
        """False if it is to be tried again."""
        try:
            reader.networks(listed, as_of)
        except (StoreUnavailable, Contended) as error:
            log.info("what follows from Docker's networks is done later", extra={"why": error})
            return False
        except Exception:  # the loop must live, and the others must hear of it
            log.exception("Docker's networks were not taken")
        return True
