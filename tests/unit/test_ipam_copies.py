"""Two machines with one identity, as a cloned virtual machine and its original have: one of them gives nothing out."""

import pytest

from driver.membership import Membership
from ipam.copies import STILL
from ipam.model import PoolId
from ipam.tenancy import LeaseLapsed, NameTaken
from store import records
from store.interface import StoreUnavailable
from store.ip import IPAddress
from store.memory import MemoryStore
from tests.unit.ipam_faults import DIE_AFTER, DIE_BEFORE, LATE, LIVE, Dead, Fragile
from tests.unit.ipam_hosts import WEB, Cluster, Host, backup, restore
from tests.unit.test_membership import THERE, join

COPIED = "somebody else beats as host a with this machine's identity"


def copy_of(host: Host) -> Host:
    """Another machine with the same state directory, which has just been started."""
    disk = MemoryStore()
    restore(disk, backup(host.disk))
    copy = host.cluster.host(host.name, disk=disk)
    copy.clock.now = host.clock.now
    return copy


def period_passes(*hosts: Host) -> None:
    for host in hosts:
        host.clock.now += host.tenancy.period


def beats(host: Host, count: int) -> None:
    for _ in range(count):
        period_passes(host)
        host.tenancy.beat()


def given(host: Host, pool: PoolId) -> IPAddress:
    return host.give(pool).ip


def test_a_copy_of_a_host_that_lives_gives_nothing_and_tells_nothing(cluster: Cluster, a: Host) -> None:
    pool = a.create()
    copy = copy_of(a)
    beats(a, 1)
    for _ in range(2 * STILL):
        period_passes(a, copy)
        a.tenancy.beat()
        with pytest.raises(NameTaken, match=COPIED):
            copy.tenancy.beat()
        with pytest.raises(NameTaken, match=COPIED):
            copy.give(pool)
        for asks in (copy.tenancy.check, copy.tenancy.refuse_if_fenced):
            with pytest.raises(NameTaken, match=COPIED):
                asks()
    assert given(a, pool)


def test_of_two_that_start_at_once_the_second_to_beat_stops(cluster: Cluster, a: Host) -> None:
    pool = a.create()
    copy = copy_of(a)
    a.restart()
    copy.tenancy.beat()
    for _ in range(2):
        with pytest.raises(NameTaken, match=COPIED):
            a.tenancy.beat()
        with pytest.raises(NameTaken, match=COPIED):
            a.give(pool)
        period_passes(a, copy)
        copy.tenancy.beat()
    assert given(copy, pool)


def test_a_copy_that_starts_while_the_store_is_away_is_found_out_when_it_is_back(cluster: Cluster, a: Host) -> None:
    pool = a.create()
    copy = copy_of(a)
    beats(copy, 1)
    with pytest.raises(LeaseLapsed):
        a.tenancy.check()
    with pytest.raises(NameTaken, match=COPIED):
        a.tenancy.beat()
    with pytest.raises(NameTaken, match=COPIED):
        a.give(pool)


def test_when_the_copy_is_gone_the_other_goes_on_with_what_is_still_its_own(cluster: Cluster, a: Host, b: Host) -> None:
    pool = a.create()
    first = given(a, pool)
    copy = copy_of(a)
    beats(copy, 1)
    with pytest.raises(NameTaken):
        a.tenancy.beat()
    for _ in range(STILL - 1):
        period_passes(a)
        with pytest.raises(NameTaken):
            a.tenancy.beat()
    period_passes(a)
    a.tenancy.beat()
    assert given(a, pool) not in (first, given(b, b.create()))
    with pytest.raises(NameTaken):
        copy.tenancy.beat()


def test_time_in_which_nobody_could_beat_does_not_count(cluster: Cluster, a: Host) -> None:
    a.create()
    beats(copy_of(a), 1)
    with pytest.raises(NameTaken):
        a.tenancy.beat()
    for _ in range(2 * STILL):  # the store was away
        period_passes(a)
    with pytest.raises(NameTaken):
        a.tenancy.beat()


@pytest.mark.parametrize("end", [DIE_BEFORE, DIE_AFTER])
def test_beats_that_got_no_answer_are_not_taken_for_somebody_elses(cluster: Cluster, a: Host, end: str) -> None:
    pool = a.create()
    for _ in range(STILL):
        period_passes(a)
        a.line.fate = lambda: end
        with pytest.raises(Dead):
            a.tenancy.beat()
        a.line.fate = lambda: LIVE
        a.restart()
    period_passes(a)
    a.tenancy.beat()
    assert given(a, pool)


def test_a_full_disk_does_not_stop_the_beats_and_is_waited_for_after_a_restart(cluster: Cluster) -> None:
    disk = Fragile(MemoryStore(), lambda: LIVE, late=[])
    a = cluster.host("a", disk=disk)
    pool = a.create()
    disk.fate = lambda: LATE  # which here is never
    versions = set()
    for _ in range(STILL):
        period_passes(a)
        with pytest.raises(StoreUnavailable):
            a.tenancy.beat()
        versions.add(cluster.store.read(records.host_key("a")).version)
    assert len(versions) == STILL
    disk.fate = lambda: LIVE
    a.restart()
    for _ in range(STILL):
        with pytest.raises(NameTaken, match="while its disk was full"):
            a.tenancy.beat()
        period_passes(a)
    a.tenancy.beat()
    assert given(a, pool)


def test_a_copy_does_not_offer_what_its_original_borrowed(cluster: Cluster, a: Host, b: Host) -> None:
    pool = b.create()
    a.create()
    borrowed = a.give(pool, str(given(b, pool) + 1))
    copy = copy_of(a)
    beats(a, 1)
    copy.release(pool, borrowed)
    loan = cluster.store.get(records.borrowed_key(WEB, borrowed.ip))
    assert loan is not None
    assert b"true" not in loan.value  # idle


def membership(host: Host) -> Membership:
    return Membership(host.line, "a", "vxlan", str, fence=lambda: [host.tenancy.check()])


def test_a_copy_does_not_tell_where_it_is(cluster: Cluster, a: Host) -> None:
    a.create()
    copy = copy_of(a)
    beats(a, 1)
    spec = join(a.line, "a", WEB)
    before = backup(cluster.store)
    with pytest.raises(LeaseLapsed):
        membership(copy).publish(spec, THERE)
    assert backup(cluster.store) == before
    membership(a).publish(spec, THERE)
    assert backup(cluster.store) != before


def test_a_network_that_is_removed_on_a_copy_keeps_the_original_for_a_peer(cluster: Cluster, a: Host) -> None:
    a.create()
    copy = copy_of(a)
    beats(a, 1)
    join(a.line, "a", WEB)
    before = backup(cluster.store)
    with pytest.raises(LeaseLapsed):
        membership(copy).leave(WEB)
    assert backup(cluster.store) == before
    membership(a).leave(WEB)
    assert records.peer_key(WEB, "a") not in backup(cluster.store)
