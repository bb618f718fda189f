"""What is told of a topic reaches every reader at once, over every kind of store."""

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import pytest

from store import feed
from store.copy import Copy
from store.feed import TOPICS, Announcing, commits_of, log_of
from store.interface import ABSENT, Delete, Put, Store
from store.records import POOLS

PROMPT = 3  # seconds; who is not woken waits for 20


@pytest.mark.parametrize("topic", TOPICS)
def test_a_change_is_told_at_once_and_alone(store: Store, topic: str) -> None:
    writer, copy, key = Announcing(store, "h1"), Copy(store, "h2", topic), f"{topic}a/b/c"
    assert copy.next(5) == {}
    others = [Put(f"{other}x/y/z", b"{}", ABSENT) for other in TOPICS if other != topic]
    assert writer.commit(Put(key, b"{}", ABSENT), Put("hosts/h1", b"{}", ABSENT), *others)
    with ThreadPoolExecutor(1) as pool:
        assert copy.next(5) == {key: store.get(key)}
        waiting = pool.submit(lambda: (copy.next(20), time.monotonic()))
        time.sleep(0.2)
        entry = store.get(key)
        assert entry
        assert writer.commit(Delete(key, entry.version))
        began = time.monotonic()
        changes, heard = waiting.result(30)
    assert changes == {key: None}
    assert heard - began < PROMPT


def test_an_entry_and_the_keys_it_tells_of_have_one_version_unless_they_had_their_value_before(store: Store) -> None:
    writer, copy = Announcing(store, "h1"), Copy(store, "h2", POOLS)
    copy.next(5)
    assert writer.commit(Put("pools/a", b"1", ABSENT), Put("pools/b", b"1", ABSENT), Put("endpoints/a", b"1", ABSENT))
    first = {key: store.get(key) for key in ("pools/a", "pools/b")}
    assert {entry.version for entry in first.values() if entry} == {newest(store).version}
    assert copy.next(5) == first
    versions = {key: entry.version for key, entry in first.items() if entry}
    assert writer.commit(Put("pools/a", b"1", versions["pools/a"]), Put("pools/b", b"2", versions["pools/b"]))
    assert store.get("pools/a") == first["pools/a"]
    assert copy.next(5) == {"pools/b": store.get("pools/b")}
    assert copy.entries == store.read(POOLS).entries


def newest(store: Store) -> feed.Mark:
    return commits_of(store.read(log_of(POOLS)))[-1].mark


def test_many_hosts_that_write_at_once_all_succeed_and_all_hear(store: Store) -> None:
    hosts = [f"h{number}" for number in range(4)]
    copies = {host: Copy(store, host, POOLS) for host in hosts}

    def work(host: str) -> None:
        for number in range(15):
            assert Announcing(store, host).commit(Put(f"pools/a/blocks/{host}-{number}", b"{}", ABSENT))
            copies[host].next(5)

    with ThreadPoolExecutor(len(hosts)) as pool:
        list(pool.map(work, hosts))
    standing: Mapping[str, object] = {}
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and any(copy.entries != standing for copy in copies.values()):
        assert Announcing(store, "h0").commit(Put(f"pools/b/{time.monotonic_ns()}", b"{}", ABSENT))
        standing = store.read(POOLS).entries
        for copy in copies.values():
            copy.next(5)
    assert len(standing) >= 60
    assert all(copy.entries == standing for copy in copies.values())
    assert len(store.read(log_of(POOLS)).entries) <= 4 * feed.MOST
