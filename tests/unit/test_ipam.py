"""The IPAM driver over real stores in memory: several hosts share one, each has a journal of its own."""

import time
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address, ip_interface, ip_network

import pytest

from ipam.book import REST
from ipam.commons import Commons
from ipam.errors import AddressTaken, BadRequest, NoSuchPool, PoolConflict, PoolExhausted
from ipam.ipam import Ipam
from ipam.journal import Journal
from ipam.lending import Lending
from ipam.loans import IDLE_TIME
from ipam.model import AddressRequest, PoolId, PoolRequest
from ipam.pools import Pools
from ipam.spaces import Spaces
from ipam.tenancy import LeaseLapsed, NameTaken
from store.interface import Change, Entry, Snapshot, StoreUnavailable
from store.ip import IPAddress, IPInterface, IPNetwork
from store.memory import MemoryStore
from store.space import Prefixed, Space
from tests.unit.ipam_faults import LIVE, Fragile
from tests.unit.ipam_hosts import PLAN, TTL, WEB, Cluster, Hanging, Host


def test_hosts_never_give_the_same_address(a: Host, b: Host) -> None:
    pool = a.create()
    assert b.create() == pool
    given = [host.give(pool) for _ in range(200) for host in (a, b)]
    assert len({interface.ip for interface in given}) == 400
    assert all(interface.ip in WEB for interface in given)
    assert ip_address("10.240.0.1") not in {interface.ip for interface in given}


def test_an_endpoint_of_ours_gets_its_address_alone_and_others_get_the_pools_prefix(a: Host) -> None:
    pool = a.create()
    assert a.give(pool).network.prefixlen == 32
    other = a.create(ip_network("10.250.0.0/24"), routed=False)
    assert a.give(other).network.prefixlen == 24
    six = a.create(ip_network("fd77::/64"), v6=True)
    assert a.give(six).network.prefixlen == 128


def test_the_gateway_is_the_same_everywhere_and_nobodys_address(a: Host, b: Host) -> None:
    pool = a.create(gateway="10.240.9.9")
    asked = b.ipam.request_pool(PoolRequest(WEB, None))[0]
    gateway = b.ipam.request_address(AddressRequest(asked, None, gateway=True))
    assert gateway == ip_interface("10.240.9.9/18")
    with pytest.raises(PoolConflict, match=r"gateway 10\.240\.9\.9 in the cluster, not 10\.240\.0\.1"):
        b.ipam.request_address(AddressRequest(asked, ip_address("10.240.0.1"), gateway=True))
    b.routed.add(WEB)
    with pytest.raises(AddressTaken):
        a.give(pool, "10.240.9.9")
    with pytest.raises(AddressTaken):
        b.give(pool, "10.240.9.9")


def test_a_gateway_in_another_hosts_block_is_not_given_away_there(cluster: Cluster) -> None:
    tiny = ip_network("10.9.0.0/24")
    hosts = [cluster.host(name) for name in "abcdef"]
    asked = [host.ipam.request_pool(PoolRequest(tiny, None))[0] for host in hosts]
    for host, pool in zip(hosts, asked, strict=True):
        assert str(host.ipam.request_address(AddressRequest(pool, None, gateway=True))) == "10.9.0.1/24"
        host.routed.add(tiny)
    given = [host.give(pool).ip for host, pool in zip(hosts, asked, strict=True) for _ in range(14)]
    assert ip_address("10.9.0.1") not in given
    assert len(set(given)) == len(given)


def test_a_wanted_address_is_given_once(a: Host, b: Host) -> None:
    pool = a.create()
    b.create()
    assert str(a.give(pool, "10.240.20.20")) == "10.240.20.20/32"
    with pytest.raises(AddressTaken, match="already in use on this host"):
        a.give(pool, "10.240.20.20")
    with pytest.raises(AddressTaken, match=r"10\.240\.20\.20 is already in use on host a; choose another"):
        b.give(pool, "10.240.20.20")
    a.release(pool, "10.240.20.20")
    assert str(a.give(pool, "10.240.20.20")) == "10.240.20.20/32"


@pytest.mark.parametrize("address", ["10.240.0.0", "10.240.63.255", "10.250.0.1", "fd00::1"])
def test_an_address_that_cannot_be_is_refused(a: Host, address: str) -> None:
    pool = a.create()
    with pytest.raises(BadRequest, match=f"{address} cannot be used in pool"):
        a.give(pool, address)


def test_a_range_confines_what_is_chosen_but_not_what_is_wanted(a: Host, b: Host) -> None:
    pool = a.create(range_="10.240.1.0/27")
    given = [a.give(pool).ip for _ in range(32)]
    assert set(given) == set(ip_network("10.240.1.0/27"))
    with pytest.raises(PoolExhausted, match=r"--ip-range 10\.240\.1\.0/27"):
        a.give(pool)
    assert str(a.give(pool, "10.240.40.4")) == "10.240.40.4/32"
    with pytest.raises(BadRequest, match="not inside"):
        a.create(range_="10.250.0.0/24")


def test_a_released_address_rests_before_it_is_given_again(a: Host) -> None:
    pool = a.create(ip_network("10.9.0.0/24"))
    first = a.give(pool)
    a.release(pool, first)
    assert a.give(pool) != first
    a.clock.now += REST
    rest = [a.give(pool) for _ in range(15)]
    assert first in rest


def test_what_was_never_used_comes_first_and_then_what_rested_longest_whatever_the_block(a: Host) -> None:
    pool = a.create(ip_network("10.9.0.0/24"))
    given = [a.give(pool) for _ in range(20)]
    one, other = (book.block for book in a.journal.pool(pool.pool).books())
    early, late = (next(address for address in given if address.ip in block) for block in (other, one))
    a.release(pool, early)
    a.clock.now += 3600
    a.release(pool, late)
    a.clock.now += REST
    a.restart()
    assert [a.give(pool) for _ in range(32 - 20 + 2)][-2:] == [early, late]
    assert len(a.journal.pool(pool.pool).blocks) == 2


def test_the_order_of_releases_outlives_a_restart(a: Host) -> None:
    pool = a.create(ip_network("10.9.0.0/29"), options={"block": "29"})
    given = [a.give(pool) for _ in range(5)]
    order = [given[index] for index in (3, 0, 4, 1, 2)]
    for address in order:
        a.clock.now += 1
        a.release(pool, address)
    a.restart()
    a.clock.now += REST
    assert [a.give(pool) for _ in order] == order


@pytest.mark.parametrize("starts_anew", ["never", "without it", "with it"])
@pytest.mark.parametrize("text", ["10.9.0.0/28", "fd09::/124"])
def test_an_address_rests_over_the_removal_of_its_network(a: Host, starts_anew: str, text: str) -> None:
    """And over a restart, when the host has the network and when it does not."""
    pool = a.create(ip_network(text), options={"block": str(ip_network(text).prefixlen + 2)})  # blocks of four
    first = a.give(pool)
    for _ in range(2):
        a.remove(pool)
        if starts_anew == "without it":
            a.restart()
        a.create(pool.pool)
        if starts_anew == "with it":
            a.restart()
        assert first.ip in next(iter(a.journal.pool(pool.pool).blocks))
        assert a.give(pool) != first
        a.clock.now += REST / 3
    a.remove(pool)
    a.clock.now += REST / 3
    a.create(pool.pool)
    assert first in [a.give(pool) for _ in range(3)]


def test_what_rested_in_pools_that_were_left_is_forgotten(a: Host) -> None:
    for number in range(3):
        pool = a.create(ip_network(f"10.{number}.0.0/24"))
        a.give(pool)
        a.remove(pool)
        a.clock.now += REST
    assert sorted(a.disk.read("").entries) == ["identity", "lease", "left/10.2.0.0/24"]


def test_a_full_pool_gives_what_has_not_rested_rather_than_nothing(a: Host) -> None:
    pool = a.create(ip_network("10.9.0.0/29"))
    given = [a.give(pool) for _ in range(5)]
    with pytest.raises(
        PoolExhausted, match=r"pool 10\.9\.0\.0/29 \(8 addresses\) has no free address left; most blocks: a 4"
    ):
        a.give(pool)
    a.release(pool, given[2])
    assert a.give(pool) == given[2]


def test_a_restart_forgets_nothing(a: Host) -> None:
    pool = a.create()
    before = [a.give(pool) for _ in range(70)]
    a.restart()
    after = [a.give(pool) for _ in range(70)]
    assert not set(before) & set(after)
    with pytest.raises(AddressTaken):
        a.give(pool, str(before[0].ip))


def test_without_the_store_addresses_come_from_blocks_at_hand(a: Host, cluster: Cluster) -> None:
    pool = a.create()
    a.line.cut = True
    a.restart()
    given = [a.give(pool) for _ in range(60)]
    assert len(set(given)) == 60
    with pytest.raises(StoreUnavailable):
        a.create(ip_network("10.9.0.0/24"))


def test_a_start_that_needs_a_block_asks_the_store_for_nothing_twice(a: Host, cluster: Cluster) -> None:
    pool, asked = a.create(), list[str]()

    class Noting(Fragile):
        def get(self, key: str) -> Entry | None:
            asked.append(f"get {key}")
            return super().get(key)

        def read(self, prefix: str) -> Snapshot:
            asked.append(f"read {prefix}")
            return super().read(prefix)

        def commit(self, *changes: Change) -> bool:
            asked.append("commit")
            return super().commit(*changes)

    cluster.ways["a"] = Noting(cluster.store, lambda: LIVE)
    while not asked:
        a.give(pool)
    below = "pools/10.240.0.0-18"
    reading = [f"get {below}/holders/a", f"get {below}/pool", "get epoch", "get hosts/a", f"read {below}/blocks/"]
    assert asked == [*reading, "commit", f"read {below}/borrowed/"]
    assert len(a.journal.pool(WEB).blocks) == 2


def test_pools_overlap_nothing(a: Host, b: Host) -> None:
    a.create()
    with pytest.raises(PoolConflict, match=r"10\.240\.0\.0/24 overlaps 10\.240\.0\.0/18"):
        b.create(ip_network("10.240.0.0/24"))
    a.occupied.append(ip_network("10.224.0.0/17"))
    assert a.create(None).pool == ip_network("10.224.128.0/18")
    assert b.create(None).pool == ip_network("10.224.0.0/18")
    assert a.create(None, v6=True).pool == ip_network("fd42::/64")


def test_the_last_one_out_leaves_no_key(a: Host, b: Host, cluster: Cluster) -> None:
    pool = a.create()
    b.create()
    for _ in range(100):
        a.give(pool)
    a.remove(pool)
    assert [key for key in cluster.held_keys() if "/blocks/" in key]
    b.remove(pool)
    assert cluster.held_keys() == []
    assert sorted(a.disk.read("").entries) == ["identity", "lease", "left/10.240.0.0/18"]


def test_two_networks_of_a_host_share_a_pool_until_both_are_gone(a: Host, cluster: Cluster) -> None:
    pool = a.create(routed=False)
    assert a.create(routed=False) == pool
    a.remove(pool)
    a.release(pool, a.give(pool))
    a.remove(pool)
    assert cluster.held_keys() == []
    with pytest.raises(NoSuchPool, match="not in use on this host; if Docker has a network there, remove it"):
        a.give(pool)


@pytest.mark.parametrize("range_", [None, "10.240.1.0/26"])
def test_a_release_that_is_repeated_takes_no_address_from_another_network(a: Host, b: Host, range_: str | None) -> None:
    pool = a.create(range_=range_, routed=False)
    a.create(range_=range_, routed=False)
    b.create()
    worn = a.give(pool).ip
    for _ in range(3):  # of the first network, and then by a dockerd that died in the middle of it
        a.remove(pool)
        a.restart()
        with pytest.raises(AddressTaken):
            b.give(PoolId(WEB), str(worn))
    assert worn not in {a.give(pool).ip for _ in range(40)}
    for address in [address for address in a.ipam.leases()[WEB] if address not in (worn, a.journal.pool(WEB).gateway)]:
        a.release(pool, str(address))
    a.remove(pool)
    assert a.journal.is_held(WEB)
    a.release(pool, str(worn))
    a.remove(pool)
    assert not a.journal.is_held(WEB)
    assert b.give(PoolId(WEB), str(worn))


def test_what_was_released_without_the_store_is_given_back_later(a: Host, cluster: Cluster) -> None:
    pool = a.create()
    a.line.cut = True
    a.remove(pool)
    a.line.cut = False
    a.restart()
    assert cluster.held_keys()
    a.settle()
    assert cluster.held_keys() == []


def test_releasing_what_nobody_has_is_fine(a: Host) -> None:
    pool = PoolId.parse("10.99.0.0/24")
    a.remove(pool)
    a.release(pool, "10.99.0.5")


def test_a_host_address_is_one_of_its_own_and_spared_in_tiny_pools(a: Host, b: Host) -> None:
    pool = a.create()
    b.create()
    mine, theirs = a.ipam.host_address(WEB), b.ipam.host_address(WEB)
    assert mine != theirs
    assert a.ipam.host_address(WEB) == mine
    assert mine not in {a.give(pool).ip for _ in range(100)}
    a.create(ip_network("10.9.0.0/29"))
    assert a.ipam.host_address(ip_network("10.9.0.0/29")) is None


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"size": "3"}, "unknown --ipam-opt size; known: block"),
        ({"block": "x"}, "--ipam-opt block=x: must be a prefix length from 18 to 32"),
        ({"block": "17"}, "must be a prefix length from 18"),
        ({"block": "33"}, "must be a prefix length"),
    ],
)
def test_wrong_ipam_options_are_refused(cluster: Cluster, a: Host, options: dict[str, str], sentence: str) -> None:
    with pytest.raises(BadRequest, match=sentence):
        a.create(options=options)
    assert cluster.held_keys() == []


@pytest.mark.parametrize("pool", ["10.0.0.0/7", "10.0.0.0/31", "10.0.0.1/32", "fd00::/47", "fd00::/127"])
def test_pools_of_an_odd_size_are_refused(a: Host, pool: str) -> None:
    with pytest.raises(BadRequest, match="a pool is a"):
        a.create(ip_network(pool, strict=False), v6=":" in pool)


def test_a_block_size_holds_for_all_hosts(a: Host, b: Host) -> None:
    a.create(options={"block": "28"})
    with pytest.raises(PoolConflict, match="blocks of /28 in the cluster, not /26"):
        b.create(options={"block": "26"})
    b.create()


# borrowing


def test_a_wanted_address_in_another_hosts_block_is_borrowed_and_returned(cluster: Cluster, a: Host, b: Host) -> None:
    pool = a.create()
    b.create()
    first = a.give(pool)
    a.release(pool, first)
    assert b.give(pool, str(first.ip)) == first
    assert f"pools/10.240.0.0-18/borrowed/{first.ip}" in cluster.held_keys()
    with pytest.raises(AddressTaken, match="already in use on host b, which borrowed it"):
        a.give(pool, str(first.ip))
    with pytest.raises(AddressTaken, match="already in use on this host"):
        b.give(pool, str(first.ip))
    c = cluster.host("c")
    c.create()
    with pytest.raises(AddressTaken, match="in use on host b, which borrowed it"):
        c.give(pool, str(first.ip))
    b.release(pool, first)
    assert c.give(pool, str(first.ip)) == first
    c.release(pool, first)
    assert a.give(pool, str(first.ip)) == first


def test_a_release_that_is_repeated_takes_no_address_from_the_host_that_borrowed_it(a: Host, b: Host) -> None:
    """As a dockerd says it that died in the middle of it, when it starts."""
    pool, _ = a.create(), b.create()
    first = a.give(pool)
    a.release(pool, first)
    assert b.give(pool, str(first.ip)) == first
    a.release(pool, first)
    with pytest.raises(AddressTaken, match="already in use on host b, which borrowed it"):
        a.give(pool, str(first.ip))
    b.release(pool, first)
    assert a.give(pool, str(first.ip)) == first


@pytest.mark.parametrize("whose", ["borrower", "holder", "third"])
def test_a_borrowed_address_that_came_back_is_whosoever_wants_it_and_nobody_has_to_answer(
    cluster: Cluster, a: Host, b: Host, whose: str
) -> None:
    """A rebooting Docker gives it back, and asks for it again: its holder may be off by then."""
    c = cluster.host("c")
    pool, *_ = [host.create() for host in (a, b, c)]
    first = a.give(pool)
    a.release(pool, first)
    b.give(pool, str(first.ip))
    b.release(pool, first)
    b.restart()
    b.settle()
    wants = {"borrower": b, "holder": a, "third": c}[whose]
    for host in (a, b, c):
        host.asleep = host is not wants
    assert wants.give(pool, str(first.ip)) == first
    for host in (a, b, c):
        host.asleep = False
        host.settle()
    for host in (a, b, c):
        with pytest.raises(AddressTaken):
            host.give(pool, str(first.ip))


def test_a_borrowed_address_that_came_back_is_its_holders_in_the_end(cluster: Cluster, a: Host, b: Host) -> None:
    pool = a.create()
    b.create()
    first = a.give(pool)
    a.release(pool, first)
    b.give(pool, str(first.ip))
    b.release(pool, first)
    b.clock.now += IDLE_TIME - 1
    b.settle()
    a.settle()
    assert a.journal.pool(WEB).lent == [first.ip]
    b.clock.now += 2
    b.settle()
    a.settle()
    assert a.journal.pool(WEB).lent == []
    assert not any("/borrowed/" in key for key in cluster.held_keys())


def test_a_pool_is_used_to_its_last_address_with_idle_ones_too(cluster: Cluster, a: Host, b: Host) -> None:
    tiny = ip_network("10.9.0.0/28")
    pool = a.create(tiny)
    b.create(tiny)
    given = fill(tiny, pool, a, b)
    for address in given:
        a.release(pool, str(address))
        b.release(pool, str(address))
    assert fill(tiny, pool, b, a) == given


def fill(pool: IPNetwork, pool_id: PoolId, *hosts: Host) -> set[IPAddress]:
    """All that the hosts can be given, mostly the first of them."""
    given: set[IPAddress] = set()
    for host in hosts:
        while True:
            for each in hosts:
                each.tell(pool)
            try:
                given.add(host.give(pool_id).ip)
            except PoolExhausted:
                break
    return given


def test_a_holder_that_does_not_answer_lends_nothing(a: Host, b: Host) -> None:
    pool = a.create()
    b.create()
    first = a.give(pool)
    a.release(pool, first)
    a.asleep = True
    with pytest.raises(AddressTaken, match=r"which host a holds; that host did not answer in 0 s"):
        b.give(pool, str(first.ip))
    a.asleep = False
    a.ipam.answer_wishes(WEB)
    assert a.give(pool, str(first.ip)) == first


def test_a_pool_is_used_to_its_last_address_by_any_mix_of_hosts(cluster: Cluster) -> None:
    tiny = ip_network("10.9.0.0/28")
    hosts = [cluster.host(f"h{n}") for n in range(7)]
    pools = [host.create(tiny) for host in hosts]
    given: list[IPAddress] = []
    for _ in range(13):
        host = hosts[len(given) % 7]
        for known in cluster.hosts:
            known.tell(tiny)
        given.append(host.give(pools[0]).ip)
    assert sorted(given) == [ip_address(f"10.9.0.{n}") for n in range(2, 15)]
    for host in hosts:
        host.tell(tiny)
    with pytest.raises(
        PoolExhausted, match=r"pool 10\.9\.0\.0/28 \(16 addresses\) has no free address left; most blocks: h\d \d"
    ):
        hosts[3].give(pools[0])


def test_a_pool_that_is_full_but_for_hosts_that_do_not_answer_names_them(a: Host, b: Host) -> None:
    pool = a.create(ip_network("10.9.0.0/28"))
    b.create(pool.pool)
    b.asleep = True
    given, said = give_all(a, pool)
    free = 16 - 3 - len(given)
    assert said == (
        f"pool 10.9.0.0/28 (16 addresses) has free addresses on hosts alone that do not answer: b {free}; see whether "
        "flannelpy runs there"
    )
    assert free > 0


def give_all(host: Host, pool: PoolId) -> tuple[list[IPInterface], str]:
    """And what is said then."""
    given = []
    try:
        while True:
            given.append(host.give(pool))
    except PoolExhausted as error:
        return given, str(error)


def test_hosts_that_do_not_answer_keep_nobody_from_a_fourth(cluster: Cluster) -> None:
    """And the next request asks them last."""
    pool = ip_network("10.9.0.0/27")
    a = Host("a", cluster, patience=3.0)
    holders = [cluster.host(name) for name in "bcde"]
    for host in (*holders, a):  # and so a has no block
        ids = host.create(pool, options={"block": "29"})
    *silent, lender = holders
    lender.give(ids)
    lender.tell(pool)  # all others seem to have more
    for host in silent:
        host.asleep = True
    clock = a.ipam._loans._lending.clock
    assert a.give(ids)
    began = clock()
    assert a.give(ids)
    assert clock() - began < 2


@pytest.mark.parametrize("text", ["10.9.0.0/30", "10.9.0.0/29", "fd09::/126", "fd09::/120", "10.0.0.0/8", "fd09::/48"])
def test_any_size_of_pool_serves(cluster: Cluster, a: Host, b: Host, text: str) -> None:
    pool = ip_network(text)
    ids = [host.create(pool, v6=pool.version == 6) for host in (a, b)]
    given = []
    for turn in range(6):
        for host in (a, b):
            host.tell(pool)
        try:
            given.append((a, b)[turn % 2].give(ids[0]).ip)
        except PoolExhausted:
            break
    usable = pool.num_addresses - (3 if pool.version == 4 else 2)
    assert len(given) == len(set(given)) == min(usable, 6)


def test_a_borrowed_address_survives_its_blocks_holder(cluster: Cluster, a: Host, b: Host) -> None:
    pool = a.create()
    b.create()
    first = a.give(pool)
    a.release(pool, first)
    b.give(pool, str(first.ip))
    a.remove(pool)
    c = cluster.host("c")
    c.create()
    c.give(pool, str(first.ip + 1))  # takes that very block
    with pytest.raises(AddressTaken, match="in use on host b"):
        c.give(pool, str(first.ip))
    assert first.ip not in {c.give(pool).ip for _ in range(100)}
    b.release(pool, first)
    c.settle()
    assert c.give(pool, str(first.ip)) == first


# the lease


def test_a_silent_host_stops_giving_before_anybody_may_reclaim(a: Host) -> None:
    pool = a.create()
    a.line.cut = True
    a.clock.now += TTL * 0.89
    assert a.give(pool)
    a.clock.now += TTL * 0.02
    with pytest.raises(LeaseLapsed, match="has not reached the store for 910 s"):
        a.give(pool)
    a.line.cut = False
    assert a.give(pool)


def test_a_host_that_was_never_heard_of_says_so(cluster: Cluster, a: Host) -> None:
    new = Host("new", cluster)
    assert new.tenancy.is_new
    with pytest.raises(LeaseLapsed, match="has no lease yet"):
        new.tenancy.refuse_if_fenced()
    new.tenancy.beat()
    assert not new.tenancy.is_new
    new.tenancy.refuse_if_fenced()


def test_what_took_so_long_to_write_that_the_lease_ended_is_not_given(a: Host) -> None:
    pool = a.create()
    journal = a.journal.pool(WEB)
    give = journal.give

    def slowly(pool_id: PoolId, address: IPAddress, kind: str) -> None:
        give(pool_id, address, kind)
        a.clock.now += TTL

    journal.give = slowly  # type: ignore[method-assign]
    with pytest.raises(LeaseLapsed):
        a.give(pool)
    assert not any(lease.released is None for lease in journal.leases.values())


@pytest.mark.parametrize("clock", ["wall", "boot"])
def test_the_clock_that_says_longer_counts(a: Host, clock: str) -> None:
    pool = a.create()
    a.line.cut = True
    a.clock.now += TTL if clock == "boot" else 0
    a.clock.off += TTL if clock == "wall" else -TTL
    with pytest.raises(LeaseLapsed):
        a.give(pool)


def test_after_a_reboot_the_wall_clock_alone_counts(a: Host) -> None:
    pool = a.create()
    a.line.cut = True
    a.clock.booted, a.clock.now, a.clock.off = "second", 5.0, 10_000.0
    a.restart()
    assert a.give(pool)
    a.clock.off += TTL
    with pytest.raises(LeaseLapsed):
        a.give(pool)


def watch(host: Host, seconds: float) -> None:
    """The host looks at the others, again and again, for so long."""
    end = host.clock.now + seconds
    while host.clock.now < end:
        host.clock.now += host.tenancy.period
        host.tenancy.beat()
        host.reclaimer.look()


def test_a_host_silent_for_the_whole_time_is_given_up_and_not_before(cluster: Cluster, a: Host, b: Host) -> None:
    a.create()
    pool = b.create()
    b.give(pool)
    a.tenancy.beat()
    watch(a, TTL * 0.99)
    assert any("/holders/b" in key for key in cluster.held_keys())
    watch(a, TTL * 0.1)
    assert not any(key.endswith("/b") for key in cluster.store.read("").entries)
    assert len([key for key in cluster.held_keys() if "/blocks/" in key]) == 1


def test_a_host_with_a_shorter_lease_time_waits_for_those_with_a_longer_one(cluster: Cluster, a: Host) -> None:
    """While a setting is rolled out, a host with the old one still gives addresses out."""
    hasty = Host("hasty", cluster, ttl=TTL / 10)
    pool = a.create()
    a.line.cut = True
    hasty.create()
    watch(hasty, TTL * 0.85)
    a.clock.now += TTL * 0.85
    assert a.give(pool)
    assert any("/holders/a" in key for key in cluster.held_keys())
    watch(hasty, TTL * 0.2)
    assert not any("/holders/a" in key for key in cluster.held_keys())


def test_a_longer_lease_time_holds_once_the_others_have_heard_of_it(a: Host) -> None:
    pool = a.create()
    a.line.cut = True
    a.ttl = 10 * TTL
    a.restart()
    a.clock.now += TTL * 0.95
    with pytest.raises(LeaseLapsed):
        a.give(pool)
    a.line.cut = False
    assert a.give(pool)
    a.line.cut = True
    a.clock.now += TTL * 8
    assert a.give(pool)


def test_time_that_nobody_watched_does_not_count(cluster: Cluster, a: Host, b: Host) -> None:
    a.create()
    b.create()
    watch(a, TTL * 0.9)
    a.clock.now += TTL
    a.tenancy.beat()
    a.reclaimer.look()
    watch(a, TTL * 0.9)
    assert any("/holders/b" in key for key in cluster.held_keys())


def test_a_beat_at_the_last_moment_saves_a_host(cluster: Cluster, a: Host, b: Host) -> None:
    a.create()
    b.create()
    watch(a, TTL * 0.95)
    b.tenancy.beat()
    watch(a, TTL * 0.95)
    assert any("/holders/b" in key for key in cluster.held_keys())


def test_a_host_that_returns_keeps_what_is_still_free_and_loses_what_is_not(
    cluster: Cluster, a: Host, b: Host, caplog: pytest.LogCaptureFixture
) -> None:
    pool = a.create()
    b.create()
    lost, kept = b.give(pool, "10.240.30.3"), b.give(pool, "10.240.50.5")
    b.line.cut = True
    b.clock.now += TTL
    watch(a, TTL * 1.1)
    taken = a.give(pool, "10.240.30.9")
    with pytest.raises(LeaseLapsed):
        b.give(pool)
    b.line.cut = False
    given = {b.give(pool).ip for _ in range(100)}
    assert lost.ip not in given
    assert kept.ip not in given
    assert not any(ip in taken.network for ip in given)
    assert "the lease of this host was lost" in caplog.text
    assert "block lost to another host" in caplog.text
    a.create(ip_network("10.9.0.0/24"))


def test_a_second_machine_of_the_same_name_gets_nothing(cluster: Cluster, a: Host) -> None:
    pool = a.create()
    twin = Host("a", cluster)
    with pytest.raises(NameTaken, match="another machine, or an earlier installation, is host a"):
        twin.create()
    assert a.give(pool)


def test_an_emptied_store_frees_nothing(cluster: Cluster, a: Host, b: Host) -> None:
    a.create()
    b.create()
    watch(a, TTL * 0.9)
    hidden = MemoryStore()
    real, cluster.store = cluster.store, hidden
    a.reclaimer.look()
    cluster.store = real
    watch(a, TTL * 0.5)
    assert any("/holders/b" in key for key in cluster.held_keys())


def test_the_next_block_is_taken_before_the_last_is_full(cluster: Cluster, a: Host) -> None:
    pool = a.create()
    for _ in range(50):
        a.give(pool)
        a.ipam.keep_in_hand()
    a.line.cut = True
    assert len({a.give(pool).ip for _ in range(70)}) == 70


def test_the_next_block_of_a_range_is_taken_before_the_last_is_full(cluster: Cluster, a: Host) -> None:
    pool = a.create(range_="10.240.1.0/25")
    for _ in range(50):
        a.give(pool)
        a.ipam.keep_in_hand()
    a.line.cut = True
    assert len({a.give(pool).ip for _ in range(70)}) == 70


def test_a_full_range_takes_no_block_beside_it(cluster: Cluster, a: Host) -> None:
    pool = a.create(range_="10.240.1.64/27")
    for _ in range(32):
        a.give(pool)
        a.ipam.keep_in_hand()
    assert len(a.journal.pool(WEB).blocks) == 1


def test_no_request_waits_while_the_next_block_is_asked_for_of_a_store_that_hangs(cluster: Cluster, a: Host) -> None:
    pool = a.create()
    for _ in range(50):
        a.give(pool)
    a.line = line = Hanging(cluster, "a")
    a.restart()
    with ThreadPoolExecutor(1) as threads:
        kept = threads.submit(a.ipam.keep_in_hand)
        assert line.asked.wait(10)
        given = a.give(pool)
        assert not kept.done()
        line.over.set()
        with pytest.raises(StoreUnavailable):
            kept.result()
    assert given.ip in a.journal.pool(WEB).leases


# name spaces


def test_networks_of_their_own_name_may_have_the_same_pool(cluster: Cluster, a: Host) -> None:
    def manager(space: str) -> Ipam:
        seen = Space(a.line, space)
        pools = Pools(seen, "a", PLAN, a.tenancy, list)
        journal = Journal(Prefixed(a.disk, f"spaces/{space}/"), a.clock.wall)
        commons, lending = Commons(seen, pools, a.tenancy), Lending(seen, "a", a.tenancy)
        return Ipam(journal, pools, commons, lending, a.tenancy, lambda _: False)

    network = ip_network("10.8.0.0/24")
    spaces = Spaces(a.ipam, [], manager, lambda pool: pool == network)
    spaces.release_pool(spaces.request_pool(PoolRequest(network, None))[0])
    with pytest.raises(PoolConflict, match="is a network of flannelpy's own driver on this host"):
        spaces.request_pool(PoolRequest(network, None, {"network": "lan"}))
    ids = []
    for options in ({}, {"network": "lan"}, {"network": "dmz", "block": "26"}):
        pool_id, _ = spaces.request_pool(PoolRequest(ip_network("10.9.0.0/24"), None, options))
        assert str(spaces.request_address(AddressRequest(pool_id, None, gateway=True))) == "10.9.0.1/24"
        assert spaces.request_address(AddressRequest(pool_id, ip_address("10.9.0.7"))) == ip_interface("10.9.0.7/24")
        assert PoolId.parse(str(pool_id)) == pool_id
        ids.append(pool_id)
    assert [str(pool_id) for pool_id in ids] == ["10.9.0.0/24", "lan@10.9.0.0/24", "dmz@10.9.0.0/24"]
    assert set(spaces.held()) == set(ids)
    again = Spaces(a.ipam, ["lan", "dmz"], manager)
    assert set(again.held()) == set(ids)
    with pytest.raises(BadRequest, match="--ipam-opt network=a/b: must be"):
        spaces.request_pool(PoolRequest(ip_network("10.9.0.0/24"), None, {"network": "a/b"}))
    with pytest.raises(NoSuchPool):
        spaces.request_address(AddressRequest(PoolId.parse("wan@10.9.0.0/24")))
    watch(cluster.host("b"), TTL * 1.2)
    assert cluster.held_keys() == []
    for pool_id in ids:
        spaces.release_pool(pool_id)
    assert cluster.held_keys() == []


def test_the_hosts_own_address_stays_when_a_second_network_of_the_pool_is_refused(a: Host) -> None:
    pool = a.create(range_="10.240.1.0/27")
    mine = a.ipam.host_address(WEB)
    other, _ = a.ipam.request_pool(PoolRequest(WEB, None))
    a.ipam.release_pool(other)
    a.clock.now += REST + 1
    assert a.ipam.host_address(WEB) == mine
    assert mine not in {a.give(pool).ip for _ in range(20)}
    with pytest.raises(AddressTaken):
        a.give(pool, str(mine))


def test_an_address_that_came_back_from_its_borrower_is_given_at_once_when_the_pool_is_full(a: Host, b: Host) -> None:
    tiny = ip_network("10.9.0.0/30")  # one address for containers
    pool = a.create(tiny)
    b.create(tiny)
    holder, borrower = (
        (a, b) if any(ip_address("10.9.0.2") in block for block in a.journal.pool(tiny).blocks) else (b, a)
    )
    only = borrower.give(pool, "10.9.0.2")
    with pytest.raises(PoolExhausted):
        holder.give(pool)
    borrower.release(pool, only)
    assert holder.give(pool) == only


# --- Docker's own IPAM


def test_a_pool_of_dockers_own_is_given_out_by_docker_alone(a: Host) -> None:
    """Were it ours for another driver's network, both would give the lowest address to their first container."""
    pool = ip_network("10.230.0.0/24")
    assert a.ipam.adopt(pool, ip_address("10.230.0.1")) is None
    with pytest.raises(PoolConflict, match="belongs to Docker's own IPAM on this host"):
        a.create(pool, routed=False)
    a.ipam.keep_in_hand()
    assert list(a.journal.pool(pool).blocks) == [pool]
    a.ipam.disown(pool)
    assert a.cluster.held_keys() == []
    assert a.create(pool, routed=False)


def test_a_wide_pool_of_dockers_own_costs_nothing(a: Host) -> None:
    """It was a list of its sixteen million addresses."""
    began = time.process_time()
    assert a.ipam.adopt(ip_network("10.0.0.0/8"), ip_address("10.0.0.1")) is None
    a.restart()
    assert time.process_time() - began < 1


# --- clocks


def test_a_clock_set_back_hides_no_address(a: Host) -> None:
    pool = a.create(ip_network("10.230.0.0/29"))
    given = [a.give(pool) for _ in range(5)]
    for address in given:
        a.release(pool, address)
    a.clock.off -= 3600
    assert {a.give(pool) for _ in range(5)} == set(given)
