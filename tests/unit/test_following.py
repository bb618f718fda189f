"""One topic is followed, and an outage of the store is none of the news but its end is."""

import queue
import threading
import time

import pytest

from cluster.following import Following
from store.copy import Changes
from store.feed import Announcing
from store.interface import ABSENT, Put, Snapshot, StoreUnavailable
from store.memory import MemoryStore
from store.records import NETWORKS
from tests.lab.commands import wait_until


class Flaky(MemoryStore):
    """Away for one question when told."""

    away = False

    def wait(self, prefix: str, after: int, timeout: float) -> Snapshot:
        snapshot = super().wait(prefix, after, timeout)
        if self.away:
            self.away = False
            raise StoreUnavailable("away")
        return snapshot


def test_changes_and_the_end_of_an_outage_are_told_and_the_last_answer_is_kept() -> None:
    store, told = Flaky(), queue.Queue[int]()
    watch = Following(store, "h1", NETWORKS, lambda _: told.put(len(watch.entries() or ())))
    writer = Announcing(store, "h1")
    watch.start()
    try:
        assert told.get(timeout=5) == 0
        writer.commit(Put("networks/web", b"1", ABSENT), Put("pools/x", b"1", ABSENT))
        assert told.get(timeout=5) == 1
        store.away = True
        writer.commit(Put("networks/db", b"1", ABSENT))
        assert told.get(timeout=5) == 2
        assert sorted(watch.entries() or ()) == ["networks/db", "networks/web"]
    finally:
        watch.stop()
        store.close()


def test_a_loop_comes_round_while_the_store_is_away_and_stands_still_while_a_listener_hangs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("cluster.following.SHORTEST_PAUSE", 0.01)
    monkeypatch.setattr("cluster.following.LONGEST_PAUSE", 0.01)
    store, told, goes_on = MemoryStore(), threading.Event(), threading.Event()

    def hang(_: Changes) -> None:
        told.set()
        goes_on.wait(10)

    following = Following(store, "h1", NETWORKS, hang)
    following.start()
    try:
        assert told.wait(5)
        time.sleep(0.3)
        assert following.idle() >= 0.3
        store.close()  # from now on it does not answer
        goes_on.set()
        wait_until("the loop to come round", lambda: following.idle() < 0.2, timeout=10)
        time.sleep(0.3)
        wait_until("the loop to come round again", lambda: following.idle() < 0.2 <= following.age(), timeout=10)
    finally:
        goes_on.set()
        following.stop()


def test_what_a_listener_failed_to_hear_is_told_again_with_what_came_since(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("cluster.following.LONGEST_PAUSE", 0.05)
    store, told = MemoryStore(), queue.Queue[set[str]]()

    def heard(changes: Changes) -> None:
        told.put(set(changes))
        if changes.keys() == {"networks/web"}:
            Announcing(store, "h1").commit(Put("networks/db", b"1", ABSENT))
            raise RuntimeError("a bug")

    following = Following(store, "h1", NETWORKS, heard)
    following.start()
    try:
        assert told.get(timeout=5) == set()
        Announcing(store, "h1").commit(Put("networks/web", b"1", ABSENT))
        assert told.get(timeout=5) == {"networks/web"}
        assert told.get(timeout=5) == {"networks/web", "networks/db"}
        assert "following the cluster failed" in caplog.text
    finally:
        following.stop()
        store.close()
