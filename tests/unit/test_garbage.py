"""Garbage is what the Engine positively does not have, twice, and long enough."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from ipaddress import ip_address, ip_network
from threading import Barrier, BrokenBarrierError
from typing import Any

import pytest

from cluster.dockerd import EngineUnavailable
from cluster.engine import Attached, EngineNetwork, read_network
from cluster.garbage import CONFIRMED, YOUNG, Collector, Garbage, LeakedAddress, LeakedPool, Ours, find
from driver.model import Endpoint, Network
from ipam.journal import Held
from ipam.model import PoolId
from ipam.pool_journal import BORROWED, ENDPOINT, HOST, LENT, Lease
from store.ip import IPAddress
from tests.unit.ipam_hosts import Host

POOL = ip_network("10.240.0.0/18")
POOL_ID = PoolId(POOL)
NETWORK = Network("n1", (POOL,), (ip_address("10.240.0.1"),), "vxlan", 7, 8479, None, False, ())
ENDPOINT_RECORD = Endpoint("e1", "n1", (ip_address("10.240.1.5"),), "02:00:00:00:00:05")
OURS = Ours(
    [NETWORK],
    [ENDPOINT_RECORD],
    {POOL_ID: Held(1, since=0)},
    {
        ("", POOL): {
            ip_address("10.240.1.5"): Lease(str(POOL_ID), ENDPOINT),
            ip_address("10.240.1.1"): Lease(str(POOL_ID), HOST),
        }
    },
    {("", POOL): (ip_network("10.240.1.0/26"),)},
)
ENGINE = EngineNetwork("n1", "web", (POOL_ID,), {"e1": Attached("web-1", (ip_address("10.240.1.5"),))}, frozenset())


def texts(ours: Ours, *engine: EngineNetwork, now: float = 1e6) -> list[str]:
    return [str(item) for item in find(ours, engine, now)]


def test_what_docker_has_is_kept() -> None:
    assert texts(OURS, ENGINE) == []


def test_a_container_removed_while_we_were_down() -> None:
    assert texts(OURS, replace(ENGINE, endpoints={})) == [
        "endpoint e1 of network n1, which Docker no longer has",
        "address 10.240.1.5 of pool 10.240.0.0/18, which no container has",
    ]


def test_a_network_removed_while_we_were_down() -> None:
    assert texts(OURS) == [
        "network n1, which Docker no longer has",
        "address 10.240.1.5 of pool 10.240.0.0/18, which no container has",
        "a hold on pool 10.240.0.0/18, which no network uses",
    ]


def test_a_create_that_failed_halfway() -> None:
    assert texts(replace(OURS, held={POOL_ID: Held(2, since=0)}), ENGINE) == [
        "a hold on pool 10.240.0.0/18, which no network uses"
    ]


@pytest.mark.parametrize("kind", [HOST, LENT])
def test_addresses_that_no_container_should_have_are_no_garbage(kind: str) -> None:
    assert texts(replace(OURS, leases={("", POOL): {ip_address("10.240.1.9"): Lease("", kind)}}), ENGINE) == []


def test_what_is_young_or_reserved_or_rests_is_kept() -> None:
    def leases(lease: Lease) -> Ours:
        return replace(OURS, leases={("", POOL): {ip_address("10.240.1.9"): lease}})

    old = Lease(str(POOL_ID), BORROWED, since=0)
    assert len(texts(leases(old), ENGINE)) == 1
    assert texts(leases(old), ENGINE, now=YOUNG) == []
    assert texts(leases(replace(old, released=5.0)), ENGINE) == []
    assert texts(leases(old), replace(ENGINE, reserved=frozenset({ip_address("10.240.1.9")}))) == []


def test_a_leak_in_a_space_of_its_own_is_freed_there() -> None:
    lan = {("lan", POOL): {ip_address("10.240.1.9"): Lease(str(POOL_ID), ENDPOINT)}}
    [leak] = find(replace(OURS, leases=lan), [ENGINE], 1e6)
    assert isinstance(leak, LeakedAddress)
    assert str(leak.pool_id) == f"lan@{POOL}"


class Freed:
    def __init__(self) -> None:
        self.calls: list[object] = []

    def delete_network(self, network_id: str) -> None:
        self.calls.append(network_id)

    def delete_endpoint(self, network_id: str, endpoint_id: str) -> None:
        self.calls.append((network_id, endpoint_id))

    def release_address(self, pool_id: PoolId, address: IPAddress, since: float) -> None:
        self.calls.append(str(address))

    def release_pool(self, pool_id: PoolId) -> None:
        self.calls.append(str(pool_id))


def test_nothing_is_freed_on_one_look_nor_without_an_answer() -> None:
    freed, now, engine = Freed(), [1e6], [replace(ENGINE, endpoints={})]
    away = [False]

    def ask() -> list[EngineNetwork]:
        if away[0]:
            raise EngineUnavailable("away")
        return engine

    collector = Collector(ask, lambda: OURS, freed, freed, lambda: now[0])
    assert collector.collect() == []
    assert collector.suspected() == []
    now[0] += CONFIRMED - 1
    assert collector.collect() == []
    assert len(collector.suspected()) > 0
    away[0] = True
    with pytest.raises(EngineUnavailable):
        collector.collect()
    away[0] = False
    engine[0] = ENGINE
    assert collector.collect() == []
    engine[0] = replace(ENGINE, endpoints={})
    now[0] += CONFIRMED
    assert collector.collect() == []
    now[0] += CONFIRMED
    found: list[Garbage] = collector.collect()
    assert len(found) == collector.freed == 2
    assert freed.calls == [("n1", "e1"), "10.240.1.5"]


def test_what_is_given_again_between_the_look_and_the_freeing_is_kept() -> None:
    """While Docker is asked, or something else is freed, it may have got the very same address and pool from us."""
    now = [1e6]
    given = OURS.leases["", POOL][ip_address("10.240.1.5")]
    records = [replace(OURS, endpoints=(), held={POOL_ID: Held(2, since=0)})]

    class Meanwhile(Freed):
        def release_address(self, pool_id: PoolId, address: IPAddress, since: float) -> None:
            again = {address: replace(given, since=now[0])}
            records[0] = replace(records[0], leases={("", POOL): again}, held={POOL_ID: Held(2, since=now[0])})

    freed = Meanwhile()
    collector = Collector(lambda: [replace(ENGINE, endpoints={})], lambda: records[0], freed, freed, lambda: now[0])
    collector.collect()
    now[0] += CONFIRMED
    assert [str(item) for item in collector.look()] == [
        "address 10.240.1.5 of pool 10.240.0.0/18, which no container has",
        "a hold on pool 10.240.0.0/18, which no network uses",
    ]
    collector.collect()
    assert freed.calls == []
    assert collector.collect() == []


def test_what_is_given_again_while_the_collector_waits_for_the_pools_lock_is_kept(a: Host) -> None:
    pool, now = a.create(), a.clock
    leaked = a.give(pool)

    class Meanwhile:
        """Docker removes the network, makes it anew and starts a container with the same --ip."""

        def release_address(self, pool_id: PoolId, address: IPAddress, since: float) -> None:
            a.remove(pool)
            a.create()
            assert a.give(pool, str(address)) == leaked
            a.ipam.release_address(pool_id, address, since)

        release_pool = a.ipam.release_pool

    engine = EngineNetwork("n1", "web", (pool,), {}, frozenset())
    collector = Collector(lambda: [engine], partial(ours_of, a), Freed(), Meanwhile(), now.wall)
    now.now += YOUNG + 1
    collector.collect()
    now.now += CONFIRMED
    assert [type(item) for item in collector.collect()] == [LeakedAddress]
    assert a.journal.pool(POOL).is_given(leaked.ip)


def ours_of(host: Host) -> Ours:
    return Ours([], [], host.ipam.held(), {("", pool): leases for pool, leases in host.ipam.leases().items()}, {})


def test_two_collect_one_after_the_other() -> None:
    freed, now, together = Freed(), [1e6], Barrier(2)

    def ask() -> list[EngineNetwork]:
        with suppress(BrokenBarrierError):
            together.wait(0.2)  # both ask at once, if they can
        return [replace(ENGINE, endpoints={})]

    collector = Collector(ask, lambda: OURS, freed, freed, lambda: now[0])
    collector.collect()
    now[0] += CONFIRMED
    together.reset()
    with ThreadPoolExecutor(2) as threads:
        for done in [threads.submit(collector.collect) for _ in range(2)]:
            done.result()
    assert len(freed.calls) == collector.freed


def test_a_pool_that_was_kept_for_an_address_that_no_container_has_is_freed_with_it(a: Host) -> None:
    """Two networks had it; both are gone, and so is the container, while flannelpy was down."""
    pool = a.create(routed=False)
    a.create(routed=False)
    a.give(pool)
    for _ in range(2):
        a.remove(pool)
    collector = Collector(list, partial(ours_of, a), Freed(), a.ipam, a.clock.wall)
    for _ in range(2):
        assert collector.collect() == []
        a.clock.now += YOUNG + 1
    assert [type(item) for item in collector.collect()] == [LeakedAddress, LeakedPool]
    assert a.cluster.held_keys() == []


def test_the_engines_answer_is_read() -> None:
    shape: dict[str, Any] = {
        "Id": "n1",
        "Name": "web",
        "IPAM": {
            "Driver": "flannelpy",
            "Options": {"network": "lan"},
            "Config": [
                {"Subnet": "10.240.0.0/18", "IPRange": "10.240.1.0/24", "AuxiliaryAddresses": {"a": "10.240.9.9"}}
            ],
        },
        "Containers": {"c": {"Name": "web-1", "EndpointID": "e1", "IPv4Address": "10.240.1.5/32", "IPv6Address": ""}},
    }
    assert read_network(shape) == EngineNetwork(
        "n1",
        "web",
        (PoolId(POOL, ip_network("10.240.1.0/24"), "lan"),),
        {"e1": Attached("web-1", (ip_address("10.240.1.5"),))},
        frozenset({ip_address("10.240.9.9")}),
    )
    shape["IPAM"] = {"Driver": "default", "Config": None}
    shape["Containers"] = None
    assert read_network(shape).pools == ()
