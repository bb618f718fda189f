"""Whatever writers, compactors and readers do in between each other: every reader ends with what the store holds."""

import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count, islice
from typing import TypeVar
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from store import feed
from store.copy import Copy
from store.feed import MAX_CHANGES, TOPICS, Announcing, Follower, News, commits_of, log_of
from store.interface import ABSENT, MOST_OPERATIONS, Change, Check, Delete, Entry, Put, Snapshot, StoreUnavailable
from store.memory import MemoryStore
from store.records import ENDPOINTS, NETWORKS, POOLS

T = TypeVar("T")
HOSTS = ("h1", "h2", "h10")
KEYS = ("pools/a/blocks/1", "pools/x@b/holders/h2", "endpoints/a/h1/e1", "endpoints/a/h1/e2")
FOLLOWED = (POOLS, ENDPOINTS)
LOG = log_of(POOLS)


def told(news: News) -> dict[str, bytes | None]:
    """The last that was told of each key."""
    assert news.base is None
    return {key: value for commit in news.commits for key, value in commit.values.items()}


class World:
    """A store, and a script of what happens before each call to it that a follower makes."""

    def __init__(self) -> None:
        self.inner, self.script, self.number = MemoryStore(), deque[str](), 0
        self.saved: tuple[dict[str, Entry], int] = ({}, 1)
        self.readers = [Reader(Copy(Meddled(self), host, topic), topic) for host in HOSTS[:2] for topic in FOLLOWED]

    def happens(self, what: str) -> None:
        verb, _, number = what.partition(" ")
        acts: dict[str, Callable[[int], None]] = {
            "write": self.write,
            "read": lambda n: self.readers[n % 4].read(),
            "compact": self.compact,
            "save": lambda _: self.save(),
            "restore": lambda _: self.restore(*self.saved),
            "empty": lambda _: self.restore({}, self.inner._version + 1),
        }
        acts[verb](int(number or 0))

    def write(self, choice: int) -> None:
        """One or two keys, changed or removed, or written as they are, and so not changed."""
        self.number += choice % 5 != 0
        first, second = KEYS[choice % 4], KEYS[(choice // 4) % 4]
        changes: list[Change] = []
        for key in {first, second}:
            entry = self.inner.get(key)
            version = entry.version if entry else ABSENT
            changes.append(Delete(key, version) if choice % 3 == 0 else Put(key, b"%d" % self.number, version))
        assert Announcing(self.inner, HOSTS[choice % 3]).commit(*changes)

    def compact(self, choice: int) -> None:
        """In between whose calls others act, also others who compact."""
        topic = FOLLOWED[choice % 2]
        standing = commits_of(self.inner.read(log_of(topic)))
        with suppress(StoreUnavailable):
            Follower(Meddled(self), HOSTS[choice % 3], topic)._compact(standing)

    def save(self) -> None:
        self.saved = dict(self.inner._entries), self.inner._version

    def restore(self, entries: dict[str, Entry], version: int) -> None:
        """As `consul snapshot restore` does: the index may go back."""
        self.inner._entries, self.inner._version = dict(entries), version
        self.inner._log = deque([(version, "")])


@dataclass
class Meddled:
    world: World

    def _before(self) -> None:
        what = self.world.script.popleft() if self.world.script else "-"
        if what in ("fail", "lose"):
            raise StoreUnavailable("away")
        if what != "-":
            self.world.happens(what)

    def get(self, key: str) -> Entry | None:
        self._before()
        return self.world.inner.get(key)

    def read(self, prefix: str) -> Snapshot:
        self._before()
        return self.world.inner.read(prefix)

    def wait(self, prefix: str, after: int, timeout: float) -> Snapshot:
        self._before()
        return self.world.inner.wait(prefix, after, timeout)

    def commit(self, *changes: Change) -> bool:
        lost = self.world.script and self.world.script[0] == "lose"
        if lost:
            self.world.script.popleft()
        self._before()
        done = self.world.inner.commit(*changes)
        if lost:
            raise StoreUnavailable("the answer was lost")
        return done

    def close(self) -> None:
        self.world.inner.close()


@dataclass
class Reader:
    copy: Copy
    topic: str
    view: dict[str, Entry] = field(default_factory=dict)  # from the changes alone
    busy: bool = False

    def read(self) -> None:
        if self.busy:
            return  # one thread each
        self.busy = True
        try:
            changes = self.copy.next(0)
        except StoreUnavailable:
            return
        finally:
            self.busy = False
        for key, entry in changes.items():
            self.view.pop(key, None)
            if entry is not None:
                self.view[key] = entry


writes = st.integers(0, 47).map(lambda n: f"write {n}")
others = st.sampled_from(
    [*(f"read {n}" for n in range(4)), *(f"compact {n}" for n in range(6)), "save", "restore", "empty"]
)
acts = writes | writes | writes | others
meanwhile = st.just("-") | st.sampled_from(["fail", "lose"]) | acts


@settings(deadline=None, max_examples=300)
@given(st.lists(acts, max_size=30), st.lists(acts, max_size=30), st.lists(meanwhile, max_size=40))
def test_every_reader_ends_with_what_the_store_holds(before: list[str], then: list[str], script: list[str]) -> None:
    with patch.multiple("store.feed", MOST=2, LEAST=1, PAGES=2, PAGE_ENTRIES=6):  # short histories reach every branch
        world = World()
        for act in before:
            world.happens(act)
        world.script.extend(script)
        for act in then:
            world.happens(act)
        world.script.clear()
        for reader in world.readers:
            reader.read()
            assert reader.view == reader.copy.entries == world.inner.read(reader.topic).entries


def test_the_feed_stays_short_however_much_is_told() -> None:
    store = MemoryStore()
    writer, follower = Announcing(store, "h1"), Follower(store, "h1", POOLS)
    follower.follow(0)
    for number in range(3_000):
        assert writer.commit(Put("pools/a/blocks/1", b"%d" % number, store_version(store, "pools/a/blocks/1")))
        news = follower.follow(0)
        assert told(news) == {"pools/a/blocks/1": b"%d" % number}
    assert len(store.read(LOG).entries) <= feed.MOST + 1
    assert len(store.read("feed/pools/old/").entries) == feed.PAGES


def store_version(store: MemoryStore, key: str) -> int:
    entry = store.get(key)
    return entry.version if entry else ABSENT


def test_who_was_away_for_some_pages_reads_only_those() -> None:
    store = MemoryStore()
    writer, away, compactor = Announcing(store, "h1"), Follower(store, "h2", POOLS), Follower(store, "h1", POOLS)
    assert away.follow(0).base is not None
    compactor.follow(0)
    for number in range(100):
        assert writer.commit(Put(f"pools/a/blocks/{number}", b"1", ABSENT))
        compactor.follow(0)
    news = away.follow(0)
    assert len(told(news)) == 100


def test_who_was_away_for_longer_than_pages_are_kept_reads_everything() -> None:
    store = MemoryStore()
    writer, away, compactor = Announcing(store, "h1"), Follower(store, "h2", POOLS), Follower(store, "h1", POOLS)
    assert away.follow(0).base is not None
    compactor.follow(0)
    for number in range((feed.PAGES + 2) * feed.MOST):
        assert writer.commit(Put("pools/a/pool", b"%d" % number, store_version(store, "pools/a/pool")))
        compactor.follow(0)
    assert away.follow(0).base is not None


@pytest.mark.parametrize("late", ["head", "log"])
def test_a_compactor_that_is_overtaken_moves_nothing_twice(late: str) -> None:
    """Twice in the pages, an entry would hide those in between from a reader that looks for it."""

    class Overtaken(MemoryStore):
        """Before the compactor's question about the head, or the one about the log, others write and compact."""

        armed = False

        def get(self, key: str) -> Entry | None:
            return self.after("head", lambda: MemoryStore.get(self, key))

        def read(self, prefix: str) -> Snapshot:
            return self.after("log", lambda: MemoryStore.read(self, prefix))

        def after(self, what: str, answer: Callable[[], T]) -> T:
            if self.armed and late == what:
                self.armed = False
                write(8)
                other.follow(0)
            return answer()

    store = Overtaken()
    other, slow, reader = Follower(store, "h1", POOLS), Follower(store, "h1", POOLS), Follower(store, "h2", POOLS)
    total = count()

    def write(some: int) -> None:
        for number in islice(total, some):
            assert Announcing(store, "h1").commit(Put(f"pools/a/blocks/{number}", b"1", ABSENT))

    other.follow(0)
    write(6)
    assert reader.follow(0).base is not None
    write(8)
    store.armed = True
    slow._compact(commits_of(MemoryStore.read(store, LOG)))
    assert told(reader.follow(0)).keys() == {f"pools/a/blocks/{number}" for number in range(6, 22)}


def test_news_does_not_wait_for_the_log_to_be_compacted() -> None:
    class Counting(MemoryStore):
        calls = 0

        def get(self, key: str) -> Entry | None:
            self.calls += 1
            return super().get(key)

        def read(self, prefix: str) -> Snapshot:
            self.calls += 1
            return super().read(prefix)

    store = Counting()
    writer, follower = Announcing(store, "h1"), Follower(store, "h1", POOLS)
    follower.follow(0)
    for number in range(feed.MOST + 1):
        assert writer.commit(Put(f"pools/a/blocks/{number}", b"1", ABSENT))
    store.calls = 0
    assert len(follower.follow(0).commits) == feed.MOST + 1
    assert store.calls == 0
    follower.follow(0)
    assert len(commits_of(store.read(LOG))) == feed.LEAST


def test_a_compactor_writes_no_page_into_a_store_that_was_emptied_meanwhile() -> None:
    """The page would hold the anchors of readers, who would then miss that everything is gone."""

    class Emptied(MemoryStore):
        def commit(self, *changes: Change) -> bool:
            if any(change.key == "feed/pools/head" for change in changes):
                gone = [Delete(key, entry.version) for key, entry in self.read("").entries.items()]
                assert super().commit(*gone)
            return super().commit(*changes)

    store = Emptied()
    writer, compactor, reader = Announcing(store, "h1"), Follower(store, "h1", POOLS), Copy(store, "h2", POOLS)
    for number in range(feed.MOST + 1):
        assert writer.commit(Put(f"pools/a/blocks/{number}", b"1", ABSENT))
        if number < feed.LEAST:
            reader.next(0)
            compactor.follow(0)
    compactor.follow(0)
    compactor.follow(0)
    assert store.read(POOLS).entries == {}
    assert reader.next(0).keys() == {f"pools/a/blocks/{number}" for number in range(feed.LEAST)}
    assert reader.entries == {}


def test_after_a_burst_the_log_is_short_again() -> None:
    store = MemoryStore()
    followers = {host: Follower(store, host, POOLS) for host in HOSTS}
    for number in range(500):
        assert Announcing(store, HOSTS[number % 3]).commit(Put(f"pools/a/blocks/{number}", b"1", ABSENT))
    for _ in range(20):
        for follower in followers.values():
            follower.follow(0)
    assert len(store.read(LOG).entries) <= feed.MOST
    copy = Copy(store, "new", POOLS)
    assert copy.next(0) == copy.entries == store.read(POOLS).entries


def test_only_topics_are_told_each_alone_and_only_what_was_written() -> None:
    store = MemoryStore()
    writer = Announcing(store, "h1")
    assert writer.commit(Put("hosts/h1", b"{}", ABSENT))
    assert writer.commit(Check("pools/a/pool", ABSENT))
    assert not writer.commit(Put("pools/a/pool", b"{}", 7))
    assert store.read("feed/").entries == {}
    net = Put("networks/n", b"{}", ABSENT)
    assert writer.commit(Put("pools/a/pool", bytes(range(256)), ABSENT), Check("hosts/h2", ABSENT), net)
    assert store.read(log_of(ENDPOINTS)).entries == {}
    for topic, values in ((POOLS, {"pools/a/pool": bytes(range(256))}), (NETWORKS, {"networks/n": b"{}"})):
        (entry,) = store.read(log_of(topic)).entries.values()
        assert feed.decode(entry.value) == values


def test_a_commit_of_the_size_that_callers_may_use_has_room_for_every_topic() -> None:
    keys = [f"{TOPICS[number % len(TOPICS)]}a/b/{number}" for number in range(MAX_CHANGES)]
    store = MemoryStore()
    assert Announcing(store, "h1").commit(*(Put(key, b"", ABSENT) for key in keys))
    assert len(store.read("").entries) == MOST_OPERATIONS


@pytest.mark.parametrize("away", [LOG, POOLS])
def test_a_store_that_goes_away_in_between_loses_nothing(away: str) -> None:
    class Half(MemoryStore):
        """Answers nothing about one prefix."""

        gone = False

        def read(self, prefix: str) -> Snapshot:
            if self.gone and prefix == away:
                raise StoreUnavailable("away")
            return super().read(prefix)

    store = Half()
    copy = Copy(store, "h1", POOLS)
    assert copy.next(0) == {}
    assert Announcing(store, "h2").commit(Put("pools/a/pool", b"1", ABSENT))
    store.commit(Delete(f"{LOG}first", store_version(store, f"{LOG}first")))
    store.gone = True
    with pytest.raises(StoreUnavailable):
        copy.next(0)
    assert copy.entries == {}
    store.gone = False
    assert copy.next(0) == store.read(POOLS).entries


# the copy


def test_what_nobody_told_of_is_found_by_comparing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("store.copy.COMPARE", 0.1)
    store = MemoryStore()
    copy = Copy(store, "h1", POOLS)
    copy.next(0)
    store.commit(Put("pools/a/pool", b"1", ABSENT))
    began = time.monotonic()
    changes = copy.next(5) or copy.next(5)
    assert changes == store.read(POOLS).entries
    assert time.monotonic() - began < 1


def test_an_answer_that_is_not_believed_changes_nothing_until_it_is() -> None:
    store, sure = MemoryStore(), threading.Event()
    writer, copy = Announcing(store, "h1"), Copy(store, "h2", POOLS, lambda entries: bool(entries) or sure.is_set())
    assert writer.commit(Put("pools/a/pool", b"1", ABSENT))
    before = copy.next(0)
    store.commit(*(Delete(key, entry.version) for key, entry in store.read("").entries.items()))
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            copy.next(0)
        assert copy.entries == before
    sure.set()
    assert copy.next(0) == {"pools/a/pool": None}
    assert copy.entries == {}


def test_the_last_record_that_goes_needs_no_belief() -> None:
    """It was told, by a log that could be read."""
    store = MemoryStore()
    writer, copy = Announcing(store, "h1"), Copy(store, "h2", POOLS, bool)
    assert writer.commit(Put("pools/a/pool", b"1", ABSENT))
    copy.next(0)
    assert writer.commit(Delete("pools/a/pool", store_version(store, "pools/a/pool")))
    assert copy.next(0) == {"pools/a/pool": None}


def test_an_entry_that_cannot_be_read_costs_a_comparison_and_no_change() -> None:
    store = MemoryStore()
    copy = Copy(store, "h1", POOLS)
    copy.next(0)
    store.commit(Put(f"{LOG}junk", b"not an entry", ABSENT))
    assert Announcing(store, "h2").commit(Put("pools/a/pool", b"1", ABSENT))
    with pytest.raises(ValueError, match="Expecting value"):
        copy.next(0)
    assert copy.next(0) == store.read(POOLS).entries
