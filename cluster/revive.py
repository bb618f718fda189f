"""Starts what Docker gave up: containers that it was to start with itself, while our driver was not there yet.

dockerd waits some 15 s for a driver and does not try again, whatever a container's restart policy says. So after each
connection to the Engine, and a little later for what it is still trying, the agent looks for such containers."""

import logging
from collections.abc import Callable, Collection
from typing import Protocol

from cluster.agent import Poked
from cluster.dockerd import EngineUnavailable
from cluster.engine import Event, Unstarted

log = logging.getLogger(__name__)

LOOKS, APART = 3, 20.0  # seconds: Docker has given up what it will give up


class Engine(Protocol):
    def unstarted(self, networks: Collection[str]) -> list[Unstarted]: ...
    def start(self, container_id: str) -> None: ...


class Reviver(Poked):
    """A listener of Docker's events."""

    def __init__(self, engine: Engine, ours: Callable[[], Collection[str]]) -> None:
        """`ours` are the ids of our driver's networks on this host."""
        self._engine, self._ours = engine, ours
        self._left = 0
        super().__init__("reviver")

    def resync(self) -> None:
        self._left = LOOKS
        self.poke()

    def event(self, event: Event) -> None:
        """Only connections matter."""

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._news.wait(APART if self._left else None)
            self._news.clear()
            if not self._stopping.is_set():
                self._left = max(self._left - 1, 0)
                self._attempt()

    def _attempt(self) -> None:
        try:
            self.look()
        except EngineUnavailable as error:  # the next connection begins anew
            log.info("containers are looked after later", extra={"why": error})
        except Exception:  # the loop must live
            log.exception("looking after containers failed")

    def look(self) -> None:
        ours = self._ours()
        for container in self._engine.unstarted(ours) if ours else ():
            try:
                self._engine.start(container.id)
                log.warning("container started, Docker had given it up", extra=_told(container))
            except EngineUnavailable as error:
                log.warning("container cannot be started", extra={**_told(container), "now": error})


def _told(container: Unstarted) -> dict[str, str]:
    return {"container": container.name, "why": container.error}
