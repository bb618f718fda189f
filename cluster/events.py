"""Follows Docker's events without a gap, over restarts of the Engine, for all who must know what it does.

An event is a hint: it may be told twice, and while nobody was connected it may be forgotten by the Engine, which
remembers some hundred. So each connection begins with `resync`, when events already flow: what happened before is in
the Engine's lists, what happens later is told."""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Protocol

from cluster.dockerd import EngineUnavailable
from cluster.engine import Event

log = logging.getLogger(__name__)

SHORTEST_PAUSE, LONGEST_PAUSE = 0.1, 2.0  # seconds between two tries to reach an Engine that does not answer


class EventSource(Protocol):
    def events(self, since: int) -> AbstractContextManager[Iterator[Event]]: ...


class Listener(Protocol):
    """Called from one thread that all listeners share: must not wait for anything."""

    def resync(self) -> None:
        """Anything may have changed: read the Engine's lists anew."""

    def event(self, event: Event) -> None: ...


class Follower:
    def __init__(
        self, engine: EventSource, listeners: Sequence[Listener], clock: Callable[[], int] = time.time_ns
    ) -> None:
        self._engine, self._listeners, self._clock = engine, listeners, clock
        self._since: int | None = None
        self._pause, self._told_away = SHORTEST_PAUSE, False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="events", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Does not wait for the next event: the thread ends with the process."""
        self._stopping.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._follow()
            except EngineUnavailable as error:
                log.log(logging.DEBUG if self._told_away else logging.INFO, "waiting for Docker", extra={"why": error})
                self._told_away = True
            except Exception:  # the loop must live: the next connection begins with everything
                log.exception("following Docker's events failed")
            self._stopping.wait(self._pause)
            self._pause = min(self._pause * 2, LONGEST_PAUSE)

    def _follow(self) -> None:
        """One connection, to its end."""
        # The Engine answers a moment before it listens: `since` closes that gap as well.
        since = self._clock() if self._since is None else self._since
        with self._engine.events(since) as events:
            self._since, self._pause, self._told_away = since, SHORTEST_PAUSE, False
            self._tell(lambda listener: listener.resync())
            for event in events:
                if self._stopping.is_set():
                    return
                self._since = event.at
                self._tell(partial(_pass_on, event))

    def _tell(self, tell: Callable[[Listener], None]) -> None:
        for listener in self._listeners:
            try:
                tell(listener)
            except Exception:  # the others must hear of it all the same, and a later resync repeats it
                log.exception("an event was not taken")


def _pass_on(event: Event, listener: Listener) -> None:
    listener.event(event)
