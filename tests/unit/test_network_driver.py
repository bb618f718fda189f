"""The network as the cluster knows it and as this host keeps it say the same; and how published ports end."""

import time
from collections.abc import Collection
from contextlib import nullcontext, suppress
from dataclasses import fields, replace
from ipaddress import IPv4Network, ip_address, ip_interface, ip_network
from typing import Any, cast

import pytest

from cluster.reclaim import give_up
from driver.agreement import network_of, spec_of
from driver.backends.interface import Underlay
from driver.errors import BadRequest, KernelError, NetworkConflict
from driver.journal import Journal
from driver.membership import Membership, derived_vni
from driver.model import Endpoint, EndpointRequest, NetworkRequest, PoolData, PortRequest
from driver.network_driver import ADDRESS_SPACE, NetworkDriver
from driver.ports import Ports
from ipam.errors import PoolConflict
from ipam.model import PoolId
from ipam.tenancy import LeaseLapsed
from store import records
from store.codec import BadRecord
from store.interface import ABSENT, Put
from store.memory import MemoryStore
from store.records import NetworkSpec
from tests.unit.ipam_hosts import Cluster
from tests.unit.test_membership import HERE

SPEC = NetworkSpec(
    pools=(ip_network("10.240.0.0/18"),),
    gateways=(ip_address("10.240.0.1"),),
    backend="host-gw",
    vni=7,
    port=4800,
    mtu=1400,
    internal=True,
    direct_routing=True,
    checksum_offload="off",
    gateway="direct",
    fast_path=True,
)


def test_nothing_of_it_is_lost_on_the_way_to_this_hosts_record_and_back() -> None:
    """Else the host would take its own network for another one."""
    unset = NetworkSpec((), (), "", 0, 0, None, False)
    kept = [f.name for f in fields(NetworkSpec) if f.name != "closing"]
    assert all(getattr(SPEC, name) != getattr(unset, name) for name in kept)
    assert spec_of(network_of("n", SPEC, SPEC.mtu)) == SPEC
    assert spec_of(replace(network_of("n", SPEC, None), mtu=None)) == replace(SPEC, mtu=None)


class Elsewhere:
    """What a driver has beside it here: it notes what would be looked at and removed."""

    mtu = HERE.mtu

    def __init__(self) -> None:
        self.looks, self.removed, self.links = 0, list[str](), set[str]()

    def underlay(self) -> Underlay:
        return replace(HERE, mtu=self.mtu)

    def foreign_tunnels(self) -> set[tuple[int, int]]:
        return set()

    def links_of(self, kind: str) -> Collection[str]:
        return self.links

    def settle(self, about: Collection[str]) -> None:
        pass

    def poke(self) -> None:
        self.looks += 1

    def remove(self, link: str) -> None:
        self.removed.append(link)


@pytest.mark.parametrize("end", ["withdraw_ports", "leave", "delete_endpoint"])
def test_a_published_port_ends_with_whichever_call_comes_first(end: str) -> None:
    """dockerd forgets to revoke what an earlier dockerd has published."""
    journal, elsewhere = Journal(MemoryStore()), Elsewhere()
    ports = Ports(journal.all_endpoints)
    others = cast(Any, elsewhere)
    driver = NetworkDriver(journal, others, others, others, ports, others)
    first, second = (Endpoint(name, "n", (ip_address("10.240.1.5"),), "02:00:00:00:00:05") for name in "ef")
    journal.put_network(network_of("n", replace(SPEC, internal=False), None))
    journal.put_endpoint(first)
    driver.publish_ports("n", first.id, [PortRequest(17, 53, ip_address("127.0.0.1"), 0, 0)])
    [published] = journal.endpoint("n", first.id).published
    again = PortRequest(17, 53, published.host_address, published.host_port, published.host_port)
    with pytest.raises(NetworkConflict, match="is taken"):
        ports.take(second, [again])
    before = elsewhere.looks
    getattr(driver, end)("n", first.id)
    assert not any(endpoint.published for endpoint in journal.all_endpoints())
    assert elsewhere.looks > before
    assert ports.take(second, [again])
    ports.release(second.id)


def test_a_port_of_a_container_that_was_lost_with_docker_is_free_and_one_that_runs_keeps_it() -> None:
    journal, elsewhere = Journal(MemoryStore()), Elsewhere()
    others = cast(Any, elsewhere)
    driver = NetworkDriver(journal, others, others, others, Ports(list), others, lambda: nullcontext(others))
    journal.put_network(network_of("n", replace(SPEC, internal=False), None))
    first, second, third = (Endpoint(name, "n", (ip_address("10.240.1.5"),), "02:00:00:00:00:05") for name in "efg")
    for endpoint in (first, second, third):
        journal.put_endpoint(endpoint)
    elsewhere.links = {first.host_link}
    driver.publish_ports("n", first.id, [PortRequest(17, 53, ip_address("127.0.0.1"), 0, 0)])
    [published] = journal.endpoint("n", first.id).published
    again = [PortRequest(17, 53, published.host_address, published.host_port, published.host_port)]
    with pytest.raises(NetworkConflict, match="is taken"):
        driver.publish_ports("n", second.id, again)
    assert journal.endpoint("n", first.id).published == (published,)
    elsewhere.links = {second.host_link}
    driver.publish_ports("n", second.id, again)
    assert journal.endpoint("n", second.id).published == (published,)
    assert journal.all_endpoints() == [journal.endpoint("n", second.id), third]  # which never had a port
    assert elsewhere.removed == [first.host_link]
    driver.withdraw_ports("n", second.id)


class BrokenKernel(Elsewhere):
    """Takes nothing."""

    def settle(self, about: Collection[str]) -> None:
        raise KernelError("no")


def test_the_command_in_a_refusal_has_all_that_was_typed() -> None:
    cluster, kernel = Cluster(), cast(Any, BrokenKernel())
    a, pool = cluster.host("a"), SPEC.pools[0]
    cluster.host("b").create(pool)
    membership = Membership(cluster.store, "a", "vxlan", str)
    driver = NetworkDriver(Journal(MemoryStore()), membership, a.ipam, kernel, Ports(list), kernel)
    docker_s_own = (PoolData(pool, ip_interface("10.240.0.1/18"), "LocalDefault"),)
    with pytest.raises(NetworkConflict) as refused:
        driver.create_network(NetworkRequest("n", docker_s_own, {"vni": "7", "backend": "vxlan"}, internal=True))
    assert str(refused.value) == (
        "pool 10.240.0.0/18 is already used in the cluster, so Docker's own IPAM cannot have it here; type: docker "
        "network create -d flannelpy --ipam-driver flannelpy -o backend=vxlan -o vni=7 --internal --subnet "
        "10.224.0.0/18 NAME"
    )


@pytest.mark.parametrize("pool", [f"{HERE.addresses[0]}/24", f"{HERE.addresses[0]}/12"])
def test_the_hosts_own_network_is_no_pool(pool: str) -> None:
    """Its routes would lead to tunnels, on each host that the network is spread to."""
    cluster, kernel = Cluster(), cast(Any, BrokenKernel())
    a, data = cluster.host("a"), PoolData(ip_network(pool, strict=False), ip_interface(pool), "flannelpy")
    a.create(data.pool)
    before = cluster.held_keys()
    membership = Membership(cluster.store, "a", "vxlan", str)
    driver = NetworkDriver(Journal(MemoryStore()), membership, a.ipam, kernel, Ports(list), kernel)
    with pytest.raises(BadRequest, match=f"holds {HERE.addresses[0]}, by which the other hosts reach this one"):
        driver.create_network(NetworkRequest("n", (data,), {}, internal=False))
    assert cluster.held_keys() == before


@pytest.mark.parametrize("others_use_it", [True, False])
def test_a_create_that_fails_in_the_kernel_reserves_nothing(others_use_it: bool) -> None:
    cluster, kernel = Cluster(), cast(Any, BrokenKernel())
    a, b = cluster.host("a"), cluster.host("b")
    pool, aux, journal = SPEC.pools[0], ip_address("10.240.5.5"), Journal(MemoryStore())
    if others_use_it:
        b.create(pool)
    before = cluster.held_keys()
    membership = Membership(cluster.store, "a", "vxlan", str)
    driver = NetworkDriver(journal, membership, a.ipam, kernel, Ports(list), kernel, lambda: nullcontext(kernel))
    pool_id = a.create(pool, routed=False)
    a.give(pool_id, str(aux))
    with pytest.raises(KernelError):
        driver.create_network(
            NetworkRequest("n", (PoolData(pool, ip_interface("10.240.0.1/18"), ADDRESS_SPACE, (aux,)),))
        )
    a.release(pool_id, str(aux))
    a.remove(pool_id)
    assert cluster.held_keys() == before
    assert b.give(b.create(pool), str(aux)).ip == aux


class OneHost:
    """Its driver and its addresses, as Docker asks them for networks of one pool."""

    def __init__(self) -> None:
        self.ipam, self.journal, kernel = Cluster().host("a"), Journal(MemoryStore()), cast(Any, Elsewhere())
        membership = Membership(self.ipam.cluster.store, "a", "vxlan", str)
        beside = (membership, self.ipam.ipam, kernel, Ports(list), kernel, lambda: nullcontext(kernel))
        self.driver = NetworkDriver(self.journal, *beside)

    def create(self, name: str, space: str) -> None:
        """Docker's own IPAM knows nothing of pools that are ours."""
        held = self.ipam.create(SPEC.pools[0]) if space == ADDRESS_SPACE else None
        data = PoolData(SPEC.pools[0], ip_interface("10.240.0.1/18"), space)
        try:
            self.driver.create_network(NetworkRequest(name, (data,)))
        except NetworkConflict:
            if held:
                self.ipam.ipam.release_pool(held)
            raise

    def networks(self) -> list[str]:
        return [network.id for network in self.journal.networks()]


@pytest.mark.parametrize("space", [ADDRESS_SPACE, "LocalDefault"])
def test_a_network_outlives_a_create_that_names_its_pool(space: str) -> None:
    """Also one without `--ipam-driver`, which somebody has forgotten to type."""
    one = OneHost()
    one.create("lives", ADDRESS_SPACE)
    one.journal.put_endpoint(Endpoint("e", "lives", (ip_address("10.240.1.5"),), "02:00:00:00:00:05"))
    for _ in range(2):
        with pytest.raises(NetworkConflict, match=r"pool 10.240.0.0/18 is already used by network lives on this host"):
            one.create("mistyped", space)
    assert one.networks() == ["lives"]
    assert one.journal.endpoints("lives")
    assert one.ipam.ipam.holders(SPEC.pools[0]) == 1


def test_a_pool_of_another_name_space_is_refused() -> None:
    """Else the network would be there until somebody sees that nobody holds its pool."""
    one = OneHost()
    data = PoolData(SPEC.pools[0], ip_interface("10.240.0.1/18"), ADDRESS_SPACE)
    with pytest.raises(BadRequest, match="--ipam-opt network=, which is for networks of other drivers"):
        one.driver.create_network(NetworkRequest("n", (data,)))
    assert one.networks() == []


@pytest.mark.parametrize(
    ("former", "new"),
    [(ADDRESS_SPACE, ADDRESS_SPACE), (ADDRESS_SPACE, "LocalDefault"), ("LocalDefault", "LocalDefault")],
)
def test_a_network_that_docker_has_no_more_makes_room(former: str, new: str) -> None:
    """Docker has removed it while nobody heard its DeleteNetwork."""
    one = OneHost()
    one.create("gone", former)
    if former == ADDRESS_SPACE:
        one.ipam.ipam.release_pool(PoolId(SPEC.pools[0]))
    one.create("new", new)
    assert one.networks() == ["new"]


class DockersOwn(OneHost):
    """With a network whose addresses Docker's own IPAM gives out."""

    def __init__(self) -> None:
        super().__init__()
        self.create("web", "LocalDefault")
        self.store, self.pool = self.ipam.cluster.store, SPEC.pools[0]

    def start_container(self) -> str:
        return self.driver.create_endpoint(EndpointRequest("web", "e", (ip_interface("10.240.0.2/18"),), None))

    def tells_where_it_is(self) -> bool:
        with suppress(NetworkConflict):
            self.driver.publish()
        return self.store.get(records.peer_key(self.pool, "a")) is not None


def test_docker_gives_no_address_of_its_own_pool_once_the_lease_is_over() -> None:
    """Others may have reclaimed that, and their Docker give the same ones."""
    own = DockersOwn()
    own.ipam.line.cut = True
    assert own.start_container()
    own.ipam.clock.now += own.ipam.ttl * 0.95
    with pytest.raises(LeaseLapsed):
        own.start_container()
    own.ipam.line.cut = False
    assert own.start_container()


def test_a_network_with_dockers_own_ipam_does_not_go_on_in_a_pool_that_others_took_meanwhile() -> None:
    """It would be one with theirs, and both would have the same addresses."""
    own = DockersOwn()
    others, me = own.ipam.cluster.host("b"), own.store.get(records.host_key("a"))
    assert own.tells_where_it_is()
    assert me is not None
    assert give_up(own.store, "a", me.version)
    assert others.ipam.adopt(own.pool, own.pool[1]) is None
    own.ipam.tenancy.beat()
    own.driver.forget_published()
    with pytest.raises(PoolConflict, match="remove the network and create it again"):
        own.start_container()
    assert not own.tells_where_it_is()
    others.ipam.disown(own.pool)
    own.ipam.ipam.keep_in_hand()
    assert own.start_container()
    assert own.tells_where_it_is()


def test_where_the_underlay_is_too_narrow_for_ipv6_neither_network_nor_container_is_made() -> None:
    cluster, kernel = Cluster(), BrokenKernel()
    kernel.mtu = 1300
    a, others, journal = cluster.host("a"), cast(Any, kernel), Journal(MemoryStore())
    membership = Membership(cluster.store, "a", "vxlan", str)
    driver = NetworkDriver(journal, membership, a.ipam, others, Ports(list), others, lambda: nullcontext(others))
    pool = ip_network("fd77::/64")
    a.create(pool)
    before = cluster.held_keys()
    data = PoolData(pool, ip_interface("fd77::1/64"), ADDRESS_SPACE)
    said = "network fd77::/64: the MTU of eth0 is 1300, which leaves 1250 .* and IPv6 needs 1280"
    with pytest.raises(BadRequest, match=said):
        driver.create_network(NetworkRequest("n", (data,)))
    assert cluster.held_keys() == before
    assert journal.networks() == []
    spec = replace(SPEC, pools=(pool,), gateways=(pool[1],), mtu=None, backend="vxlan")
    journal.put_network(network_of("n", spec, None))
    journal.put_endpoint(Endpoint("e", "n", (pool[5],), "02:00:00:00:00:05"))
    with pytest.raises(BadRequest, match=said):
        driver.join("n", "e", "sandbox")


def test_a_round_of_the_duties_of_many_networks_takes_moments() -> None:
    """Each compared with each, a round of 2000 took longer than the ten seconds until the next one."""
    cluster = Cluster()
    a, journal, kernel = cluster.host("a"), Journal(MemoryStore()), cast(Any, BrokenKernel())
    pools = [IPv4Network((f"10.{number >> 8}.{number & 255}.0", 24)) for number in range(600)]
    for pool in pools:
        a.journal.hold(PoolId(pool))
        journal.put_network(network_of(str(pool), replace(SPEC, pools=(pool,), gateways=(pool[1],)), None))
    membership = Membership(cluster.store, "a", "vxlan", str, announced=lambda *_: True)
    membership._found.update(pools)  # to tell the store of each of them takes a minute
    driver = NetworkDriver(journal, membership, a.ipam, kernel, Ports(list), kernel)
    a.tenancy.beat()
    driver.renew_host_addresses()  # opens the journal of each pool, once
    began = time.process_time()
    driver.drop_released()
    driver.renew_host_addresses()
    driver.publish()
    driver.leave_unused(pools)
    a.ipam.settle(pools, [])
    assert time.process_time() - began < 0.2
    assert len(journal.networks()) == len(pools)


def test_a_damaged_record_of_one_network_keeps_the_host_silent_in_no_other() -> None:
    store, journal, others = MemoryStore(), Journal(MemoryStore()), cast(Any, Elsewhere())
    pools = [ip_network("10.9.0.0/24"), ip_network("10.9.1.0/24"), ip_network("10.9.2.0/24")]
    for pool in pools:
        spec = replace(SPEC, pools=(pool,), gateways=(pool[1],), vni=derived_vni(pool, 0))
        journal.put_network(network_of(str(pool[0]), spec, None))
    assert store.commit(Put(records.network_key(pools[1]), b"not a record", ABSENT))
    driver = NetworkDriver(journal, Membership(store, "a", "vxlan", str), others, others, Ports(list), others)
    with pytest.raises(BadRecord):
        driver.publish()
    told = [pool for pool in pools if store.get(records.peer_key(pool, "a"))]
    assert told == [pools[0], pools[2]]
