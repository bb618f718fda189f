"""What the page shows, looked up once for everybody who looks at it.

A look reads all records of the cluster. However many browsers ask, this host does so every few seconds at most, and
spends no more than a small part of its time on it. Nobody waits for a look that another has begun: the web server has
few threads, and one of them must be left for health."""

import threading
import time
from collections.abc import Callable
from typing import Protocol

from operations.model import Container, FoundContainers, Overview, Picture, Status
from store.interface import StoreUnavailable

PERIOD = 2.0  # seconds between two looks, at least
MOST_CONTAINERS = 100  # of those that are looked for
SHARE = 0.05  # of this host's time that looks may take


class Sight(Protocol):
    def status(self) -> Status: ...
    def picture(self) -> tuple[Picture, list[Container]]: ...


class Overviews:
    def __init__(self, sight: Sight, clock: Callable[[], float] = time.monotonic) -> None:
        self._sight, self._clock, self._looking = sight, clock, threading.Lock()
        self._picture: Picture | None = None
        self._containers: list[Container] = []
        self._seen = self._next = float("-inf")

    def overview(self) -> Overview:
        if self._clock() >= self._next and self._looking.acquire(blocking=False):
            try:
                self._look()
            finally:
                self._looking.release()
        picture, seen = self._picture, self._seen
        return Overview(self._sight.status(), picture, self._clock() - seen if picture else None)

    def containers(self, wanted: str) -> FoundContainers:
        """As of the last look. Those that have the text in their name, host, network or addresses."""
        text = wanted.strip().casefold()
        found = [each for each in self._containers if not text or text in _described(each)]
        return FoundContainers(len(found), tuple(found[:MOST_CONTAINERS]))

    def _look(self) -> None:
        """With the store away what was last seen stands."""
        began = self._clock()
        try:
            self._picture, self._containers = self._sight.picture()
            self._seen = began
        except StoreUnavailable:
            pass
        now = self._clock()
        self._next = now + max(PERIOD, (now - began) / SHARE)


def _described(container: Container) -> str:
    return " ".join((container.name, container.host, container.network or "", *container.addresses)).casefold()
