"""What holds for every store, so that a test against the memory one says something about Consul."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import pytest

from store.interface import ABSENT, MOST_OPERATIONS, Change, Check, Delete, Put, Snapshot, Store, StoreUnavailable
from store.update import update

T = TypeVar("T")
THREADS = 8
PROMPT = 3  # seconds within which a watcher must hear of a change; one that is not woken waits for more than ten
STALE = 1  # a version no key of a test has: every store spends it on something else


def at_once(work: Callable[[int], T], threads: int = THREADS) -> list[T]:
    """What `work` returned in each thread; all of them start together."""
    barrier = threading.Barrier(threads)

    def run(number: int) -> T:
        barrier.wait()
        return work(number)

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(run, range(threads)))


def create(store: Store, key: str, value: bytes = b"1") -> int:
    assert store.commit(Put(key, value, ABSENT))
    return version(store, key)


def version(store: Store, key: str) -> int:
    entry = store.get(key)
    return entry.version if entry else ABSENT


def values(store: Store, prefix: str = "") -> dict[str, bytes]:
    return {key: entry.value for key, entry in store.read(prefix).entries.items()}


class Watch:
    """A `wait` under way in a thread of its own."""

    def __init__(self, store: Store, prefix: str, after: int, timeout: float = 20) -> None:
        self._pool = ThreadPoolExecutor(1)
        self._result: Future[tuple[Snapshot, float]] = self._pool.submit(self._wait, store, prefix, after, timeout)
        time.sleep(0.1)  # it should be waiting by now, and must not mind if it is not

    @staticmethod
    def _wait(store: Store, prefix: str, after: int, timeout: float) -> tuple[Snapshot, float]:
        return store.wait(prefix, after, timeout), time.monotonic()

    def heard_promptly(self) -> Snapshot:
        """To be called when the commit has returned, from where the time counts."""
        changed_at = time.monotonic()
        snapshot, heard_at = self._result.result(timeout=30)
        self._pool.shutdown()
        assert heard_at - changed_at < PROMPT
        return snapshot


# One key


def test_a_key_nobody_wrote_is_absent(store: Store) -> None:
    assert store.get("never/written") is None


def test_what_was_put_is_there(store: Store) -> None:
    create(store, "hosts/a", b"one")
    entry = store.get("hosts/a")
    assert entry is not None
    assert entry.value == b"one"
    assert entry.version != ABSENT


@pytest.mark.parametrize("value", [b"", b"\0", bytes(range(256)), b"x" * 100_000])
def test_a_value_is_any_bytes(store: Store, value: bytes) -> None:
    create(store, "value", value)
    assert values(store) == {"value": value}


@pytest.mark.parametrize(
    "key",
    ["a/b/c", "10.5.0.0/16", "fd00::/64", "a b", "%2F", "a+b", "a?b#c", "a&b=c", 'quo"ted', "Straße/東京", ".hidden"],
)
def test_a_key_is_any_text(store: Store, key: str) -> None:
    at = create(store, key)
    assert values(store) == {key: b"1"}
    assert store.commit(Check(key, at))
    assert store.commit(Delete(key, at))
    assert store.get(key) is None


@pytest.mark.parametrize("key", ["", "/", "/a", "a/", "a//b", ".", "..", "a/../b", "a/./b", "a\nb", "a\0b", "\ud800"])
def test_a_key_that_no_url_can_carry_is_refused(store: Store, key: str) -> None:
    for use in (store.get, lambda key: store.commit(Put(key, b"", ABSENT))):
        with pytest.raises(ValueError, match="expected printable parts"):
            use(key)


@pytest.mark.parametrize("prefix", ["/", "//", "..", "../", "a/..", "a//", "a\n"])
def test_a_prefix_that_no_url_can_carry_is_refused(store: Store, prefix: str) -> None:
    for use in (store.read, lambda prefix: store.wait(prefix, 0, 0)):
        with pytest.raises(ValueError, match="expected printable parts"):
            use(prefix)


def test_only_one_of_many_hosts_creates_a_key(store: Store) -> None:
    for attempt in range(5):
        key = f"blocks/{attempt}"
        won = at_once(lambda host, key=key: store.commit(Put(key, b"%d" % host, ABSENT)))  # type: ignore[misc]
        assert won.count(True) == 1
        assert values(store, key) == {key: b"%d" % won.index(True)}


def test_only_one_of_many_hosts_changes_a_version(store: Store) -> None:
    at = create(store, "block")
    won = at_once(lambda host: store.commit(Put("block", b"host %d" % host, at)))
    assert won.count(True) == 1
    assert values(store) == {"block": b"host %d" % won.index(True)}


def test_a_put_at_another_version_changes_nothing(store: Store) -> None:
    first = create(store, "a", b"1")
    assert store.commit(Put("a", b"2", first))
    for expect in (first, ABSENT, STALE):
        assert not store.commit(Put("a", b"3", expect))
    assert not store.commit(Put("absent", b"3", first))
    assert values(store) == {"a": b"2"}


def test_versions_only_grow_also_over_a_deletion(store: Store) -> None:
    seen = [create(store, "a")]
    for value in (b"2", b"3"):
        assert store.commit(Put("a", value, seen[-1]))
        seen.append(version(store, "a"))
    assert store.commit(Delete("a", seen[-1]))
    seen.append(create(store, "a", b"4"))
    assert ABSENT not in seen
    assert seen == sorted(set(seen))


def test_writing_what_is_there_keeps_the_version(store: Store) -> None:
    at = create(store, "a", b"same")
    assert store.commit(Put("a", b"same", at))
    assert version(store, "a") == at


def test_a_delete_at_the_right_version_removes(store: Store) -> None:
    at = create(store, "a")
    assert store.commit(Delete("a", at))
    assert store.get("a") is None


@pytest.mark.parametrize("expect", [ABSENT, STALE])
def test_a_delete_at_another_version_changes_nothing(store: Store, expect: int) -> None:
    create(store, "a")
    assert not store.commit(Delete("a", expect))
    assert values(store) == {"a": b"1"}


@pytest.mark.parametrize("expect", [ABSENT, STALE])
def test_a_delete_of_a_key_already_gone_succeeds(store: Store, expect: int) -> None:
    assert store.commit(Delete("gone", expect))


# Many keys


def test_all_changes_of_a_commit_happen(store: Store) -> None:
    a, b, c = (create(store, key) for key in "abc")
    assert store.commit(
        Put("a", b"2", a), Delete("b", b), Check("c", c), Check("d", ABSENT), Put("e", b"new", ABSENT), Delete("f", 7)
    )
    assert values(store) == {"a": b"2", "c": b"1", "e": b"new"}


@pytest.mark.parametrize(
    "obstacle",
    [
        Put("a", b"2", STALE),
        Put("a", b"2", ABSENT),
        Put("absent", b"2", STALE),
        Delete("a", STALE),
        Check("a", STALE),
        Check("a", ABSENT),
        Check("absent", STALE),
    ],
    ids=repr,
)
@pytest.mark.parametrize("first", [True, False], ids=["first", "last"])
def test_one_change_that_does_not_hold_prevents_all(store: Store, obstacle: Put | Delete | Check, first: bool) -> None:
    create(store, "a")
    b = create(store, "b")
    others = [Put("b", b"2", b), Put("c", b"new", ABSENT)]
    assert not store.commit(*([obstacle, *others] if first else [*others, obstacle]))
    assert values(store) == {"a": b"1", "b": b"1"}


def test_a_commit_of_checks_alone_only_looks(store: Store) -> None:
    a = create(store, "a")
    before = store.read("").version
    assert store.commit(Check("a", a), Check("absent", ABSENT))
    assert not store.commit(Check("a", STALE))
    assert not store.commit(Check("a", a), Check("absent", STALE))
    assert store.read("").version == before


def test_a_commit_of_nothing_succeeds(store: Store) -> None:
    assert store.commit()


def test_a_commit_takes_its_full_measure_and_no_more(store: Store) -> None:
    changes = [Put(f"key/{number}", b"x" * 5_000, ABSENT) for number in range(MOST_OPERATIONS)]
    assert store.commit(*changes)
    assert len(store.read("key/").entries) == MOST_OPERATIONS
    with pytest.raises(ValueError, match="at most 64"):
        store.commit(*changes, Put("one/more", b"", ABSENT))
    with pytest.raises(ValueError, match="at most 524288"):
        store.commit(Put("large", b"x" * 400_000, ABSENT))
    with pytest.raises(ValueError, match="named twice"):
        store.commit(Put("twice", b"", ABSENT), Check("twice", ABSENT))
    assert store.commit(Put("large", b"x" * 390_000, ABSENT))


def test_a_prefix_is_a_beginning_of_the_text(store: Store) -> None:
    for key in ("net", "net/a", "net/b/c", "nets/d", "other", "net😀"):
        create(store, key)
    assert set(values(store, "net/")) == {"net/a", "net/b/c"}
    assert set(values(store, "net")) == {"net", "net/a", "net/b/c", "nets/d", "net😀"}
    assert set(values(store, "net/b")) == {"net/b/c"}
    assert len(values(store, "")) == 6
    assert values(store, "nothing/") == {}


def test_a_snapshot_carries_each_keys_version(store: Store) -> None:
    a, b = create(store, "a"), create(store, "b")
    snapshot = store.read("")
    assert {key: entry.version for key, entry in snapshot.entries.items()} == {"a": a, "b": b}
    assert snapshot.version >= max(a, b)


def test_update_loses_no_increment_and_makes_none_twice(store: Store) -> None:
    def increment(_: int) -> None:
        for _ in range(5):
            update(store, "count", lambda value: b"%d" % (int(value or b"0") + 1))

    at_once(increment)
    assert values(store) == {"count": b"%d" % (THREADS * 5)}


# Waiting


@pytest.mark.parametrize("change", ["create", "change", "delete", "delete beside others", "transaction"])
def test_a_change_under_the_prefix_ends_a_wait_at_once(store: Store, change: str) -> None:
    a, kept = create(store, "net/a"), create(store, "net/kept")
    if change == "delete":
        assert store.commit(Delete("net/kept", kept))
    changes: dict[str, list[Change]] = {
        "create": [Put("net/b", b"new", ABSENT)],
        "change": [Put("net/a", b"2", a)],
        "delete": [Delete("net/a", a)],
        "delete beside others": [Delete("net/a", a)],
        "transaction": [Put("elsewhere", b"", ABSENT), Delete("net/a", a), Put("net/b", b"new", ABSENT)],
    }
    before = store.read("net/")
    watch = Watch(store, "net/", before.version)
    assert store.commit(*changes[change])
    heard = watch.heard_promptly()
    assert heard == store.read("net/")
    assert heard.entries != before.entries
    assert heard.version > before.version


def test_the_first_key_of_an_empty_prefix_ends_a_wait(store: Store) -> None:
    watch = Watch(store, "net/", store.read("net/").version)
    create(store, "net/a")
    assert watch.heard_promptly().entries.keys() == {"net/a"}


def test_a_change_made_before_the_wait_ends_it_at_once(store: Store) -> None:
    before = store.read("net/")
    create(store, "net/a")
    assert Watch(store, "net/", before.version).heard_promptly().entries.keys() == {"net/a"}


def test_a_change_long_ago_ends_a_wait_at_once(memory_store: Store) -> None:
    """Further back than its log reaches; the SQLite store has a test of its own for that."""
    before = memory_store.read("net/").version
    create(memory_store, "net/a")
    for number in range(2_000):
        create(memory_store, f"elsewhere/{number}")
    assert Watch(memory_store, "net/", before).heard_promptly().entries.keys() == {"net/a"}


def test_many_watchers_all_hear(store: Store) -> None:
    create(store, "net/a")
    before = store.read("net/").version
    watches = [Watch(store, "net/", before) for _ in range(4)]
    create(store, "net/b")
    for watch in watches:
        assert "net/b" in watch.heard_promptly().entries


def test_a_wait_after_nothing_returns_at_once(store: Store) -> None:
    create(store, "net/a")
    assert Watch(store, "net/", 0).heard_promptly() == store.read("net/")


@pytest.mark.parametrize("timeout", [0, 0.3])
def test_a_wait_without_change_ends_in_time(store: Store, timeout: float) -> None:
    create(store, "net/a")
    before = store.read("net/")
    started = time.monotonic()
    assert store.wait("net/", before.version, timeout) == before
    assert timeout * 0.8 < time.monotonic() - started < timeout + PROMPT


@pytest.mark.parametrize("own", ["net/a", None], ids=["beside own keys", "empty"])
def test_writes_elsewhere_do_not_keep_a_watcher_busy(store: Store, own: str | None) -> None:
    if own:
        create(store, own)
    stop = threading.Event()

    def write_elsewhere(_: int) -> None:
        while not stop.wait(0.0005):  # quicker ones outrun what a store remembers, and wake whoever waits
            update(store, "elsewhere", lambda value: (value or b"")[-100:] + b"x%d" % time.monotonic_ns())

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write_elsewhere, 0)
        wakes, seen, end = 0, store.read("net/"), time.monotonic() + 0.7
        while time.monotonic() < end:
            seen = store.wait("net/", seen.version, end - time.monotonic())
            wakes += 1
        stop.set()
        writing.result()
    assert wakes <= 30
    assert seen.entries.keys() == ({own} if own else set())


def test_a_watcher_misses_nothing(store: Store) -> None:
    def write(_: int) -> None:
        for number in range(60):
            key = f"net/{number % 7}"
            entry = store.get(key)
            if entry and number % 3 == 0:
                assert store.commit(Delete(key, entry.version))
            else:
                assert store.commit(Put(key, b"%d" % number, entry.version if entry else ABSENT))
        create(store, "net/end")

    with ThreadPoolExecutor(1) as pool:
        seen = store.read("net/")
        writing = pool.submit(write, 0)
        deadline = time.monotonic() + 60
        while "net/end" not in seen.entries and time.monotonic() < deadline:
            later = store.wait("net/", seen.version, 10)
            assert all(
                later.entries[key].version >= entry.version
                for key, entry in seen.entries.items() & later.entries.items()
            )
            seen = later
        writing.result()
    assert seen == store.read("net/")


def test_closing_ends_a_wait_and_every_later_call(store: Store) -> None:
    create(store, "net/a")
    watch = Watch(store, "net/", store.read("net/").version, timeout=60)
    store.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        watch.heard_promptly()
    for call in (
        lambda: store.get("a"),
        lambda: store.read(""),
        lambda: store.wait("", 5, 1),
        lambda: store.commit(Put("a", b"", ABSENT)),
    ):
        with pytest.raises(StoreUnavailable, match="closed"):
            call()
    store.close()
