"""What the address manager does when something happens between two of its steps, or while a host was away."""

import threading
from collections.abc import Callable, Collection
from contextlib import suppress
from ipaddress import ip_network
from itertools import count

import pytest

from cluster.reclaim import Reclaimer, close_empty, give_up
from ipam.errors import AddressTaken, NoSuchPool, PoolConflict, PoolExhausted
from ipam.lending import Lending
from ipam.loans import IDLE_TIME
from ipam.model import PoolId
from ipam.pools import HeldElsewhere
from ipam.tenancy import NameTaken
from store import records
from store.codec import BadRecord, decode, encode
from store.interface import ABSENT, Change, Check, Delete, Entry, Put, Snapshot, Store, StoreUnavailable
from store.ip import IPAddress, IPNetwork
from store.memory import MemoryStore
from tests.unit.ipam_faults import LATE, LIVE, Dead
from tests.unit.ipam_hosts import TICK, TTL, WEB, Cluster, Host

TINY = ip_network("10.9.0.0/28")


class Meanwhile:
    """A store before each of whose commits something else may happen."""

    def __init__(self, inner: Store, happens: dict[int, Callable[[], object]]) -> None:
        """`happens` maps the number of a commit, from 0, to what comes before it."""
        self._inner, self._happens, self._number = inner, happens, 0

    def get(self, key: str) -> Entry | None:
        return self._inner.get(key)

    def read(self, prefix: str) -> Snapshot:
        return self._inner.read(prefix)

    def wait(self, prefix: str, after: int, timeout: float) -> Snapshot:
        return self._inner.wait(prefix, after, timeout)

    def commit(self, *changes: Change) -> bool:
        number, self._number = self._number, self._number + 1
        self._happens.get(number, lambda: None)()
        return self._inner.commit(*changes)

    def close(self) -> None:
        self._inner.close()


class BetweenLooks(Meanwhile):
    """Likewise, but before each look at a single key."""

    def get(self, key: str) -> Entry | None:
        number, self._number = self._number, self._number + 1
        self._happens.get(number, lambda: None)()
        return self._inner.get(key)

    def commit(self, *changes: Change) -> bool:
        return self._inner.commit(*changes)


def lose_the_lease(cluster: Cluster, host: Host) -> None:
    """As if it had been silent: another host takes back all that it holds."""
    entry = cluster.store.get(records.host_key(host.name))
    assert entry
    assert give_up(cluster.store, host.name, entry.version)


@pytest.mark.parametrize("commit", range(3))  # the mark, what it holds, its record
def test_a_host_that_returns_while_it_is_given_up_keeps_what_is_left(
    cluster: Cluster, a: Host, b: Host, commit: int
) -> None:
    pool = a.create()
    b.create()
    address = b.give(pool)
    entry = cluster.store.get(records.host_key("b"))
    assert entry
    give_up(Meanwhile(cluster.store, {commit: b.tenancy.beat}), "b", entry.version)
    assert b.journal.pool(WEB).is_given(address.ip)
    assert blocks_of(cluster, "b") == set(b.journal.pool(WEB).blocks)


@pytest.mark.parametrize("look", range(3))  # at its record twice, and at the mark
def test_a_host_that_beats_at_the_last_moment_keeps_all(cluster: Cluster, a: Host, b: Host, look: int) -> None:
    pool = a.create()
    b.create()
    address = b.give(pool)
    beaten = BetweenLooks(cluster.store, {look: b.tenancy.beat})
    a.reclaimer = Reclaimer(beaten, "a", TTL, a.tenancy.period, a.clock)
    for _ in range(20):
        a.clock.now += a.tenancy.period
        a.tenancy.beat()
        a.reclaimer.look()
    assert b.journal.pool(WEB).is_given(address.ip)
    assert blocks_of(cluster, "b") == set(b.journal.pool(WEB).blocks)


def blocks_of(cluster: Cluster, host: str) -> set[IPNetwork]:
    entries = cluster.store.read(records.blocks_prefix(WEB)).entries
    return {records.block_of_key(key) for key, e in entries.items() if decode(records.Block, e.value).host == host}


def test_what_changes_hands_while_a_host_is_given_up_leaves_the_rest_to_the_next_time(
    cluster: Cluster, a: Host, b: Host
) -> None:
    c, pool = cluster.host("c"), a.create()
    b.create()
    c.create()
    address = str(a.give(pool).ip)
    a.release(pool, address)
    b.give(pool, address)
    b.release(pool, address)
    entry = cluster.store.get(records.host_key("b"))
    assert entry
    assert not give_up(Meanwhile(cluster.store, {1: lambda: c.give(pool, address)}), "b", entry.version)
    lose_the_lease(cluster, b)
    assert blocks_of(cluster, "b") == set()


def test_the_wish_of_a_host_that_is_no_more_keeps_nobody_from_the_address(cluster: Cluster, a: Host, b: Host) -> None:
    c, pool = cluster.host("c"), a.create()
    b.create()
    c.create()
    address = a.give(pool).ip
    a.release(pool, str(address))
    wish = Put(records.wanted_key(WEB, address), encode(records.Wanted("b")), ABSENT)
    assert cluster.store.commit(wish)
    lose_the_lease(cluster, b)
    assert c.give(pool, str(address)).ip == address


def test_the_claims_of_a_host_that_was_given_up_fail(cluster: Cluster, a: Host, b: Host) -> None:
    """It believes in its lease, and is slow: it was given up between its look at the pool and its claim."""
    pool = a.create()
    b.create()
    b.line = Meanwhile(b.line, {0: lambda: lose_the_lease(cluster, b)})  # type: ignore[assignment]
    b.restart()
    held = list(b.journal.pool(WEB).books())
    while any(book.free_within(None) for book in held):
        b.give(pool)
    with pytest.raises(StoreUnavailable, match="has lost its lease"):
        b.give(pool)
    assert len(b.journal.pool(WEB).blocks) == 1
    assert blocks_of(cluster, "b") == set()


def test_a_loan_given_while_a_host_was_away_is_kept_by_it(cluster: Cluster, a: Host, b: Host) -> None:
    """The block comes back to it; the address that its holder of the meantime lent does not."""
    pool = a.create(TINY)
    lent = next(address for address in next(iter(a.journal.pool(TINY).blocks)) if str(address) not in NEVER)
    a.line.cut = True
    lose_the_lease(cluster, a)
    b.create(TINY)
    other = cluster.host("c")
    other.create(TINY)
    b.give(pool, str(lent))
    b.release(pool, str(lent))
    assert other.give(pool, str(lent)).ip == lent
    b.remove(pool)
    a.line.cut = False
    a.clock.now += TTL
    a.tenancy.beat()
    assert a.journal.pool(TINY).block_of(lent)
    with pytest.raises(AddressTaken, match="in use on host c, which borrowed it"):
        a.give(pool, str(lent))
    assert lent not in {a.give(pool).ip for _ in range(5)}


NEVER = ("10.9.0.0", "10.9.0.1", "10.9.0.15")


@pytest.mark.parametrize("whose", ["borrower", "holder", "third"])
def test_an_idle_address_goes_to_one_host_when_two_want_it_or_want_to_be_rid_of_it(
    cluster: Cluster, a: Host, b: Host, whose: str
) -> None:
    """A third host takes it just before this one's own transaction: its next use, its end as a loan, or its use."""
    c, d = cluster.host("c"), cluster.host("d")
    pool, *_ = [host.create() for host in (a, b, c, d)]
    lent = a.give(pool)
    a.release(pool, lent)
    b.give(pool, str(lent.ip))
    b.release(pool, lent)
    slow = {"borrower": b, "holder": a, "third": d}[whose]
    slow.line = Meanwhile(slow.line, {0: lambda: c.give(pool, str(lent.ip))})  # type: ignore[assignment]
    slow.restart()
    if whose == "borrower":
        b.clock.now += IDLE_TIME + 1
        b.settle()
    else:
        with pytest.raises(AddressTaken, match="in use on host"):
            slow.give(pool, str(lent.ip))
    entry = cluster.store.get(records.borrowed_key(WEB, lent.ip))
    assert entry
    assert decode(records.Borrowed, entry.value).host == "c"
    assert [host.name for host in (a, b, c, d) if is_users(host, lent.ip)] == ["c"]


@pytest.mark.parametrize("whose", ["borrower", "holder"])
def test_a_beat_in_the_middle_of_lending_neither_refuses_the_address_nor_keeps_the_borrower_waiting(
    a: Host, b: Host, whose: str
) -> None:
    """It moves the record that the transaction checks. The holder hears of a wish once."""
    pool, _ = a.create(), b.create()
    wanted = a.give(pool)
    a.release(pool, wanted)
    b.patience = 2 * TICK
    beat_before_commit({"borrower": b, "holder": a}[whose], 0)
    b.restart()
    assert b.give(pool, str(wanted.ip)) == wanted


@pytest.mark.parametrize("whose", ["borrower", "third"])
def test_a_beat_in_the_middle_of_taking_an_idle_address_does_not_lose_it(
    cluster: Cluster, a: Host, b: Host, whose: str
) -> None:
    c = cluster.host("c")
    pool, *_ = [host.create() for host in (a, b, c)]
    lent = a.give(pool)
    a.release(pool, lent)
    b.give(pool, str(lent.ip))
    b.release(pool, lent)
    a.asleep = True
    taker = {"borrower": b, "third": c}[whose]
    beat_before_commit(taker, 0)
    assert taker.give(pool, str(lent.ip)) == lent


def beat_before_commit(host: Host, number: int) -> None:
    host.line = Meanwhile(host.line, {number: lambda: host.tenancy.beat()})  # type: ignore[assignment]
    host.restart()


def is_users(host: Host, address: IPAddress) -> bool:
    lease = host.journal.pool(WEB).leases.get(address)
    return lease is not None and lease.released is None and lease.kind in ("endpoint", "borrowed")


def test_a_container_whose_address_was_lent_elsewhere_meanwhile_is_named(
    cluster: Cluster, a: Host, b: Host, caplog: pytest.LogCaptureFixture
) -> None:
    pool = a.create(TINY)
    mine = a.give(pool).ip
    a.line.cut = True
    lose_the_lease(cluster, a)
    b.create(TINY)
    other = cluster.host("c")
    other.create(TINY)
    b.give(pool, str(mine))
    b.release(pool, str(mine))
    other.give(pool, str(mine))
    b.remove(pool)
    a.line.cut = False
    a.clock.now += TTL
    a.tenancy.beat()
    named = [record for record in caplog.records if getattr(record, "address", None) == mine]
    assert [record.message for record in named] == ["address in use here may be in use elsewhere, too"]


def test_a_loan_that_is_lost_before_it_is_noted_is_not_given(a: Host, b: Host) -> None:
    pool = a.create()
    b.create()
    first = a.give(pool)
    a.release(pool, first)
    borrow = b.ipam._loans._lending.borrow

    def borrow_and_lose(asked: HeldElsewhere, patience: float) -> None:
        borrow(asked, patience)
        b.ipam._loans._lending.give_back(WEB, first.ip)

    b.ipam._loans._lending.borrow = borrow_and_lose  # type: ignore[method-assign]
    with pytest.raises(AddressTaken, match="was lost; try again"):
        b.give(pool, str(first.ip))
    assert not b.journal.pool(WEB).is_given(first.ip)


@pytest.mark.parametrize("moment", ["before it looks", "after it looked"])
def test_a_holder_that_lost_its_block_lends_nothing_of_it(cluster: Cluster, a: Host, b: Host, moment: str) -> None:
    """It was given up and came back, in another thread, while this one was about to lend."""
    pool = a.create(TINY)
    b.create(TINY)
    wanted = a.give(pool)
    a.release(pool, wanted)
    lend, check = a.ipam._loans._lending.lend, a.tenancy.check

    def given_up_and_back() -> None:
        a.tenancy.on_loss(lambda: None)  # it waits for the pool's lock, which is held by who lends
        a.tenancy.check = check  # type: ignore[method-assign]
        lose_the_lease(cluster, a)
        other = cluster.host("c")
        other.create(TINY)
        assert other.give(pool, str(wanted.ip)) == wanted
        a.tenancy.beat()

    def lend_late(where: IPNetwork, block: IPNetwork, address: IPAddress) -> bool:
        given_up_and_back()
        return lend(where, block, address)

    def check_late() -> Check:
        given_up_and_back()
        return check()

    if moment == "before it looks":
        a.ipam._loans._lending.lend = lend_late  # type: ignore[assignment]
    else:
        a.tenancy.check = check_late  # type: ignore[method-assign]
    with pytest.raises(AddressTaken):
        b.give(pool, str(wanted.ip))


def test_a_pool_joined_again_has_blocks_of_the_same_size(cluster: Cluster, a: Host, b: Host) -> None:
    pool = a.create(options={"block": "28"})
    a.give(pool)
    a.line.cut = True
    lose_the_lease(cluster, a)
    a.line.cut = False
    a.clock.now += TTL
    a.tenancy.beat()
    b.create()
    given = [host.give(pool).ip for _ in range(40) for host in (a, b)]
    assert len(set(given)) == len(given)
    assert {block.prefixlen for host in (a, b) for block in host.journal.pool(WEB).blocks} == {28}


def test_a_pool_that_the_cluster_uses_otherwise_by_now_is_lost_in_words(
    cluster: Cluster, a: Host, b: Host, caplog: pytest.LogCaptureFixture
) -> None:
    pool = a.create()
    a.give(pool)
    a.line.cut = True
    lose_the_lease(cluster, a)
    b.create(ip_network("10.240.0.0/20"))
    a.line.cut = False
    a.clock.now += TTL
    a.tenancy.beat()
    assert "pool lost: the cluster has another use for it by now" in caplog.text
    assert "address in use here may be in use elsewhere, too" in caplog.text
    a.create(ip_network("10.9.0.0/24"))


def damage(cluster: Cluster, key: str) -> Callable[[], None]:
    """Write something that is no record; undone by the call of what is returned."""
    entry = cluster.store.get(key)
    assert entry
    assert cluster.store.commit(Put(key, b"{", entry.version))

    def undo() -> None:
        damaged = cluster.store.get(key)
        assert damaged
        assert cluster.store.commit(Put(key, entry.value, damaged.version))

    return undo


def test_a_damaged_record_fences_its_pool_alone_after_a_lost_lease(
    cluster: Cluster, a: Host, b: Host, caplog: pytest.LogCaptureFixture
) -> None:
    pools = [a.create(TINY), a.create()]
    b.create(TINY)
    before = a.give(pools[0])
    a.line.cut = True
    lose_the_lease(cluster, a)
    undo = damage(cluster, records.pool_key(TINY))
    a.line.cut = False
    a.clock.now += TTL
    a.tenancy.beat()
    a.restart()
    assert a.give(pools[1])
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match=r"gives out no address of pool 10\.9\.0\.0/28: .*not a Pool"):
            a.give(pools[0])
        a.settle()
    assert caplog.text.count("pool not compared with the store") == 1
    undo()
    a.settle()
    assert a.give(pools[0]) != before


def test_a_damaged_record_stops_the_duties_of_its_pool_alone(cluster: Cluster, a: Host) -> None:
    damaged, pool = a.create(ip_network("10.9.0.0/24")), a.create()
    for each in (damaged, pool):
        for _ in range(sum(book.free_within(None) for book in a.journal.pool(each.pool).books()) - 3):
            a.give(each)
    left = [a.create(ip_network(f"10.8.{number}.0/24")) for number in range(4)]
    a.line.cut = True
    for each in left:
        a.remove(each)
    a.line.cut = False
    damage(cluster, records.pool_key(damaged.pool))
    with pytest.raises(BadRecord):
        a.ipam.keep_in_hand()
    assert len(a.journal.pool(WEB).blocks) == 2
    assert cluster.store.commit(Put(records.wanted_key(damaged.pool, damaged.pool[5]), b"{", ABSENT))
    with pytest.raises(BadRecord):
        a.ipam.settle([])
    assert not {records.pool_key(each.pool) for each in left} & {*cluster.held_keys()}


def test_a_network_made_again_after_a_removal_that_died_halfway_starts_anew(cluster: Cluster, a: Host, b: Host) -> None:
    """The store was told that the blocks are free; the journal was not."""
    pool = a.create(TINY)
    a.ipam._pools.leave(TINY)
    a.journal.let_go(pool)
    a.restart()
    b.create(TINY)
    theirs = {b.give(pool).ip for _ in range(10)}
    a.create(TINY)
    assert a.give(pool).ip not in theirs


def test_a_twin_takes_nothing_away(cluster: Cluster, a: Host) -> None:
    pool = a.create()
    first = a.give(pool)
    before = cluster.held_keys()
    twin = Host("a", cluster)
    for act in (twin.tenancy.beat, twin.settle, twin.tenancy.end, lambda: twin.remove(PoolId(WEB))):
        try:
            act()
        except (NameTaken, StoreUnavailable):
            continue
    assert cluster.held_keys() == before
    assert a.give(pool) != first


def test_nothing_is_freed_by_a_store_that_shows_nothing(cluster: Cluster, a: Host, b: Host) -> None:
    pool = a.create()
    b.create()
    first = a.give(pool)
    a.release(pool, first)
    b.give(pool, str(first.ip))
    real, cluster.store = cluster.store, MemoryStore()
    for host in (a, b):
        with pytest.raises(StoreUnavailable):
            host.ipam.settle([WEB])
    assert a.journal.pool(WEB).is_given(first.ip)
    assert b.journal.pool(WEB).is_given(first.ip)
    cluster.store = real
    a.settle()
    b.settle()
    with pytest.raises(AddressTaken):
        a.give(pool, str(first.ip))


def test_a_pool_whose_creator_died_is_found_and_closed(cluster: Cluster, a: Host) -> None:
    a.tenancy.beat()
    a.ipam._pools.join(TINY)
    a.restart()
    a.settle()
    assert cluster.held_keys() == []


def test_pools_without_holders_are_closed(cluster: Cluster, a: Host) -> None:
    pool = a.create()
    holder = records.holder_key(WEB, "a")
    entry = cluster.store.get(holder)
    assert entry
    close_empty(cluster.store)
    assert a.give(pool)
    assert cluster.held_keys()
    a.remove(pool)
    close_empty(cluster.store)
    assert cluster.held_keys() == []


def test_an_automatic_pool_is_not_left_before_it_is_held(cluster: Cluster, a: Host, b: Host) -> None:
    """The round of duties finds this host as a holder of a pool that no network here has yet."""
    b.tenancy.beat()
    others: list[PoolId] = []
    lock = a.ipam._ledger.lock

    def lock_late(pool: IPNetwork) -> threading.RLock:
        a.ipam._ledger.lock = lock  # type: ignore[method-assign]
        a.settle()
        others.append(b.create(None))
        return lock(pool)

    a.tenancy.beat()
    a.ipam._ledger.lock = lock_late  # type: ignore[method-assign]
    assert a.create(None) not in others
    assert others


@pytest.mark.parametrize("subnet", [None, WEB])
def test_hosts_that_make_networks_at_the_same_moment_come_apart(
    cluster: Cluster, a: Host, b: Host, subnet: IPNetwork | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The list of pools is one: of thirty that asked again at once, some lost each of their races."""
    waited, others = list[int](), count()

    def pause_after(attempt: int) -> float:
        waited.append(attempt)
        return 0.0

    def b_is_faster() -> None:
        b.create(None if subnet is None else ip_network(f"10.9.{next(others)}.0/24"))

    for module in ("ipam.ipam", "ipam.pools"):
        monkeypatch.setattr(f"{module}.pause_after", pause_after)
    a.tenancy.beat()
    cluster.ways["a"] = Meanwhile(cluster.store, {0: b_is_faster, 1: b_is_faster})
    assert a.create(subnet)
    assert waited == [0, 1]


def test_a_request_for_a_pool_that_was_just_released_is_refused(a: Host) -> None:
    pool = a.create()
    uses = a.journal.uses
    a.journal.uses = lambda pool_id: 1  # type: ignore[method-assign]
    a.ipam.release_pool(pool)
    a.journal.uses = uses  # type: ignore[method-assign]
    a.remove(pool)
    with pytest.raises(NoSuchPool):
        a.give(pool)


def test_the_mirror_tells_nothing_of_a_block_that_was_given_back(cluster: Cluster, a: Host) -> None:
    pool = a.create()
    a.give(pool)
    told = a.ipam.given(WEB)
    a.remove(pool)
    a.ipam.given = lambda pool: told  # type: ignore[method-assign]
    a.tell(WEB)
    assert cluster.held_keys() == []


def test_an_address_is_reserved_only_in_a_block_that_is_still_ours(cluster: Cluster, a: Host, b: Host) -> None:
    pool = a.create(TINY)
    b.create(TINY)
    address = a.give(pool)
    a.release(pool, address)
    keep_back = a.ipam._reservations._keep_back

    def slowly(where: IPNetwork, reserved: Collection[IPAddress], as_of: float) -> IPAddress | None:
        done = keep_back(where, reserved, as_of)
        lose_the_lease(cluster, a)
        b.give(pool, str(address.ip))
        return done

    a.ipam._reservations._keep_back = slowly  # type: ignore[method-assign, assignment]
    with pytest.raises((AddressTaken, StoreUnavailable)):
        a.ipam.reserve({TINY: [address.ip]})


def test_an_address_reserved_while_its_block_is_being_taken_is_given_to_nobody(
    cluster: Cluster, a: Host, b: Host
) -> None:
    """Between the look at the pool's record and the claim."""
    a.create(TINY)
    b.create(TINY)
    held = [*a.journal.pool(TINY).blocks, *b.journal.pool(TINY).blocks]
    aux = next(host for host in TINY.hosts() if not any(host in block for block in held) and str(host) not in NEVER)
    b.line = Meanwhile(b.line, {0: lambda: a.ipam.reserve({TINY: [aux]})})  # type: ignore[assignment]
    b.restart()
    with pytest.raises(AddressTaken, match="is reserved in pool"):
        b.give(PoolId(TINY), str(aux))


def test_a_store_that_hides_our_own_record_shows_nobodys_silence(cluster: Cluster, a: Host, b: Host) -> None:
    a.create()
    b.create()
    own = records.host_key("a")
    entry = cluster.store.get(own)
    assert entry
    cluster.store.commit(Delete(own, entry.version))
    for _ in range(30):
        a.clock.now += TTL / 12
        a.reclaimer.look()
    assert blocks_of(cluster, "b")


def test_the_mirror_is_late_for_a_block_that_is_just_given_back(cluster: Cluster, a: Host) -> None:
    pool = a.create()
    a.give(pool)
    a.line = Meanwhile(a.line, {0: lambda: a.remove(pool)})  # type: ignore[assignment]
    a.tell(WEB)
    assert cluster.held_keys() == []


def die() -> None:
    raise Dead


@pytest.mark.parametrize("commit", range(1, 4))
def test_a_host_that_dies_while_it_makes_a_pool_known_leaves_nothing(cluster: Cluster, a: Host, commit: int) -> None:
    line = a.line
    a.line = Meanwhile(line, {commit: die})  # type: ignore[assignment]
    a.restart()
    with pytest.raises(Dead):
        a.create(TINY)
    a.line = line
    a.restart()
    if not a.journal.is_held(TINY):
        a.settle()
        assert cluster.held_keys() == []


def test_a_loan_left_by_a_crash_in_a_block_that_is_ours_by_now_is_found(cluster: Cluster, a: Host, b: Host) -> None:
    pool = a.create(TINY)
    b.create(TINY)
    address = a.give(pool)
    a.release(pool, address)
    b.ipam._ledger.give = lambda *_: die()  # type: ignore[method-assign]
    with pytest.raises(Dead):
        b.give(pool, str(address.ip))
    b.restart()
    a.remove(pool)
    block = next(block for block in TINY.subnets(new_prefix=30) if address.ip in block)
    for other in block:
        if str(other) not in NEVER and other != address.ip:
            b.give(pool, str(other))
    assert b.journal.pool(TINY).block_of(address.ip)
    b.settle()
    assert b.give(pool, str(address.ip)) == address


def test_a_loan_whose_answer_is_late_is_not_taken_back_before(cluster: Cluster, a: Host, b: Host) -> None:
    pool = a.create(TINY)
    b.create(TINY)
    address = a.give(pool)
    a.release(pool, address)
    late: list[Callable[[], object]] = []
    fates = iter([LATE])
    a.line.fate, a.line.late = lambda: next(fates, LIVE), late

    answer = a.ipam.answer_wishes
    a.ipam.answer_wishes = lambda where: later(answer, where, a, late)  # type: ignore[assignment]
    assert b.give(pool, str(address.ip)) == address
    with pytest.raises(AddressTaken):
        a.give(pool, str(address.ip))


def later(answer: Callable[[IPNetwork], None], where: IPNetwork, host: Host, late: list[Callable[[], object]]) -> None:
    """The answer is lost, the duties run, and only then the write comes true."""
    with suppress(StoreUnavailable):
        answer(where)
    if late:
        host.settle()
        late.pop()()


def test_a_loan_to_a_third_host_is_not_hidden_by_ones_own_old_one(cluster: Cluster, a: Host, b: Host) -> None:
    """b gave an address back, did not hear so, and takes the block by the time that a third host has the address."""
    pool = a.create(TINY)
    lent = next(address for address in next(iter(a.journal.pool(TINY).blocks)) if str(address) not in NEVER)
    block = a.journal.pool(TINY).block_of(lent)
    b.create(TINY)
    assert b.give(pool, str(lent)).ip == lent
    b.journal.pool(TINY).take_back(lent)  # released, and its return is noted, and told; no answer comes
    b.journal.pool(TINY).note_returning(lent)
    Lending(cluster.store, "b", b.tenancy).give_back(TINY, lent)
    third = cluster.host("c")
    third.create(TINY)
    a.settle()
    assert third.give(pool, str(lent)).ip == lent
    a.remove(pool)
    assert block is not None
    b.ipam._holdings.take_block(pool, lent)
    b.settle()
    assert b.journal.pool(TINY).block_of(lent) == block
    with pytest.raises(AddressTaken, match="in use on host c, which borrowed it"):
        b.give(pool, str(lent))
    b.clock.off += 3600
    given = set()
    with suppress(PoolExhausted):
        while True:
            given.add(b.give(pool).ip)
    assert lent not in given


def test_a_claim_that_comes_when_the_host_has_left_the_pool_leaves_no_block(cluster: Cluster, a: Host, b: Host) -> None:
    pool = a.create()
    b.create()
    late: list[Callable[[], object]] = []
    a.line.fate, a.line.late = lambda: LATE, late
    with pytest.raises(StoreUnavailable):
        a.ipam._holdings.take_block(pool)
    a.line.fate = lambda: LIVE
    a.remove(pool)
    assert blocks_of(cluster, "a") == set()
    for write in late:
        write()
    assert blocks_of(cluster, "a") == set()


def test_a_pool_made_anew_with_another_gateway_gives_no_address_here(cluster: Cluster, a: Host, b: Host) -> None:
    pool = a.create()
    a.line.cut = True
    lose_the_lease(cluster, a)
    b.create(gateway="10.240.20.1")
    a.line.cut = False
    a.clock.now += TTL
    a.tenancy.beat()
    with pytest.raises(PoolConflict, match=r"gateway 10\.240\.20\.1"):
        a.give(pool)


def a_lender_that_left(cluster: Cluster) -> tuple[Host, Host, IPAddress]:
    """It, the borrower, and the address that this one still has."""
    a, b = cluster.host("a"), cluster.host("b")
    a.create(TINY)
    b.create(TINY)
    address = next(iter(a.journal.pool(TINY).blocks))[2]
    b.give(PoolId(TINY), str(address))
    a.remove(PoolId(TINY))
    return a, b, address


def test_a_loan_whose_block_the_borrower_took_meanwhile_is_given_by_one_of_both(cluster: Cluster) -> None:
    """When it came back, the borrower took it for free in its block, and others for an idle loan."""
    a, b, address = a_lender_that_left(cluster)
    with suppress(PoolExhausted):
        while address not in [each for block in b.journal.pool(TINY).blocks for each in block]:
            b.give(PoolId(TINY))
    b.release(PoolId(TINY), str(address))
    a.create(TINY)
    assert a.give(PoolId(TINY), str(address)).ip == address
    given = []
    with suppress(PoolExhausted):
        while True:
            given.append(b.give(PoolId(TINY)).ip)
    assert given
    assert address not in given


def test_a_loan_that_was_given_out_anew_as_an_address_of_ones_own_block_ends(cluster: Cluster) -> None:
    """Its key stayed until the host left the pool, and refused the address to every other host."""
    a, b, address = a_lender_that_left(cluster)
    b.ipam._holdings.take_block(PoolId(TINY), address)
    b.line.cut = True
    b.release(PoolId(TINY), str(address))
    b.give(PoolId(TINY), str(address))
    b.line.cut = False
    b.settle()
    assert b.journal.pool(TINY).is_given(address)
    b.release(PoolId(TINY), str(address))
    a.create(TINY)
    assert a.give(PoolId(TINY), str(address)).ip == address
