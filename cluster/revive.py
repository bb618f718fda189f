"""Starts what Docker gave up: containers that it was to start by itself, and could not because of us.

dockerd waits some 15 s for a driver and does not try again, whatever a container's restart policy says; nor does it
after a refusal that passes, of a host whose store is away, say. So the agent looks for such containers after each
connection to the Engine, when the store is back, and again and again as long as one is left. One that was found once
stays looked after: what Docker says of it after another try may be anything."""

import logging
from collections.abc import Callable, Collection, Sequence
from typing import Protocol

from cluster.agent import Poked
from cluster.dockerd import EngineUnavailable
from cluster.engine import Event, ListedNetwork, Unstarted
from ipam.model import PoolId

log = logging.getLogger(__name__)

LOOKS, APART = 3, 20.0  # seconds: Docker has given up what it will give up
LONGEST = 60.0  # seconds between two looks while one is left, as between Docker's own restarts


class Engine(Protocol):
    def listed(self) -> Sequence[ListedNetwork]: ...
    def unstarted(self, networks: Collection[str]) -> list[Unstarted]: ...
    def start(self, container_id: str) -> None: ...


class Reviver(Poked):
    """A listener of Docker's events; to be poked when refusals may have passed."""

    def __init__(
        self, engine: Engine, ours: Callable[[], Collection[str]], pools: Callable[[], Collection[PoolId]]
    ) -> None:
        """`ours` are the ids of our driver's networks on this host, `pools` those that networks of any driver have
        from us."""
        self._engine, self._ours, self._pools = engine, ours, pools
        self._left: dict[str, str] = {}  # containers by id, and why they last did not start
        super().__init__("reviver")

    def resync(self) -> None:
        self.poke()

    def event(self, event: Event) -> None:
        """Only connections matter."""

    def _run(self) -> None:
        looks = LOOKS  # since the last poke
        while not self._stopping.is_set():
            looks = 0 if self._news.wait(self._patience(looks)) else looks + 1
            self._news.clear()
            if not self._stopping.is_set():
                self._attempt()

    def _patience(self, looks: int) -> float | None:
        """Seconds until the next look when nobody pokes."""
        if looks + 1 >= LOOKS and not self._left:
            return None
        return APART if looks < LOOKS else LONGEST

    def _attempt(self) -> None:
        try:
            self.look()
        except EngineUnavailable as error:  # the next connection begins anew
            log.info("containers are looked after later", extra={"why": error})
        except Exception:  # the loop must live
            log.exception("looking after containers failed")

    def look(self) -> None:
        networks = self._networks()
        found = self._engine.unstarted(networks) if networks else []
        before, self._left = self._left, {}
        for container in found:
            if container.passes or container.id in before:
                self._start(container, before.get(container.id))

    def _networks(self) -> set[str]:
        """The ids of all that no container gets into without us."""
        ours, pools = set(self._ours()), self._pools()
        if pools:
            listed = self._engine.listed()
            ours |= {network.id for network in listed if any(pool.id in pools for pool in network.leased)}
        return ours

    def _start(self, container: Unstarted, before: str | None) -> None:
        try:
            self._engine.start(container.id)
            log.warning("container started, Docker had given it up", extra=_told(container))
        except EngineUnavailable as error:
            self._left[container.id] = str(error)
            if str(error) != before:
                log.warning("container cannot be started yet", extra={**_told(container), "now": error})


def _told(container: Unstarted) -> dict[str, str]:
    return {"container": container.name, "why": container.error}
