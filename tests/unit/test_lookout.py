"""The lookout asks a store that is away, and no other."""

import queue
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from cluster import lookout
from cluster.lookout import Lookout
from store.breaker import Breaker
from store.interface import Snapshot, StoreUnavailable
from store.memory import MemoryStore


class Away(MemoryStore):
    """Until `back`; notes what it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.back, self.answers = queue.Queue[str](), threading.Event(), threading.Event()
        self.answers.set()

    def wait(self, prefix: str, after: int, timeout: float) -> Snapshot:
        self.asked.put(prefix)
        self.answers.wait(10)
        if not self.back.is_set():
            raise StoreUnavailable("away")
        return super().wait(prefix, after, timeout)


@contextmanager
def looking(store: Breaker) -> Iterator[None]:
    one = Lookout(store, store.away, "hosts/a")
    one.start()
    try:
        yield
    finally:
        one.stop()


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookout, "PERIOD", 0.02)


def test_it_asks_until_the_store_is_back_and_then_no_more() -> None:
    inner, told = Away(), threading.Event()
    store = Breaker(inner, back=told.set)
    with looking(store):
        time.sleep(0.2)
        assert inner.asked.empty(), "nobody knows that the store is away"
        with pytest.raises(StoreUnavailable):
            store.wait("pools/", 0, 0)
        assert [inner.asked.get(timeout=5) for _ in range(3)] == ["pools/", "hosts/a", "hosts/a"]
        inner.back.set()
        assert told.wait(5)
        while not inner.asked.empty():
            inner.asked.get()
        time.sleep(0.2)
        assert inner.asked.empty()


def test_a_store_that_hangs_is_asked_once_at_a_time() -> None:
    inner = Away()
    store = Breaker(inner)
    with pytest.raises(StoreUnavailable):
        store.wait("pools/", 0, 0)
    inner.answers.clear()
    with looking(store):
        assert [inner.asked.get(timeout=5) for _ in range(2)] == ["pools/", "hosts/a"]
        time.sleep(0.2)
        assert inner.asked.empty()
        inner.answers.set()
