"""Follows one topic of the store, and keeps the last of it: an outage of the store changes nothing here."""

import logging
import random
import threading
import time
from collections.abc import Callable, Mapping

from store.copy import Changes, Copy
from store.interface import Entry, Store, StoreUnavailable

log = logging.getLogger(__name__)

PATIENCE = 60.0  # seconds one question to the store may stay open
SHORTEST_PAUSE, LONGEST_PAUSE = 0.5, 15.0  # seconds until a store that did not answer is asked again, unless told


class Following:
    def __init__(
        self,
        store: Store,
        host: str,
        topic: str,
        heard: Callable[[Changes], object],
        believes: Callable[[Mapping[str, Entry]], bool] = lambda _: True,
    ) -> None:
        """`heard` is told of all changes, by one thread; also, of none, at the first answer and after each outage.
        `believes`: see Copy."""
        self._copy, self._heard = Copy(store, host, topic, believes), heard
        self._answered = self._turned = time.monotonic()
        self._stopping, self._woken = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"follow {topic}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Does not wait for an open question: the thread ends with the process."""
        self._stopping.set()
        self._woken.set()

    def hurry(self) -> None:
        """The store is back: a pause after its failure ends."""
        self._woken.set()

    def entries(self) -> Mapping[str, Entry] | None:
        """The last that the store said, None if it has not answered since the start."""
        return self._copy.entries

    def age(self) -> float:
        """Seconds since the store last answered, or since the start; it answers every PATIENCE seconds at least."""
        return time.monotonic() - self._answered

    def idle(self) -> float:
        """Seconds since the loop last came round, as it does with the store away, too."""
        return time.monotonic() - self._turned

    def _run(self) -> None:
        pause, away = SHORTEST_PAUSE, True
        untold: dict[str, Entry | None] = {}
        while not self._stopping.is_set():
            self._turned = time.monotonic()
            self._woken.clear()
            try:
                untold |= self._copy.next(0 if untold else PATIENCE)
                if untold or away:
                    self._heard(untold)
            except StoreUnavailable as error:  # told by store/breaker.py, loudly and once
                log.debug("the store is away, everything stays as it is", extra={"why": error})
                away = True
                self._woken.wait(pause * random.uniform(0.8, 1.2))  # noqa: S311 spreads hosts, keeps no secret
                pause = min(pause * 2, LONGEST_PAUSE)
            except Exception:  # the loop must live: what broke it may be gone with the next change
                log.exception("following the cluster failed")
                self._stopping.wait(LONGEST_PAUSE)
            else:
                pause, away, untold = SHORTEST_PAUSE, False, {}
                self._answered = time.monotonic()
