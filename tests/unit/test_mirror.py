"""Who has which address, told to everybody a moment later: nothing of it is lost for good."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from ipam.mirror import Mirror
from store import records
from store.codec import decode
from store.interface import Change, Entry, Store, StoreUnavailable
from store.ip import IPAddress, IPNetwork
from tests.lab.commands import wait_until
from tests.unit.ipam_hosts import WEB, Cluster, Host, Line, restore

PAUSE = 0.01


@pytest.fixture
def a() -> Host:
    return Cluster().host("a")


@contextmanager
def mirror_of(host: Host) -> Iterator[Mirror]:
    mirror = Mirror(
        lambda _: host.line,
        host.name,
        lambda where: host.ipam.given(where[1]),
        lambda: [("", pool) for pool in host.journal.pools()],
        PAUSE,
    )
    mirror.start()
    try:
        yield mirror
    finally:
        mirror.stop()
        mirror._thread.join(5)
        assert not mirror._thread.is_alive()


def told(host: Host, pool: IPNetwork = WEB) -> set[IPAddress]:
    entries = host.cluster.store.read(records.leases_prefix(pool)).entries.values()
    return {address for entry in entries for address in decode(records.BlockLeases, entry.value).given}


def await_told(host: Host, *addresses: IPAddress) -> None:
    wait_until("the addresses to be told", lambda: told(host) == {*addresses}, timeout=5, every=0.01)


def test_what_was_given_while_the_store_was_away_is_told_by_the_next_process(a: Host) -> None:
    pool = a.create()
    a.line.cut = True
    given = a.give(pool).ip
    a.restart()
    a.line.cut = False
    with mirror_of(a):
        await_told(a, given)


def test_a_store_that_was_emptied_is_told_again(a: Host) -> None:
    pool = a.create()
    given = a.give(pool).ip
    with mirror_of(a) as mirror:
        await_told(a, given)
        restore(a.cluster.store, {})

        def verify() -> None:
            a.ipam.verify()
            mirror.forget()

        a.tenancy.on_loss(verify)
        a.clock.now += a.tenancy.period
        a.tenancy.beat()
        await_told(a, given)


class Counting(Line):
    refused = 0

    def way(self) -> Store:
        self.refused += self.cut
        return super().way()


def test_a_store_that_is_away_is_tried_until_it_is_back(a: Host) -> None:
    a.line = line = Counting(a.cluster, "a")
    a.restart()
    pool = a.create()
    with mirror_of(a) as mirror:
        line.cut = True
        given = a.give(pool).ip
        mirror.changed(("", WEB))
        wait_until("some tries", lambda: line.refused > 3, timeout=5)
        line.cut = False
        await_told(a, given)


@pytest.mark.parametrize("answer", [False, StoreUnavailable("no answer")])
def test_a_write_that_somebody_else_was_faster_with_is_repeated(a: Host, answer: bool | StoreUnavailable) -> None:
    pool, commit, first = a.create(), a.line.commit, [answer]
    given = a.give(pool).ip

    def commit_late(*changes: Change) -> bool:
        if first and changes[-1].key.startswith(records.LEASES):
            if isinstance(last := first.pop(), Exception):
                raise last
            return last
        return commit(*changes)

    a.line.commit = commit_late  # type: ignore[method-assign]
    with mirror_of(a):
        await_told(a, given)
    assert not first


def test_a_record_that_cannot_be_read_does_not_end_it(a: Host, caplog: pytest.LogCaptureFixture) -> None:
    pool, read = a.create(), a.line.get
    broken = [ValueError("broken")]

    def get(key: str) -> Entry | None:
        if broken:
            raise broken.pop()
        return read(key)

    a.line.get = get  # type: ignore[method-assign]
    with mirror_of(a) as mirror:
        wait_until("the failure", lambda: "the mirror failed" in caplog.text, timeout=5)
        given = a.give(pool).ip
        mirror.changed(("", WEB))
        await_told(a, given)
