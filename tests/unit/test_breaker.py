"""The breaker: nobody waits twice for a store that is away."""

from collections.abc import Callable

import pytest

from store.breaker import LONGEST, SHORTEST, Breaker
from store.interface import ABSENT, Change, Entry, Put, Snapshot, StoreForbidden, StoreUnavailable
from store.memory import MemoryStore


class Moody(MemoryStore):
    def __init__(self) -> None:
        super().__init__()
        self.error: Exception | None = None
        self.calls = 0
        self.moved: Callable[[], None] = lambda: None

    def _mood(self) -> None:
        self.calls += 1
        self.moved()
        if self.error:
            raise self.error

    def get(self, key: str) -> Entry | None:
        self._mood()
        return super().get(key)

    def commit(self, *changes: Change) -> bool:
        self._mood()
        return super().commit(*changes)

    def wait(self, prefix: str, after: int, timeout: float) -> Snapshot:
        self._mood()
        return super().wait(prefix, after, timeout)


def test_after_a_failure_calls_are_refused_without_asking_and_then_one_is_tried() -> None:
    inner, now = Moody(), [100.0]
    breaker = Breaker(inner, lambda: now[0])
    assert breaker.commit(Put("a", b"1", ABSENT))
    inner.error = StoreUnavailable("nobody listens")
    for _ in range(5):
        with pytest.raises(StoreUnavailable, match="nobody listens"):
            breaker.get("a")
    assert inner.calls == 2
    now[0] += 2.0
    with pytest.raises(StoreUnavailable):
        breaker.get("a")
    assert inner.calls == 3
    assert breaker.away() == (2.0, "nobody listens")
    inner.error = None
    with pytest.raises(StoreUnavailable, match="away for 2 s"):
        breaker.get("a")
    now[0] += 2.0
    assert breaker.get("a") is not None
    assert breaker.away() is None


@pytest.mark.parametrize(("took", "refused"), [(0.0, SHORTEST), (1.0, 4.0), (30.0, LONGEST)])
def test_calls_are_refused_for_longer_where_asking_costs_more(took: float, refused: float) -> None:
    inner, now = Moody(), [100.0]
    breaker = Breaker(inner, lambda: now[0])

    def slow_failure() -> None:
        now[0] += took
        raise StoreUnavailable("no answer")

    inner.moved = slow_failure
    with pytest.raises(StoreUnavailable):
        breaker.get("a")
    inner.moved = lambda: None
    now[0] += refused - 0.01
    with pytest.raises(StoreUnavailable):
        breaker.get("a")
    now[0] += 0.02
    assert breaker.get("a") is None


def test_how_long_the_watch_had_waited_says_nothing_about_what_asking_costs() -> None:
    inner, now = Moody(), [100.0]
    breaker = Breaker(inner, lambda: now[0])

    def cut_off() -> None:
        now[0] += 50.0
        raise StoreUnavailable("connection reset")

    inner.moved = cut_off
    with pytest.raises(StoreUnavailable):
        breaker.wait("", 0, 60)
    inner.moved = lambda: None
    now[0] += 2 * SHORTEST
    assert breaker.get("a") is None


def test_the_watch_goes_through_and_closes_the_breaker() -> None:
    inner = Moody()
    breaker = Breaker(inner)
    inner.error = StoreUnavailable("gone")
    with pytest.raises(StoreUnavailable):
        breaker.get("a")
    inner.error = None
    breaker.wait("", 0, 0)
    assert breaker.get("a") is None


def test_one_caller_alone_finds_out_whether_a_store_that_hangs_is_back() -> None:
    inner, now = Moody(), [100.0]
    breaker = Breaker(inner, lambda: now[0])
    inner.error = StoreUnavailable("no answer")
    with pytest.raises(StoreUnavailable):
        breaker.get("a")
    now[0] += 2 * SHORTEST

    def meanwhile() -> None:
        inner.moved = lambda: None
        with pytest.raises(StoreUnavailable, match="away for"):
            breaker.get("b")

    inner.moved = meanwhile
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            breaker.get("a")
        now[0] += 2 * SHORTEST
    assert inner.calls == 3


def test_whoever_waits_for_the_store_hears_once_that_it_is_back() -> None:
    inner, heard = Moody(), list[str]()
    breaker = Breaker(inner, lambda: 100.0, back=lambda: heard.append(str(breaker.away())))
    breaker.get("a")
    assert heard == []
    inner.error = StoreUnavailable("nobody listens")
    with pytest.raises(StoreUnavailable):
        breaker.get("a")
    inner.error = None
    for _ in range(2):
        breaker.wait("a", 0, 0.0)
    assert heard == ["None"]


def test_a_no_is_an_answer() -> None:
    inner = Moody()
    breaker = Breaker(inner)
    inner.error = StoreForbidden("no")
    for _ in range(3):
        with pytest.raises(StoreForbidden):
            breaker.get("a")
    assert inner.calls == 3
    assert breaker.away() is None
