"""Asks a store that is away whether it is back, so that those who wait for it can leave it in peace.

Of a host whose store is away this is the one question that comes often, and it is one at a time; the others come at
their own, growing pauses, and at once when they hear that the store is back."""

import random
import threading
from collections.abc import Callable
from contextlib import suppress

from store.interface import Store, StoreUnavailable

PERIOD = 1.5  # seconds between two questions


class Lookout:
    def __init__(self, store: Store, away: Callable[[], object], key: str) -> None:
        """`away` is None while the store answers, as far as is known; whoever hears its first answer tells the others
        (store/breaker.py)."""
        self._store, self._away, self._key = store, away, key
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lookout", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Does not wait for an open question: the thread ends with the process."""
        self._stopping.set()

    def _run(self) -> None:
        while not self._stopping.wait(PERIOD * random.uniform(0.7, 1.3)):  # noqa: S311 spreads hosts, keeps no secret
            if self._away() is not None:
                with suppress(StoreUnavailable):
                    self._store.wait(self._key, 0, 0)  # answered at once, and by the breaker never refused
