"""Tells how long each call of a store took, and whether it was answered."""

import time
from collections.abc import Callable
from typing import TypeVar

from store.interface import Change, Entry, Snapshot, Store, StoreUnavailable, reconnect

T = TypeVar("T")

Told = Callable[[str, float, bool], None]  # verb, seconds, answered


class Measured:
    """A store in front of a store. A `wait` is not measured: it is meant to take long."""

    def __init__(self, inner: Store, tell: Told) -> None:
        self._inner, self._tell = inner, tell

    def get(self, key: str) -> Entry | None:
        return self._timed("get", lambda: self._inner.get(key))

    def read(self, prefix: str) -> Snapshot:
        return self._timed("read", lambda: self._inner.read(prefix))

    def commit(self, *changes: Change) -> bool:
        return self._timed("commit", lambda: self._inner.commit(*changes))

    def wait(self, prefix: str, after: int, timeout: float) -> Snapshot:
        return self._inner.wait(prefix, after, timeout)

    def reconnect(self) -> None:
        reconnect(self._inner)

    def close(self) -> None:
        self._inner.close()

    def _timed(self, verb: str, call: Callable[[], T]) -> T:
        began = time.monotonic()
        try:
            answer = call()
        except StoreUnavailable:
            self._tell(verb, time.monotonic() - began, False)
            raise
        self._tell(verb, time.monotonic() - began, True)
        return answer
