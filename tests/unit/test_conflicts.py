"""A conflict is a container with an address that our records, before and after Docker was asked, do not hold."""

import logging
from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from cluster.conflicts import Conflicts, conflicts
from cluster.engine import Attached, EngineNetwork
from cluster.garbage import Ours
from driver.model import Network
from ipam import pool_journal
from ipam.journal import Held
from ipam.model import PoolId
from ipam.pool_journal import ENDPOINT, Lease

POOL, BLOCK, ADDRESS = ip_network("10.240.0.0/18"), ip_network("10.240.1.0/26"), ip_address("10.240.1.5")
POOL_ID = PoolId(POOL)
HELD = Ours([], [], {POOL_ID: Held(1, since=0)}, {("", POOL): {ADDRESS: Lease("", ENDPOINT)}}, {("", POOL): (BLOCK,)})
LOST = replace(HELD, leases={("", POOL): {}}, blocks={("", POOL): ()})
ENGINE = EngineNetwork("n1", "web", (POOL_ID,), {"e1": Attached("web-1", (ADDRESS,))}, frozenset())


def test_an_address_that_this_host_holds_is_no_conflict() -> None:
    assert list(conflicts(HELD, [ENGINE])) == []


def test_the_container_of_a_lost_address_is_named() -> None:
    assert [str(conflict) for conflict in conflicts(LOST, [ENGINE])] == [
        "container web-1 on network web has address 10.240.1.5, which this host no longer holds and another may have "
        "been given: disconnect it and connect it again"
    ]


def test_an_address_that_came_back_is_held_no_more() -> None:
    released = replace(HELD, leases={("", POOL): {ADDRESS: Lease("", ENDPOINT, released=1.0)}})
    assert [conflict.address for conflict in conflicts(released, [ENGINE])] == [ADDRESS]


def test_an_address_that_was_lost_under_its_container_is_not_held() -> None:
    lost = replace(HELD, leases={("", POOL): {ADDRESS: Lease("", pool_journal.LOST)}})
    assert [conflict.address for conflict in conflicts(lost, [ENGINE])] == [ADDRESS]


def test_pools_of_others_are_not_ours_to_judge() -> None:
    assert list(conflicts(replace(LOST, held={}), [ENGINE])) == []


@pytest.mark.parametrize(("blocks", "found"), [((POOL,), []), ((), [ADDRESS])])
def test_where_docker_gives_the_addresses_the_whole_pool_is_held_or_lost(
    blocks: tuple[()], found: list[object]
) -> None:
    network = Network("n1", (POOL,), (ip_address("10.240.0.1"),), "vxlan", 7, 8479, None, False, (), adopted=True)
    ours = replace(LOST, networks=[network], blocks={("", POOL): blocks})
    assert [conflict.address for conflict in conflicts(ours, [replace(ENGINE, pools=())])] == found


@pytest.mark.parametrize("readings", [(HELD, LOST), (LOST, HELD)])
def test_a_container_that_comes_or_goes_meanwhile_is_no_conflict(readings: tuple[Ours, Ours]) -> None:
    reading = iter(readings)
    watch = Conflicts(lambda: [ENGINE], lambda: next(reading))
    watch.look()
    assert not watch.found


def test_a_conflict_is_told_once_and_its_end_too(caplog: pytest.LogCaptureFixture) -> None:
    now = [LOST]
    watch = Conflicts(lambda: [ENGINE], lambda: now[0])
    with caplog.at_level(logging.INFO):
        watch.look()
        watch.look()
        now[0] = HELD
        watch.look()
    assert [record.message for record in caplog.records] == [
        "address may be in use twice",
        "address is used once again",
    ]
