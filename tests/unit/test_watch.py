"""What a host knows of the others outlives a store that has forgotten them."""

import queue
import time
from collections.abc import Iterator

import pytest

from cluster import following
from cluster.watch import Watch
from ipam.tenancy import NameTaken
from store import records
from store.feed import Announcing
from store.ip import IPNetwork
from store.memory import MemoryStore
from tests.unit.ipam_hosts import WEB, Cluster, Host, backup, restore
from tests.unit.test_ipam_copies import copy_of


@pytest.fixture
def cluster() -> Cluster:
    return Cluster(Announcing(MemoryStore(), "any"))


@pytest.fixture
def doubts() -> queue.Queue[str]:
    return queue.Queue()


@pytest.fixture
def watch(cluster: Cluster, a: Host, doubts: queue.Queue[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Watch]:
    monkeypatch.setattr(following, "SHORTEST_PAUSE", 0.05)
    monkeypatch.setattr(following, "LONGEST_PAUSE", 0.05)
    watch = Watch(cluster.store, "a", [], a.tenancy.may_lose, lambda: doubts.put("doubt"))
    watch.start()
    yield watch
    watch.stop()
    cluster.store.close()


def known(watch: Watch) -> set[IPNetwork]:
    view = watch.view()
    return {records.block_of_key(key) for key in view.keys("blocks")} if view else set()


def await_known(watch: Watch, *hosts: Host) -> None:
    wanted = {block for host in hosts for block in host.journal.pool(WEB).blocks}
    deadline = time.monotonic() + 10
    while known(watch) != wanted:
        assert time.monotonic() < deadline, f"{known(watch)} is known, and not {wanted}"
        time.sleep(0.01)


def settle_epoch(*hosts: Host) -> None:
    for _ in range(5):
        for host in hosts:
            host.clock.now += host.tenancy.period
            host.tenancy.beat()


@pytest.mark.parametrize("how", ["emptied", "put back"])
def test_nobody_is_forgotten_until_all_have_told_the_store_again(
    cluster: Cluster, a: Host, b: Host, watch: Watch, how: str
) -> None:
    a.create()
    before = backup(cluster.store)
    b.create()
    settle_epoch(a, b)
    await_known(watch, a, b)
    restore(cluster.store, {} if how == "emptied" else before)
    a.tenancy.beat()  # now the store has what is this host's own
    for _ in range(50):
        time.sleep(0.01)
        await_known(watch, a, b)
    settle_epoch(a, b)
    c = cluster.host("c")
    c.create()
    await_known(watch, a, b, c)


def test_a_store_that_was_emptied_is_doubted_at_once_and_once(
    cluster: Cluster, a: Host, b: Host, watch: Watch, doubts: queue.Queue[str]
) -> None:
    """So that a beat tells it again before somebody takes it for a new cluster's."""
    a.create()
    b.create()
    await_known(watch, a, b)
    while not doubts.empty():  # at the start, before the first beat
        doubts.get()
    restore(cluster.store, {})
    assert doubts.get(timeout=5)
    with pytest.raises(queue.Empty):
        doubts.get(timeout=0.3)
    await_known(watch, a, b)


def test_what_a_host_gave_back_is_gone_at_once(cluster: Cluster, a: Host, b: Host, watch: Watch) -> None:
    a.create()
    pool = b.create()
    await_known(watch, a, b)
    b.remove(pool)
    await_known(watch, a)


def test_a_clone_of_a_host_that_lives_does_not_hear_where_the_others_are(
    cluster: Cluster, a: Host, b: Host, watch: Watch
) -> None:
    """So it greets nobody by the WireGuard key that both have. Whoever it greeted would send to the clone from then on
    what is for the original."""
    a.create()
    b.create()
    clone = copy_of(a)
    a.clock.now += a.tenancy.period
    a.tenancy.beat()
    at_clone = Watch(cluster.store, "a", [], clone.tenancy.may_lose)
    at_clone.start()
    try:
        for _ in range(3):
            time.sleep(0.2)
            assert at_clone.view() is None
            clone.clock.now += clone.tenancy.period
            with pytest.raises(NameTaken):
                clone.tenancy.beat()
    finally:
        at_clone.stop()
    await_known(watch, a, b)
