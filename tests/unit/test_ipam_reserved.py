"""An --aux-address is asked for like a container's address. Once it is the cluster's, no container has it on any host,
and a network that names it can be made on each."""

from collections.abc import Callable
from contextlib import suppress
from ipaddress import ip_address, ip_network

import pytest

from cluster.auxiliary import Auxiliaries
from cluster.engine import EnginePool, ListedNetwork, read_shape
from cluster.reclaim import give_up
from ipam.blocks import is_usable
from ipam.book import REST
from ipam.creating import MAKING
from ipam.errors import AddressTaken, PoolExhausted
from ipam.model import AddressRequest, PoolId, PoolRequest
from ipam.spaces import Spaces
from store import records
from store.interface import StoreUnavailable
from store.ip import IPAddress, IPInterface, IPNetwork
from tests.unit.ipam_faults import DIE_AFTER, DIE_BEFORE, LATE, LIVE, NO_ANSWER, Dead, Fragile
from tests.unit.ipam_hosts import WEB, Cluster, Host, Line

LAN = ip_network("10.77.0.0/24")
V6 = ip_network("fd77::/64")
ROUTER = ip_address("10.77.0.5")
SOME = "10.77.0.200"


class Docker:
    """A host's Engine, and a network of another driver with an --aux-address that it makes and removes."""

    def __init__(
        self, host: Host, *auxiliary: IPAddress, pool: IPNetwork = LAN, range_: IPNetwork | None = None
    ) -> None:
        self.host, self.auxiliary, self.pool = host, auxiliary, pool
        self.id, self.networks = PoolId(pool, range_), 0
        self._agent = Auxiliaries(Spaces(host.ipam, (), lambda _: host.ipam))

    def is_listed(self) -> None:
        """The agent asks which networks there are."""
        shape, pool = read_shape({"Name": "lan", "Driver": "macvlan"}), EnginePool(self.id, frozenset(self.auxiliary))
        listed = [ListedNetwork(f"n{number}", shape, (pool,)) for number in range(self.networks)]
        self._agent.networks(listed, self.host.clock.wall())

    def create(self) -> None:
        self.ask()
        self.appear()

    def appear(self) -> None:
        self.networks += 1
        self.host.clock.now += 1
        self.is_listed()

    def ask(self) -> None:
        """What it asks before it lists the network."""
        self.host.ipam.request_pool(PoolRequest(self.pool, self.id.range))
        self.host.ipam.request_address(AddressRequest(self.id, None, gateway=True))
        try:
            for address in self.auxiliary:
                assert self.host.ipam.request_address(AddressRequest(self.id, address)).ip == address
        except AddressTaken:
            self.host.ipam.release_pool(self.id)
            raise

    def remove(self) -> None:
        for address in self.auxiliary:
            self.host.ipam.release_address(self.id, address)
        self.networks -= 1
        self.host.remove(self.id)

    def run(self, address: IPAddress | None = None) -> IPInterface:
        """A container."""
        return self.host.give(self.id, str(address) if address else None)


def test_the_same_aux_address_serves_a_network_on_every_host_and_a_container_on_none(a: Host, b: Host) -> None:
    hosts = Docker(a, ROUTER), Docker(b, ROUTER)
    for docker in hosts:
        docker.create()
    for docker in hosts:
        with pytest.raises(AddressTaken, match=f"address {ROUTER} is reserved in pool {LAN}; choose another"):
            docker.run(ROUTER)
    given = {docker.run().ip for docker in hosts for _ in range(100)}
    assert len(given) == 200
    assert ROUTER not in given


def test_an_aux_address_may_lie_outside_of_the_range(a: Host, b: Host) -> None:
    part = next(part for part in LAN.subnets(new_prefix=LAN.prefixlen + 4) if ROUTER not in part and LAN[1] not in part)
    hosts = Docker(a, ROUTER, range_=part), Docker(b, ROUTER, range_=part)
    for docker in hosts:
        docker.create()
    for docker in hosts:
        assert docker.run().ip in part
        with pytest.raises(AddressTaken, match="is reserved"):
            docker.run(ROUTER)


def test_a_host_that_did_not_name_it_gives_it_to_nobody_either(a: Host, b: Host) -> None:
    Docker(a, ROUTER).create()
    other = Docker(b)
    other.create()
    with pytest.raises(AddressTaken, match="is reserved"):
        other.run(ROUTER)


@pytest.mark.parametrize("owner", ["a", "b"])
def test_an_aux_address_that_a_container_has_is_refused(cluster: Cluster, a: Host, b: Host, owner: str) -> None:
    hosts = {"a": Docker(a), "b": Docker(b)}
    for docker in hosts.values():
        docker.create()
    taken = hosts[owner].run().ip
    for docker in hosts.values():
        with pytest.raises(AddressTaken, match=f"address {taken} is already in use on .*; choose another"):
            Docker(docker.host, taken).create()
        docker.is_listed()
        assert docker.host.ipam.held()[docker.id].uses == 1
    assert a.commons.reserved(LAN) == ()
    hosts[owner].host.release(hosts[owner].id, str(taken))


def test_it_is_free_again_when_the_last_network_is_gone(cluster: Cluster, a: Host, b: Host) -> None:
    hosts = Docker(a, ROUTER), Docker(b, ROUTER)
    for docker in hosts:
        docker.create()
    hosts[0].remove()
    with pytest.raises(AddressTaken, match="is reserved"):
        hosts[1].run(ROUTER)
    hosts[1].remove()
    assert cluster.held_keys() == []
    again = Docker(b)
    again.create()
    assert again.run(ROUTER).ip == ROUTER


def test_it_stays_reserved_when_its_only_host_comes_back_after_the_lease(cluster: Cluster, a: Host, b: Host) -> None:
    """The pool went with the host, but the host's network is still there."""
    docker = Docker(a, ROUTER)
    docker.create()
    entry = cluster.store.get(records.host_key("a"))
    assert entry is not None
    assert give_up(cluster.store, "a", entry.version)
    assert cluster.held_keys() == []
    a.tenancy.beat()
    other = Docker(b, ROUTER)
    other.create()
    for one in (docker, other):
        with pytest.raises(AddressTaken, match="is reserved"):
            one.run(ROUTER)


def test_a_container_that_came_while_the_engine_was_asked_keeps_its_address(a: Host) -> None:
    docker = Docker(a, ROUTER)
    docker.create()
    other = ip_address("10.77.0.9")
    a.clock.now += 1
    docker.run(other)
    with pytest.raises(AddressTaken):
        a.ipam.reserve({LAN: [other]}, a.clock.wall() - 0.5)
    assert a.journal.pool(LAN).is_given(other)
    assert a.commons.reserved(LAN) == (ROUTER,)


def test_it_is_granted_once_to_each_create(a: Host, b: Host) -> None:
    Docker(a, ROUTER).create()
    docker = Docker(b, ROUTER)
    docker.ask()
    with pytest.raises(AddressTaken, match="is reserved"):
        docker.run(ROUTER)
    docker.host.remove(docker.id)
    b.clock.now += 1
    docker.ask()


@pytest.mark.parametrize("since", [MAKING + 1, -1])
def test_it_is_granted_for_a_while_after_docker_asked_for_the_pool(a: Host, b: Host, since: float) -> None:
    Docker(a, ROUTER).create()
    docker = Docker(b)
    docker.ask()
    b.clock.now += since  # or the clock was set back
    with pytest.raises(AddressTaken, match="is reserved"):
        docker.run(ROUTER)


def test_it_is_granted_to_no_container_of_a_network_that_docker_lists(a: Host, b: Host) -> None:
    Docker(a, ROUTER).create()
    docker = Docker(b)
    docker.ask()
    docker.networks += 1
    b.clock.now += 1
    docker.is_listed()
    with pytest.raises(AddressTaken, match="is reserved"):
        docker.run(ROUTER)


def test_what_docker_listed_before_it_asked_says_nothing_of_a_create(a: Host, b: Host) -> None:
    """A network is removed and made anew."""
    Docker(a, ROUTER).create()
    before = b.clock.wall()
    b.clock.now += 1
    docker = Docker(b)
    docker.ask()
    b.ipam.listed({docker.id: 1}, before)
    assert docker.run(ROUTER).ip == ROUTER


def test_a_second_network_of_a_pool_may_name_it_too(a: Host, b: Host) -> None:
    docker = Docker(a, ROUTER)
    docker.create()
    docker.create()
    with pytest.raises(AddressTaken, match="is reserved"):
        docker.run(ROUTER)


@pytest.mark.parametrize("other", [PoolId(LAN, ip_network("10.77.0.0/28")), PoolId(LAN, space="lan")])
def test_networks_of_other_ranges_and_spaces_are_others(a: Host, b: Host, other: PoolId) -> None:
    Docker(a, ROUTER).create()
    docker = Docker(b)
    docker.ask()
    Spaces(b.ipam, (), lambda _: b.ipam).listed({other: 1}, b.clock.wall() + 1)
    assert docker.run(ROUTER).ip == ROUTER


def test_a_pool_that_was_let_go_meanwhile_is_not_joined_again(cluster: Cluster, a: Host) -> None:
    a.ipam.reserve({LAN: [ROUTER]})
    assert cluster.held_keys() == []


# on several hosts at once, and in another host's block


def test_two_hosts_may_make_it_at_the_same_moment(a: Host, b: Host) -> None:
    """As a tool does that types one command on all hosts."""
    first, second = Docker(a, ROUTER), Docker(b, ROUTER)
    first.ask()
    b.pause = lambda _: first.appear()
    second.create()
    for docker in (first, second):
        with pytest.raises(AddressTaken, match="is reserved"):
            docker.run(ROUTER)


def test_a_create_that_fails_elsewhere_is_not_waited_for_for_ever(a: Host, b: Host) -> None:
    pauses = list[float]()
    Docker(a, ROUTER).ask()
    b.pause = pauses.append
    with pytest.raises(AddressTaken, match=f"address {ROUTER} is already in use on host a; choose another"):
        Docker(b, ROUTER).create()
    assert 1 < sum(pauses) < 3
    pauses.clear()
    docker = Docker(b)
    docker.create()
    with pytest.raises(AddressTaken, match="is already in use on host a"):
        docker.run(ROUTER)
    assert pauses == []  # a container is not kept waiting


def test_it_may_be_in_a_block_that_another_host_holds(cluster: Cluster, a: Host, b: Host) -> None:
    holder = Docker(b)
    holder.create()
    theirs = free_address_of(b)
    borrower, third = Docker(a, theirs), Docker(cluster.host("c"), theirs)
    for docker in (borrower, third):
        docker.create()
    again = Docker(b, theirs)
    again.create()
    for docker in (holder, borrower, third):
        with pytest.raises(AddressTaken, match="is reserved"):
            docker.run(theirs)


def test_it_is_given_to_no_container_when_its_holder_removes_one_of_the_networks(a: Host, b: Host) -> None:
    """Docker lets it go with each of them, and another host has borrowed it."""
    small = ip_network("10.77.0.0/28")
    holder = Docker(b, pool=small)
    holder.create()
    theirs = free_address_of(b, small)
    Docker(a, theirs, pool=small).create()
    second = Docker(b, theirs, pool=small)
    second.create()
    second.remove()
    b.clock.now += REST + 1
    assert theirs not in {holder.run().ip for _ in range(6)}


def test_it_may_be_the_first_address_where_docker_asks_for_no_gateway(a: Host, b: Host) -> None:
    """As Engines from 29 on for macvlan and ipvlan, and 28 with --internal. The pool has a gateway all the same."""
    router = LAN[1]
    for host in (a, b):
        pool_id, _ = host.ipam.request_pool(PoolRequest(LAN, None))
        assert host.give(pool_id, str(router)).ip == router
        host.reserve(LAN, str(router))
    given = {host.give(PoolId(LAN)).ip for host in (a, b) for _ in range(14)}
    assert len(given) == 28
    assert router not in given


def test_a_pool_with_very_many_of_them_is_used_to_its_last_address(a: Host, b: Host) -> None:
    """Each looks like a free address of its block; to ask the holder for one after the other took too long."""
    pool_id = a.create(LAN, options={"block": "25"})
    b.create(LAN)
    last, *others = given_until_full(a, pool_id, 125)
    a.reserve(LAN, *map(str, others))
    a.release(pool_id, str(last))
    a.tell(LAN)
    assert last in given_until_full(b, pool_id)


def given_until_full(host: Host, pool_id: PoolId, most: int = 256) -> list[IPAddress]:
    given: list[IPAddress] = []
    with suppress(PoolExhausted):
        while len(given) < most:
            given.append(host.give(pool_id).ip)
    return given


@pytest.mark.parametrize("settled", [True, False])
def test_it_stays_reserved_when_the_borrower_is_gone(cluster: Cluster, a: Host, b: Host, settled: bool) -> None:
    small = ip_network("10.77.0.0/28")
    holder, other = Docker(b, pool=small), Docker(cluster.host("c"), pool=small)
    holder.create()
    theirs = free_address_of(b, small)
    borrower = Docker(a, theirs, pool=small)
    borrower.create()
    other.create()
    borrower.remove()
    if settled:
        a.settle()
        b.settle()
    for docker in (holder, other):
        with pytest.raises(AddressTaken, match="is reserved"):
            docker.run(theirs)
    given = {docker.run().ip for docker in (holder, other) for _ in range(6)}
    assert len(given) == small.num_addresses - 4  # the gateway, the first, the last, and the reserved one
    assert theirs not in given


def free_address_of(host: Host, pool: IPNetwork = LAN) -> IPAddress:
    gateway = host.journal.pool(pool).gateway
    [block] = host.journal.pool(pool).blocks
    return next(address for address in block if is_usable(pool, address) and address != gateway)


# our own driver's networks, and what a create that failed leaves


def test_aux_addresses_are_kept_from_everybody_and_the_same_on_every_host(a: Host, b: Host) -> None:
    aux = ip_address("10.240.5.5")
    for host in (a, b):
        pool, _ = host.ipam.request_pool(PoolRequest(WEB, None))
        host.ipam.request_address(AddressRequest(pool, None, gateway=True))
        assert host.ipam.request_address(AddressRequest(pool, aux)).ip == aux
        host.ipam.reserve({WEB: [aux]})
        host.routed.add(WEB)
    for host in (a, b):
        with pytest.raises(AddressTaken):
            host.give(pool, "10.240.5.5")
    a.give(pool, "10.240.5.6")
    given = {a.give(pool).ip for _ in range(300)}
    assert aux not in given


def test_where_one_aux_address_is_taken_none_is_reserved(a: Host, b: Host) -> None:
    pool, _ = a.create(), b.create()
    taken = [host.give(pool).ip for host in (a, b)]
    free = a.give(pool).ip
    a.release(pool, str(free))
    nobodys = ip_address("10.240.63.5")
    for address in taken:
        with pytest.raises(AddressTaken, match=f"address {address} is in a block that host"):
            a.ipam.reserve({WEB: [free, nobodys, address]}, a.clock.wall() - 1)
    assert a.commons.reserved(WEB) == ()
    a.ipam.reserve({WEB: [free, nobodys]})
    assert set(a.commons.reserved(WEB)) == {free, nobodys}
    for address in (free, nobodys):
        with pytest.raises(AddressTaken, match="is reserved"):
            a.give(pool, str(address))


def test_of_two_pools_all_are_reserved_or_none(a: Host, b: Host) -> None:
    for host in (a, b):
        host.create(LAN)
        host.create(V6)
    theirs = b.give(PoolId(V6)).ip
    with pytest.raises(AddressTaken, match=f"address {theirs} is in a block that host b"):
        a.ipam.reserve({LAN: [ROUTER], V6: [theirs]})
    assert a.commons.reserved(LAN) == a.commons.reserved(V6) == ()
    a.ipam.reserve({LAN: [ROUTER], V6: [ip_address("fd77::ffff:0:5")]})
    assert a.commons.reserved(LAN) == (ROUTER,)
    assert a.commons.reserved(V6) == (ip_address("fd77::ffff:0:5"),)


@pytest.mark.parametrize("holder", ["a", "b"])
@pytest.mark.parametrize("fate", [DIE_BEFORE, DIE_AFTER, NO_ANSWER, LATE])
def test_an_address_is_the_clusters_or_free_whatever_write_is_the_last(fate: str, holder: str) -> None:
    for fated in range(4):
        cluster, late = Cluster(), list[Callable[[], object]]()
        a, b = cluster.host("a"), cluster.host("b")
        pool, _ = a.create(LAN), b.create(LAN)
        lender = {"a": a, "b": b}[holder]
        aux = free_address_of(lender)
        a.give(pool, str(aux))
        disk_or_line(a, fated, fate, late)
        with suppress(StoreUnavailable, Dead):
            a.reserve(LAN, str(aux))
        a.line, a.disk = Line(cluster, "a"), a.disk._inner  # type: ignore[attr-defined]
        if fate in (DIE_BEFORE, DIE_AFTER):
            a.restart()
        a.release(pool, str(aux))
        a.settle()
        for arrives in late:
            arrives()
        b.settle()
        in_cluster, journal = aux in a.commons.reserved(LAN), lender.journal.pool(LAN)
        if in_cluster:
            assert journal.is_reserved(aux) or aux in journal.lent
        else:
            assert not journal.is_reserved(aux)
            assert a.give(pool, str(aux)).ip == aux


def test_a_borrowed_one_that_docker_releases_again_without_the_store_is_given_to_nobody(a: Host, b: Host) -> None:
    pool, _ = a.create(LAN), b.create(LAN)
    aux = free_address_of(b)
    a.give(pool, str(aux))
    a.reserve(LAN, str(aux))
    for away in (True, False):
        a.line.cut = away
        a.release(pool, str(aux))
        with pytest.raises(AddressTaken, match=f"address {aux} is reserved in pool"):
            a.give(pool, str(aux))
    a.remove(pool)
    a.settle()
    with pytest.raises(AddressTaken, match=f"address {aux} is reserved in pool"):
        b.give(PoolId(LAN), str(aux))


def test_a_borrowed_one_that_is_garbage_without_the_store_is_given_to_nobody(a: Host, b: Host) -> None:
    """No network of Docker's here names it any more. One elsewhere may."""
    pool, _ = a.create(LAN), b.create(LAN)
    aux = free_address_of(b)
    a.give(pool, str(aux))
    a.reserve(LAN, str(aux))
    a.line.cut = True
    a.ipam.release_address(pool, aux, a.journal.pool(LAN).given_since(aux))
    for away in (True, False):
        a.line.cut = away
        with pytest.raises((AddressTaken, StoreUnavailable)):
            a.give(pool, str(aux))
    a.settle()
    b.settle()
    assert b.journal.pool(LAN).is_reserved(aux)


def disk_or_line(host: Host, fated: int, fate: str, late: list[Callable[[], object]]) -> None:
    """From now on, the host's write of that number meets its fate."""
    writes = iter(range(1000))

    def fate_of_next() -> str:
        return fate if next(writes) == fated else LIVE

    host.disk = Fragile(host.disk, lambda: fate_of_next() if fate in (DIE_BEFORE, DIE_AFTER) else LIVE)
    host.line.fate, host.line.late = fate_of_next, late
    host.restart()
