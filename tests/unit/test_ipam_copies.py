"""Two machines with one identity, as a cloned virtual machine and its original have: one of them gives nothing out."""

import pytest

from driver.backends.interface import Underlay
from driver.membership import Membership
from ipam.copies import LOST, STILL
from ipam.model import PoolId
from ipam.tenancy import LeaseLapsed, NameTaken
from store import records
from store.ip import IPAddress
from store.memory import MemoryStore
from tests.unit.ipam_faults import DIE_AFTER, LIVE, Dead
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
    beats(a, LOST + 1)
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


def test_of_two_that_start_at_once_one_stops_within_a_beat(cluster: Cluster, a: Host) -> None:
    pool = a.create()
    copy = copy_of(a)
    copy.tenancy.beat()
    with pytest.raises(NameTaken, match=COPIED):
        a.tenancy.beat()
    with pytest.raises(LeaseLapsed):
        a.tenancy.check()
    period_passes(a, copy)
    copy.tenancy.beat()
    with pytest.raises(NameTaken, match=COPIED):
        a.give(pool)
    assert given(copy, pool)


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


def test_beats_that_got_no_answer_are_not_taken_for_somebody_elses(cluster: Cluster, a: Host) -> None:
    pool = a.create()
    for _ in range(LOST):
        period_passes(a)
        a.line.fate = lambda: DIE_AFTER
        with pytest.raises(Dead):
            a.tenancy.beat()
        a.line.fate = lambda: LIVE
        a.restart()
    period_passes(a)
    a.tenancy.beat()
    assert given(a, pool)


def test_a_copy_does_not_offer_what_its_original_borrowed(cluster: Cluster, a: Host, b: Host) -> None:
    pool = b.create()
    a.create()
    borrowed = a.give(pool, str(given(b, pool) + 1))
    copy = copy_of(a)
    beats(a, LOST + 1)
    copy.release(pool, borrowed)
    loan = cluster.store.get(records.borrowed_key(WEB, borrowed.ip))
    assert loan is not None
    assert b"true" not in loan.value  # idle


def test_a_copy_does_not_tell_where_it_is(cluster: Cluster, a: Host) -> None:
    a.create()
    copy = copy_of(a)
    beats(a, LOST + 1)
    spec = join(a.line, "a", WEB)

    def publish(host: Host, where: Underlay) -> None:
        Membership(host.line, "a", "vxlan", str, fence=lambda: [host.tenancy.check()]).publish(spec, where)

    before = backup(cluster.store)
    with pytest.raises(LeaseLapsed):
        publish(copy, THERE)
    assert backup(cluster.store) == before
    publish(a, THERE)
    assert backup(cluster.store) != before
