"""A host that lost a block, or a loan, while its containers run on: what they have is given to nobody here, whatever
comes back, and a container that ends takes no other's address along."""

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from ipaddress import ip_address, ip_network

import pytest

from cluster.reclaim import give_up
from ipam.errors import AddressTaken, PoolConflict, PoolExhausted
from ipam.journal import Journal
from ipam.loans import IDLE_TIME
from ipam.model import PoolId
from ipam.pool_journal import ENDPOINT
from store import records
from store.interface import Store, StoreUnavailable
from store.ip import IPAddress, IPInterface
from store.memory import MemoryStore
from tests.unit.ipam_hosts import TTL, WEB, Cluster, Hanging, Host, Line, restore


def lose_the_lease(host: Host) -> None:
    entry = host.cluster.store.get(records.host_key(host.name))
    assert entry is not None
    assert give_up(host.cluster.store, host.name, entry.version)


def lose_the_block(host: Host, other: Host, pool: PoolId) -> IPInterface:
    """Returns an address in it that a container here has."""
    worn = host.give(pool)
    beside = next(address for address in next(iter(host.journal.pool(WEB).blocks)) if address != worn.ip)
    host.line.cut = True
    lose_the_lease(host)
    other.create()
    other.give(pool, str(beside + 1))
    host.line.cut = False
    host.tenancy.beat()
    assert host.journal.pool(WEB).block_of(worn.ip) is None
    return worn


def given_by(host: Host, pool: PoolId, most: int) -> set[IPAddress]:
    return {host.give(pool).ip for _ in range(most)}


@pytest.mark.parametrize("restarted", [False, True])
def test_an_address_of_a_block_that_comes_back_is_still_its_containers(a: Host, b: Host, restarted: bool) -> None:
    pool = a.create()
    worn = lose_the_block(a, b, pool)
    b.remove(pool)
    if restarted:
        a.restart()
    assert worn.ip not in given_by(a, pool, 130)
    assert a.journal.pool(WEB).block_of(worn.ip) is not None
    with pytest.raises(AddressTaken, match="is already in use on this host"):
        a.give(pool, str(worn.ip))
    a.settle()
    assert a.journal.pool(WEB).leases[worn.ip].kind == ENDPOINT
    a.release(pool, worn)
    assert not a.journal.pool(WEB).is_given(worn.ip)


def test_it_is_not_borrowed_for_another_container_of_the_host_that_lost_it(a: Host, b: Host) -> None:
    pool = a.create()
    worn = lose_the_block(a, b, pool)
    with pytest.raises(AddressTaken, match="is already in use on this host"):
        a.give(pool, str(worn.ip))
    a.release(pool, worn)
    assert a.give(pool, str(worn.ip)) == worn


def test_a_borrowed_address_whose_loan_was_lost_is_borrowed_by_nobody_here(cluster: Cluster, a: Host, b: Host) -> None:
    pool = a.create()
    b.create()
    [block] = b.journal.pool(WEB).blocks
    worn = a.give(pool, str(block[9]))
    a.line.cut = True
    lose_the_lease(a)
    b.settle()
    a.line.cut = False
    a.tenancy.beat()
    with pytest.raises(AddressTaken, match="is already in use on this host"):
        a.give(pool, str(worn.ip))
    a.release(pool, worn)
    a.settle()
    assert b.give(pool, str(worn.ip)) == worn


@pytest.mark.parametrize("which_ends_first", ["here", "there"])
@pytest.mark.parametrize("forgetful", [False, True])
def test_an_address_that_others_lent_meanwhile_is_given_to_nobody_here_until_both_containers_ended(
    cluster: Cluster, a: Host, b: Host, which_ends_first: str, forgetful: bool
) -> None:
    """The block comes back, and the address in it stays lent: two containers have it, one of them here."""
    pool, other = a.create(), cluster.host("c")
    worn = lose_the_block(a, b, pool)
    other.create()
    other.give(pool, str(worn.ip))
    b.remove(pool)
    assert worn.ip not in given_by(a, pool, 130)
    assert a.journal.pool(WEB).block_of(worn.ip) is not None
    if forgetful:
        forget(a, other)
    ends, goes_on = (a, other) if which_ends_first == "here" else (other, a)
    for host in (ends, goes_on):
        assert worn.ip not in {*given_by(a, pool, 70), *given_by(other, pool, 70)}
        for each in (a, other):
            with pytest.raises(AddressTaken):
                each.give(pool, str(worn.ip))
        host.release(pool, worn)
        for each in (other, a):
            each.clock.now += IDLE_TIME + 1
            each.tenancy.beat()
            each.settle()
    assert a.give(pool, str(worn.ip)) == worn


def forget(*hosts: Host) -> None:
    """The store is emptied, and told again by these."""
    restore(hosts[0].cluster.store, {})
    for _ in range(5):
        for host in hosts:
            host.tenancy.beat()
            host.settle()
            host.clock.now += host.tenancy.period


def test_an_address_that_became_a_reserved_one_meanwhile_is_its_containers_until_that_ends(a: Host, b: Host) -> None:
    pool = a.create()
    worn = lose_the_block(a, b, pool)
    b.give(pool, str(worn.ip))
    b.reserve(WEB, str(worn.ip))
    b.remove(pool)
    a.ipam._holdings.take_block(pool, worn.ip)
    journal = a.journal.pool(WEB)
    for is_worn in (True, False):
        a.settle()
        assert journal.is_reserved(worn.ip)
        assert journal.is_given(worn.ip) == is_worn
        a.release(pool, worn)


def test_what_the_container_of_a_lost_address_leaves_is_nothing(cluster: Cluster, a: Host, b: Host) -> None:
    pool = a.create()
    worn = lose_the_block(a, b, pool)
    a.remove(pool)
    b.release(pool, worn)
    b.remove(pool)
    assert a.ipam.leases() == {}
    assert cluster.held_keys() == []


# --- a pool of Docker's own, which Docker goes on with


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("dockers_too", [False, True])
def test_a_pool_of_dockers_own_that_others_took_meanwhile_is_not_joined_and_is_taken_back_when_it_is_free(
    a: Host, b: Host, dockers_too: bool, restarted: bool
) -> None:
    """As one of many hosts, this one would have blocks in a pool of which its Docker gives every address."""
    pool, gateway = ip_network("172.18.0.0/16"), ip_address("172.18.0.1")

    def keep_house() -> None:
        if restarted:
            a.restart()
        a.settle()
        a.ipam.keep_in_hand()

    assert a.ipam.adopt(pool, gateway) is None
    a.line.cut = True
    lose_the_lease(a)
    others = PoolId(pool)
    if dockers_too:
        assert b.ipam.adopt(pool, gateway) is None
    else:
        b.create(pool)
    a.line.cut = False
    a.tenancy.beat()
    before = a.cluster.held_keys()
    keep_house()
    assert a.cluster.held_keys() == before
    assert not a.ipam.keeps(pool)
    with pytest.raises(PoolConflict, match="belongs to others by now"):
        a.ipam.insist(pool)
    with pytest.raises(PoolConflict, match="Docker's own IPAM on this host"):
        a.create(pool)
    b.ipam.release_pool(others)
    keep_house()
    a.ipam.insist(pool)
    with pytest.raises(PoolConflict, match="Docker's own IPAM on host a"):
        b.create(pool)


def test_of_a_pool_of_dockers_own_that_was_lost_nothing_is_left_when_its_network_is_gone(a: Host, b: Host) -> None:
    pool, gateway = ip_network("172.18.0.0/16"), ip_address("172.18.0.1")
    assert a.ipam.adopt(pool, gateway) is None
    a.line.cut = True
    lose_the_lease(a)
    others = b.create(pool, gateway="172.18.0.9")
    a.line.cut = False
    a.tenancy.beat()
    a.line.cut = True
    a.ipam.disown(pool)
    a.restart()
    a.line.cut = False
    assert a.give(a.create(pool)).ip in pool
    assert a.journal.pool(pool).gateway == ip_address("172.18.0.9")
    b.remove(others)


# --- a host whose pool has no block for it


def test_a_host_without_a_block_takes_one_as_soon_as_there_is_one(cluster: Cluster, a: Host, b: Host) -> None:
    tiny = ip_network("10.9.0.0/28")
    pool = b.create(tiny)
    with suppress(PoolExhausted):
        while True:
            b.give(pool)
    a.create(tiny)
    assert not a.journal.pool(tiny).blocks
    b.remove(pool)
    a.ipam.keep_in_hand()
    assert a.journal.pool(tiny).blocks
    a.line.cut = True
    assert a.give(pool)


# --- the store hangs


def test_no_request_from_a_block_of_ours_finds_out_whether_a_store_that_hangs_is_back(a: Host) -> None:
    pool = a.create()
    asked = list[str]()

    class Hangs(Line):
        def way(self) -> Store:
            asked.append(threading.current_thread().name)
            raise StoreUnavailable("no answer")

    a.line, a.away = Hangs(a.cluster, "a"), (100.0, "no answer")
    a.restart()
    a.clock.now += 4 * a.tenancy.period
    assert a.give(pool)
    a.clock.now += TTL
    with pytest.raises(StoreUnavailable, match="no answer"):
        a.give(pool)
    assert asked == []


def test_a_borrowed_address_that_comes_back_while_the_store_hangs_keeps_nobody_waiting(a: Host, b: Host) -> None:
    pool = a.create()
    b.create()
    [block] = b.journal.pool(WEB).blocks
    borrowed = a.give(pool, str(block[9]))
    a.line = line = Hanging(a.cluster, "a")
    a.restart()
    with ThreadPoolExecutor(1) as threads:
        released = threads.submit(a.release, pool, borrowed)
        assert line.asked.wait(10)
        assert a.give(pool)
        assert not released.done()
        line.over.set()
        released.result(10)
    assert a.give(pool, str(borrowed.ip)) == borrowed  # not returned yet


# --- threads


def test_of_a_pool_that_is_opened_by_two_threads_there_is_one_journal() -> None:
    together = threading.Barrier(2)

    class Meeting(MemoryStore):
        def read(self, prefix: str):  # type: ignore[no-untyped-def]
            if prefix.startswith("blocks/10"):
                with suppress(threading.BrokenBarrierError):
                    together.wait(0.2)
            return super().read(prefix)

    journal = Journal(Meeting(), lambda: 0.0)
    with ThreadPoolExecutor(2) as threads:
        first, second = threads.map(journal.pool, [WEB, WEB])
    assert first is second


def test_nobody_opens_a_journal_to_answer_a_wish(a: Host) -> None:
    a.ipam.answer_wishes(WEB)
    assert a.journal.pools() == []


def test_pools_are_held_and_let_go_while_others_ask_which_are_held() -> None:
    journal, over = Journal(MemoryStore(), lambda: 0.0), threading.Event()
    ids = [PoolId(ip_network(f"10.{number}.0.0/16")) for number in range(200)]

    def come_and_go() -> None:
        while not over.is_set():
            for pool_id in ids:
                journal.hold(pool_id)
            for pool_id in ids:
                journal.let_go(pool_id)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    with ThreadPoolExecutor(1) as threads:
        busy = threads.submit(come_and_go)
        try:
            for _ in range(2000):
                assert set(journal.held()) <= {*ids}
        finally:
            over.set()
            sys.setswitchinterval(before)
        busy.result(10)


def test_a_store_of_this_host_alone_is_known_at_once_after_a_restart(cluster: Cluster) -> None:
    a = Host("a", cluster, alone=True)
    a.create()
    a.restart()
    assert a.create(ip_network("10.9.0.0/24"))
    assert ip_address("10.9.0.1") == a.journal.pool(ip_network("10.9.0.0/24")).gateway
