"""Starts and stops everything that runs beside the requests."""

import threading
from collections.abc import Sequence
from typing import Protocol

from store.interface import Store


class Worker(Protocol):
    def start(self) -> None: ...

    def stop(self) -> None: ...


class Poked:
    """A worker whose thread does something whenever it is poked. A class of its own says what, in `_run`, which ends
    once `_stopping` is set; `stop` does not wait for that."""

    def __init__(self, name: str) -> None:
        self._news, self._stopping = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._news.set()

    def poke(self) -> None:
        self._news.set()

    def _run(self) -> None:
        raise NotImplementedError


class Persistent(Poked):
    """One that could not do what it was poked for tries again some seconds later."""

    def __init__(self, name: str, again: float) -> None:
        self._again = again
        super().__init__(name)

    def _run(self) -> None:
        pause = None
        while not self._stopping.is_set():
            self._news.wait(pause)
            self._news.clear()
            if not self._stopping.is_set():
                pause = None if self._attempt() else self._again

    def _attempt(self) -> bool:
        """Whether it is done; must not raise, for the loop must live."""
        raise NotImplementedError


class Agent:
    def __init__(self, workers: Sequence[Worker], stores: Sequence[Store]) -> None:
        """`stores` are closed when everybody has stopped."""
        self._workers, self._stores = workers, stores

    def start(self) -> None:
        for worker in self._workers:
            worker.start()

    def stop(self) -> None:
        for worker in reversed(self._workers):
            worker.stop()
        for store in self._stores:
            store.close()
