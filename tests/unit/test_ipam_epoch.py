"""A store that was emptied or restored from a backup: nothing is given twice, and everything is told again."""

from collections.abc import Callable
from contextlib import suppress
from ipaddress import ip_address, ip_network
from itertools import permutations

import pytest

from ipam.epoch import Memory, Place, Watched, has_forgotten, has_missed, watched_on
from ipam.errors import AddressTaken
from ipam.loans import IDLE_TIME
from ipam.model import PoolId
from ipam.pool_journal import LOST
from ipam.tenancy import LeaseLapsed, NameTaken, StoreForgot
from store import records
from store.codec import decode, encode
from store.interface import ABSENT, Put, StoreUnavailable
from store.ip import IPNetwork
from store.memory import MemoryStore
from tests.unit.ipam_hosts import HERE, TTL, WEB, Cluster, Host, backup, restore
from tests.unit.test_ipam_meanwhile import Meanwhile, lose_the_lease

SMALL = ip_network("10.9.0.0/29")  # blocks of two addresses
LAN = ip_network("10.7.0.0/24")


def empty(cluster: Cluster) -> None:
    restore(cluster.store, {})


def epoch(cluster: Cluster) -> records.Epoch | None:
    entry = cluster.store.get(records.EPOCH)
    return decode(records.Epoch, entry.value) if entry else None


def periods_pass(*hosts: Host, count: int = 4) -> None:
    for _ in range(count):
        for host in hosts:
            host.clock.now += host.tenancy.period
        for host in hosts:
            host.tenancy.beat()


def owners(cluster: Cluster, pool: IPNetwork) -> dict[IPNetwork, str]:
    entries = cluster.store.read(records.blocks_prefix(pool)).entries
    return {records.block_of_key(key): decode(records.Block, entry.value).host for key, entry in entries.items()}


# what gives a forgetful store away

MEMORY = Memory("e", 3, beat=5, gone=1, cluster="c")
EPOCH = records.Epoch("e", 3, settled=True, gone=1)


@pytest.mark.parametrize(
    ("memory", "host", "standing", "forgot"),
    [
        (MEMORY, records.Host("i", beat=5), EPOCH, False),
        (MEMORY, records.Host("i", beat=6), EPOCH, False),  # an answer was lost
        (MEMORY, records.Host("i", beat=4), EPOCH, True),
        (MEMORY, None, EPOCH, True),
        (MEMORY, None, records.Epoch("e", 3, settled=True, gone=2), False),  # given up
        (MEMORY, records.Host("i", beat=5), records.Epoch("e", 3, settled=True, gone=0), True),
        (MEMORY, records.Host("i", beat=5), records.Epoch("f", 4, settled=True, gone=1), True),
        (MEMORY, records.Host("i", beat=5), None, True),
        (None, None, None, False),
        (None, None, EPOCH, False),
    ],
)
def test_a_store_has_forgotten_when_it_shows_less_than_at_the_last_beat(
    memory: Memory | None, host: records.Host | None, standing: records.Epoch | None, forgot: bool
) -> None:
    assert has_forgotten(memory, host, standing) == forgot


@pytest.mark.parametrize(
    ("standing", "missed"),
    [
        (records.Epoch("f", 4, settled=False, cluster="c"), False),
        (records.Epoch("f", 4, settled=True, cluster="c"), True),
        (records.Epoch("g", 5, settled=False, cluster="c"), True),  # that between the two may have been settled
        (records.Epoch("f", 4, settled=False, cluster="d"), True),  # the remembered one began in an emptied store
    ],
)
def test_an_epoch_in_which_what_a_host_held_may_be_others_is_missed_by_it(
    standing: records.Epoch, missed: bool
) -> None:
    assert has_missed(MEMORY, standing) == missed


def test_only_time_that_was_watched_without_a_gap_settles_an_epoch() -> None:
    unsettled = records.Epoch("e", 3, settled=False)
    first = watched_on(None, unsettled, 100.0, 10.0)
    assert first == Watched("e", 100.0, 100.0)
    assert watched_on(first, unsettled, 115.0, 10.0) == Watched("e", 100.0, 115.0)
    assert watched_on(first, unsettled, 116.0, 10.0) == Watched("e", 116.0, 116.0)  # perhaps nobody could look
    assert watched_on(first, records.Epoch("f", 4, settled=False), 105.0, 10.0) == Watched("f", 105.0, 105.0)
    assert watched_on(first, records.Epoch("e", 3, settled=True), 105.0, 10.0) is None


# what hosts do


def test_a_fresh_cluster_waits_for_nothing(cluster: Cluster, a: Host, b: Host) -> None:
    assert a.give(a.create())
    assert b.give(b.create())
    standing = epoch(cluster)
    assert standing
    assert standing.settled


def test_no_host_takes_a_block_of_another_after_the_store_was_emptied(cluster: Cluster, a: Host, b: Host) -> None:
    pool = a.create()
    b.create()
    theirs = b.give(pool)
    before = owners(cluster, WEB)
    empty(cluster)
    with pytest.raises(LeaseLapsed):
        a.ipam._holdings.take_block(pool)  # not even before a beat has found out
    a.tenancy.beat()
    with pytest.raises(StoreForgot, match="the hosts are telling it again, which takes 240 s at most"):
        a.give(pool, str(theirs.ip))
    assert a.give(pool)  # of a block at hand
    periods_pass(a, b)
    assert owners(cluster, WEB) == before
    a.ipam._holdings.take_block(pool)
    assert len(owners(cluster, WEB)) == 3


def test_no_network_is_made_until_all_pools_are_told_again(cluster: Cluster, a: Host, b: Host) -> None:
    a.create()
    b.create(LAN)
    empty(cluster)
    a.tenancy.beat()
    for act in (lambda: a.create(LAN), lambda: a.create(None), lambda: adopt(a)):
        with pytest.raises(StoreForgot):
            act()
    periods_pass(a, b)
    with pytest.raises(Exception, match=r"pool 10\.7\.0\.0/25 overlaps 10\.7\.0\.0/24"):
        a.create(ip_network("10.7.0.0/25"))


def adopt(host: Host, pool: IPNetwork = LAN) -> str | None:
    return host.ipam.adopt(pool, pool[1])


@pytest.mark.parametrize("act", [lambda a: a.create(SMALL), lambda a: a.create(None), lambda a: adopt(a, SMALL)])
def test_no_pool_is_made_in_a_store_that_was_emptied_between_the_look_and_the_claim(
    cluster: Cluster, a: Host, b: Host, act: Callable[[Host], object]
) -> None:
    """Another host would find its own pool taken when it tells it again, and lose it."""
    a.tenancy.beat()
    pools = [b.create(LAN), b.create(None)]

    def forget() -> None:
        empty(cluster)
        a.tenancy.beat()

    a.line = Meanwhile(a.line, {0: forget})  # type: ignore[assignment]
    a.restart()
    with pytest.raises(StoreForgot):
        act(a)
    assert cluster.held_keys() == []
    periods_pass(a, b)
    assert all(b.journal.pool(pool.pool).blocks for pool in pools)


def test_a_new_host_takes_nothing_while_the_others_tell_again(cluster: Cluster, a: Host) -> None:
    a.create()
    empty(cluster)
    a.tenancy.beat()
    new = cluster.host("new")
    with pytest.raises(StoreForgot):
        new.create()
    periods_pass(a, new)
    new.create()


@pytest.mark.parametrize("order", list(permutations(("a", "b", "new"))))
def test_who_takes_an_emptied_store_for_a_new_cluster_yields_to_who_was_there_before(
    cluster: Cluster, a: Host, b: Host, order: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    """It has given out another host's address by then. Whichever beat comes first, the other host keeps its own."""
    pool = a.create()
    b.create()
    theirs, before = b.give(pool), owners(cluster, WEB)
    empty(cluster)
    new = cluster.host("new")
    new.create()
    assert new.give(pool, str(theirs.ip)) == theirs
    hosts = {"a": a, "b": b, "new": new}
    for _ in range(5):
        for host in (hosts[name] for name in order):
            host.clock.now += host.tenancy.period
            with suppress(StoreForgot):
                host.tenancy.beat()
    assert b.journal.pool(WEB).is_given(theirs.ip)
    assert before.items() <= owners(cluster, WEB).items()
    assert new.journal.pool(WEB).leases[theirs.ip].kind == LOST
    named = [record for record in caplog.records if getattr(record, "address", None) == theirs.ip]
    assert [record.message for record in named] == ["address in use here may be in use elsewhere, too"]
    assert len({host.give(pool) for host in (a, b, new)} | {theirs}) == 4


def test_a_borrowed_address_is_not_taken_back_for_being_forgotten(cluster: Cluster, a: Host, b: Host) -> None:
    pool = a.create()
    b.create()
    address = str(a.give(pool).ip)
    a.release(pool, address)
    assert str(b.give(pool, address).ip) == address
    empty(cluster)
    for _ in range(2):
        a.tenancy.beat()
        a.settle()
        with pytest.raises(AddressTaken):
            a.give(pool, address)
        assert a.journal.pool(WEB).lent
    b.tenancy.beat()
    periods_pass(a, b)
    a.settle()
    assert records.borrowed_key(WEB, ip_address(address)) in cluster.held_keys()
    with pytest.raises(AddressTaken, match="in use on host b, which borrowed it"):
        a.give(pool, address)
    b.release(pool, address)
    a.settle()
    a.clock.now += 61
    assert a.give(pool, address)


def test_nothing_is_lent_until_the_epoch_is_settled(cluster: Cluster, a: Host, b: Host) -> None:
    """A wish for an address that is lent already, which the store has forgotten, is no sign of a loan half made."""
    pool = a.create()
    b.create()
    address = a.give(pool).ip
    a.release(pool, str(address))
    b.give(pool, str(address))
    empty(cluster)
    a.tenancy.beat()
    wish = Put(records.wanted_key(WEB, address), encode(records.Wanted("c")), ABSENT)
    assert cluster.store.commit(wish)
    with pytest.raises(StoreForgot):
        a.ipam.answer_wishes(WEB)
    periods_pass(a, b)
    a.ipam.answer_wishes(WEB)
    entry = cluster.store.get(wish.key)
    assert entry
    assert "in use on host b, which borrowed it" in str(decode(records.Wanted, entry.value).refused)


def test_what_nobody_borrows_any_more_comes_back_when_the_epoch_is_settled(cluster: Cluster, a: Host, b: Host) -> None:
    pool = a.create()
    b.create()
    address = str(a.give(pool).ip)
    a.release(pool, address)
    b.give(pool, address)
    empty(cluster)
    b.line.cut = True
    b.release(pool, address)
    b.line.cut = False
    periods_pass(a, b)
    b.settle()
    b.clock.now += IDLE_TIME + 1
    b.settle()
    a.settle()
    assert not a.journal.pool(WEB).lent


def test_a_backup_gives_nobodys_block_to_who_had_it_then(cluster: Cluster, a: Host, b: Host) -> None:
    """At the time of the backup the block was b's; b gave it back, and a took it."""
    wanted = "10.9.0.5"
    pool = b.create(SMALL)
    b.give(pool, wanted)
    old = backup(cluster.store)
    b.remove(pool)
    a.create(SMALL)
    assert str(a.give(pool, wanted).ip) == wanted
    b.create(SMALL)
    periods_pass(a, b, count=1)
    before = owners(cluster, SMALL)
    restore(cluster.store, old)
    b.tenancy.beat()
    with pytest.raises((StoreForgot, AddressTaken)):
        b.give(pool, wanted)
    a.tenancy.beat()
    assert a.journal.pool(SMALL).is_given(ip_address(wanted))
    periods_pass(a, b)
    assert owners(cluster, SMALL).items() >= before.items()
    assert owners(cluster, SMALL)[block_of(a, wanted)] == "a"


def block_of(host: Host, address: str) -> IPNetwork:
    block = host.journal.pool(SMALL).block_of(ip_address(address))
    assert block
    return block


def test_a_backup_lends_nothing_that_came_back_meanwhile(cluster: Cluster, a: Host, b: Host) -> None:
    pool = a.create()
    b.create()
    address = str(a.give(pool).ip)
    a.release(pool, address)
    b.give(pool, address)
    old = backup(cluster.store)
    b.release(pool, address)
    a.settle()
    assert str(a.give(pool, address).ip) == address
    periods_pass(a, b, count=1)
    restore(cluster.store, old)
    a.tenancy.beat()
    assert a.journal.pool(WEB).is_given(ip_address(address))
    assert records.borrowed_key(WEB, ip_address(address)) not in cluster.held_keys()


def test_an_idle_address_of_a_backup_is_whosoever_wants_it_when_its_borrower_was_there(
    cluster: Cluster, a: Host, b: Host
) -> None:
    pool = a.create()
    b.create()
    address = str(a.give(pool).ip)
    a.release(pool, address)
    b.give(pool, address)
    b.release(pool, address)
    old = backup(cluster.store)
    periods_pass(a, b, count=1)
    restore(cluster.store, old)
    periods_pass(a, b)
    b.settle()
    c = cluster.host("c")
    c.create()
    assert str(c.give(pool, address).ip) == address


def test_a_host_behind_its_fence_takes_nothing_back_before_the_others(cluster: Cluster, a: Host, b: Host) -> None:
    """b was given up and its block taken; then comes a backup that has the block as b's."""
    pool = b.create(SMALL)
    address = str(b.give(pool, "10.9.0.5").ip)
    old = backup(cluster.store)
    b.line.cut = True
    b.clock.now += TTL
    a.tenancy.beat()
    lose_the_lease(cluster, b)
    a.create(SMALL)
    assert str(a.give(pool, address).ip) == address
    periods_pass(a, count=1)
    restore(cluster.store, old)
    b.line.cut = False
    a.tenancy.beat()
    with pytest.raises(StoreForgot, match="they must tell the store first what they hold"):
        b.tenancy.beat()
    with pytest.raises(StoreUnavailable):
        b.give(pool, address)
    periods_pass(a, count=4)
    b.tenancy.beat()
    assert b.journal.pool(SMALL).leases[ip_address(address)].kind == LOST
    assert owners(cluster, SMALL)[block_of(a, address)] == "a"


def test_a_host_that_missed_an_epoch_takes_nothing_back_in_the_next_one(cluster: Cluster, a: Host, b: Host) -> None:
    """b is cut off while all that it holds is free to be taken; then the store forgets once more."""
    pool = a.create(SMALL)
    b.create(SMALL)
    address = str(b.give(pool).ip)
    block = block_of(b, address)
    b.line.cut = True
    empty(cluster)
    periods_pass(a, count=4)
    assert str(a.give(pool, address).ip) == address
    b.clock.now += 5 * b.tenancy.period
    empty(cluster)
    a.tenancy.beat()
    b.line.cut = False
    with pytest.raises(StoreForgot):
        b.tenancy.beat()
    with pytest.raises(StoreUnavailable):
        b.give(pool)
    periods_pass(a, count=4)
    b.tenancy.beat()
    assert owners(cluster, SMALL)[block] == "a"
    assert block not in b.journal.pool(SMALL).blocks


def test_reserved_addresses_in_blocks_at_hand_stay_reserved(cluster: Cluster, a: Host) -> None:
    pool = a.create()
    address = a.give(pool).ip
    a.release(pool, str(address))
    a.ipam.reserve({WEB: [address]})
    empty(cluster)
    a.tenancy.beat()
    with pytest.raises(AddressTaken, match="is reserved"):
        a.give(pool, str(address))
    assert address in a.commons.reserved(WEB)


def test_nothing_is_reserved_in_a_block_that_only_seems_free(cluster: Cluster, a: Host, b: Host) -> None:
    pool = a.create()
    theirs = b.give(b.create()).ip
    empty(cluster)
    a.tenancy.beat()
    assert a.give(pool)
    with pytest.raises(StoreForgot):
        a.ipam.reserve({WEB: [theirs]})


@pytest.mark.parametrize("crash", ["before", "after"])
def test_telling_again_is_done_after_a_crash(cluster: Cluster, a: Host, b: Host, crash: str) -> None:
    pool = a.create()
    b.create()
    address = a.give(pool)
    before = owners(cluster, WEB)
    empty(cluster)

    def die() -> None:
        if crash == "after":
            a.ipam.verify()
        raise KeyboardInterrupt

    a.tenancy.on_loss(die)
    with pytest.raises(KeyboardInterrupt):
        a.tenancy.beat()
    a.restart()
    assert a.give(pool)
    periods_pass(a, b)
    assert a.journal.pool(WEB).is_given(address.ip)
    assert owners(cluster, WEB) == before


def test_a_host_given_up_by_a_person_is_no_sign_that_the_store_forgot(cluster: Cluster, a: Host, b: Host) -> None:
    a.create()
    b.create()
    before = epoch(cluster)
    lose_the_lease(cluster, b)
    b.tenancy.beat()
    after = epoch(cluster)
    assert before
    assert after
    assert (after.id, after.settled, after.gone) == (before.id, True, before.gone + 1)
    assert b.give(PoolId(WEB))


def test_a_store_may_hide_what_others_have_until_they_told_it_again_whatever_a_hosts_own_lease(
    cluster: Cluster, a: Host, b: Host
) -> None:
    a.create()
    b.create()
    lose_the_lease(cluster, b)
    assert not b.tenancy.trusts_store()
    assert not b.tenancy.may_hide()
    b.tenancy.beat()
    old = backup(cluster.store)
    periods_pass(a, b, count=1)
    restore(cluster.store, old)
    assert a.tenancy.may_hide()  # before a beat has found out
    empty(cluster)
    assert a.tenancy.may_hide()
    a.tenancy.beat()
    assert a.tenancy.may_hide()
    assert b.tenancy.may_hide()
    periods_pass(a)
    assert not a.tenancy.may_hide()
    assert not b.tenancy.may_hide()  # others did find out, and had the time


def test_a_backup_from_before_a_host_left_and_came_again_is_noticed_by_it(cluster: Cluster, a: Host) -> None:
    a.create()
    periods_pass(a)
    old = backup(cluster.store)
    a.remove(PoolId(WEB))
    a.tenancy.end()
    a.tenancy.beat()
    restore(cluster.store, old)
    a.tenancy.beat()
    standing = epoch(cluster)
    assert standing
    assert not standing.settled


def test_who_left_misses_nothing_in_another_store(cluster: Cluster, a: Host) -> None:
    a.create()
    a.tenancy.end()
    a.restart()
    cluster.store = MemoryStore()
    cluster.host("b").create()
    a.tenancy.beat()
    standing = epoch(cluster)
    assert standing
    assert standing.settled


def test_a_host_misses_nothing_in_a_store_of_its_own_nor_of_that_in_the_clusters(cluster: Cluster, a: Host) -> None:
    a.create()
    own, shared = MemoryStore(), cluster.store
    for store, alone in ((own, True), (shared, False)):
        cluster.store, a.alone = store, alone
        a.restart()
        a.tenancy.beat()
        standing = epoch(cluster)
        assert standing
        assert standing.settled


# another store

THERE = Place("flannelpy", "there")


def start_with(host: Host, place: Place, cluster: Cluster) -> None:
    """Anew, and with other settings."""
    host.cluster = host.line.cluster = cluster
    host.place = place
    host.restart()


def test_a_host_that_is_led_to_another_cluster_takes_nothing_there_and_goes_on_when_it_is_back(
    cluster: Cluster, a: Host
) -> None:
    pool, elsewhere = a.create(), Cluster()
    mine = a.give(pool)
    (block,) = a.journal.pool(WEB).blocks
    other = elsewhere.host("other")
    theirs = other.give(other.create(), str(block[9]))
    before = backup(elsewhere.store)
    start_with(a, THERE, elsewhere)
    for act in (a.tenancy.beat, a.settle, lambda: a.give(pool), lambda: a.create(LAN)):
        with pytest.raises(NameTaken, match="this host belongs to cluster flannelpy at here, and cluster flannelpy at"):
            act()
        a.clock.now += a.tenancy.period
    assert backup(elsewhere.store) == before
    other.tenancy.beat()
    assert theirs.ip not in {other.give(pool).ip for _ in range(3)}
    start_with(a, HERE, cluster)
    assert a.give(pool).ip != mine.ip
    assert a.journal.pool(WEB).is_given(mine.ip)


def test_a_cluster_whose_name_was_mistyped_does_not_begin_with_what_a_host_has(a: Host) -> None:
    a.create()
    nobodys = Cluster()
    start_with(a, Place("flanelpy", HERE.store), nobodys)
    with pytest.raises(NameTaken, match="cluster flanelpy at here is another: set FLANNELPY_STORE and FLANNELPY_CLUST"):
        a.tenancy.beat()
    assert backup(nobodys.store) == {}


@pytest.mark.parametrize(("place", "emptied"), [(THERE, False), (THERE, True), (Place("renamed", "here"), False)])
def test_a_cluster_may_move(cluster: Cluster, a: Host, b: Host, place: Place, emptied: bool) -> None:
    pool = a.create()
    b.create()
    theirs = b.give(pool)
    before = owners(cluster, WEB)
    if emptied:
        empty(cluster)
    for host in (a, b):
        start_with(host, place, cluster)
    periods_pass(a, b)
    assert owners(cluster, WEB) == before
    assert a.give(pool).ip != theirs.ip
