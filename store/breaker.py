"""Keeps requests from waiting for a store that is away: after a failure that took long, the next are refused at once.

One that cost nothing, such as a refused connection, keeps nobody from asking again. The watch goes through in any case,
and so is often the first to notice that the store is back."""

import logging
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from store.interface import Change, Entry, Snapshot, Store, StoreForbidden, StoreUnavailable, reconnect

log = logging.getLogger(__name__)

T = TypeVar("T")

SHORTEST, LONGEST = 0.1, 8.0  # seconds in which calls are refused
TIMES = 4  # as long as the failure took


class Breaker:
    """A store in front of a store."""

    def __init__(
        self,
        inner: Store,
        clock: Callable[[], float] = time.monotonic,
        skew: Callable[[], float | None] = lambda: None,
        back: Callable[[], None] = lambda: None,
    ) -> None:
        """`skew`: seconds this host's clock is ahead of the store's, as far as that is known; `back` is called when
        the store answers again."""
        self._inner, self._clock, self.skew, self._back = inner, clock, skew, back
        self._lock = threading.Lock()
        self._away_since: float | None = None
        self._closed_until, self._asking = 0.0, False  # whether somebody finds out if it is back
        self._why = ""

    def away(self) -> tuple[float, str] | None:
        """For how many seconds the store has been away, and why; None if it is there."""
        with self._lock:
            return None if self._away_since is None else (self._clock() - self._away_since, self._why)

    def get(self, key: str) -> Entry | None:
        return self._guarded(lambda: self._inner.get(key))

    def read(self, prefix: str) -> Snapshot:
        return self._guarded(lambda: self._inner.read(prefix))

    def commit(self, *changes: Change) -> bool:
        return self._guarded(lambda: self._inner.commit(*changes))

    def wait(self, prefix: str, after: int, timeout: float) -> Snapshot:
        return self._tried(lambda: self._inner.wait(prefix, after, timeout), waits=True)

    def reconnect(self) -> None:
        """What failed before says nothing about the store as it is reached from now on."""
        with self._lock:
            self._closed_until = 0.0
        reconnect(self._inner)

    def close(self) -> None:
        self._inner.close()

    def _guarded(self, call: Callable[[], T]) -> T:
        with self._lock:
            now = self._clock()
            if self._away_since is None:
                first = False
            elif self._asking or now < self._closed_until:
                raise StoreUnavailable(f"{self._why} (away for {now - self._away_since:.0f} s)")
            else:
                first = self._asking = True
        try:
            return self._tried(call)
        finally:
            if first:
                self._asking = False

    def _tried(self, call: Callable[[], T], *, waits: bool = False) -> T:
        asked = self._clock()
        try:
            answer = call()
        except StoreForbidden:
            raise  # an answer
        except StoreUnavailable as error:
            self._failed(str(error), 0.0 if waits else self._clock() - asked)
            raise
        self._answered()
        return answer

    def _failed(self, why: str, took: float) -> None:
        with self._lock:
            now = self._clock()
            if self._away_since is None:
                self._away_since = now
                log.warning("the store is away; what this host holds goes on", extra={"why": why})
            self._why = why
            self._closed_until = max(self._closed_until, now + min(max(SHORTEST, TIMES * took), LONGEST))

    def _answered(self) -> None:
        with self._lock:
            away_since, self._away_since = self._away_since, None
        if away_since is not None:
            log.warning("the store is back", extra={"after": f"{self._clock() - away_since:.0f}s"})
            self._back()
