"""Pools that flannelpy chooses, put together as `serve` has it."""

import time
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_network

import pytest

from cluster.dockerd import EngineUnavailable
from cluster.engine import Event, ListedNetwork, read_shape
from cluster.subnets import Subnets
from driver.journal import Journal as Networks
from ipam.model import PoolRequest
from ipam.spaces import Spaces
from ipam.tenancy import Tenancy
from plugin.addressing import assemble_addressing
from plugin.settings import Settings
from store.ip import IPNetwork, contains
from store.memory import MemoryStore
from tests.lab.commands import wait_until
from tests.unit.ipam_hosts import HandClock

RANGE = ip_network("10.224.0.0/11")


def spaces_beside(others: Collection[IPNetwork] = ()) -> Spaces:
    """The address manager of a host where Docker has these networks, too."""
    store, local = MemoryStore(), MemoryStore()
    tenancy = Tenancy(store, local, "host", 86400, HandClock())
    networks = Networks(local, lambda: None)
    return assemble_addressing(Settings(host="host"), store, local, networks, tenancy, lambda: others).spaces


def choose(spaces: Spaces, space: str = "") -> IPNetwork:
    return spaces.request_pool(PoolRequest(None, None, {"network": space} if space else {}))[1]


def test_pools_of_one_host_are_apart_in_all_spaces() -> None:
    spaces = spaces_beside()
    with ThreadPoolExecutor(6) as threads:
        chosen = list(threads.map(lambda space: choose(spaces, space), ["lan", "dmz", "", "lan", "dmz", ""]))
    assert len(set(chosen)) == 6
    assert all(contains(RANGE, pool) for pool in chosen)


def test_a_pool_keeps_clear_of_dockers_own_networks() -> None:
    free = choose(spaces_beside())
    assert not choose(spaces_beside([ip_network((free[77], 32))])).overlaps(free)


class Engine:
    def __init__(self) -> None:
        self.subnets: list[str] = []
        self.away = False

    def listed(self) -> list[ListedNetwork]:
        if self.away:
            raise EngineUnavailable("away")
        config = [{"Subnet": subnet} for subnet in self.subnets]
        return [ListedNetwork("n1", read_shape({"Name": "lan", "Driver": "macvlan", "IPAM": {"Config": config}}))]


@pytest.fixture
def engine() -> Engine:
    return Engine()


@pytest.fixture
def subnets(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Subnets]:
    monkeypatch.setattr("cluster.subnets.AGAIN", 0.01)
    worker = Subnets(engine, lambda: [ip_network("10.225.0.0/24")])
    worker.start()
    yield worker
    worker.stop()


def await_others(subnets: Subnets, *wanted: str) -> None:
    wait_until("Docker's subnets", lambda: {*map(str, subnets.others())} == {*wanted}, timeout=5, every=0.01)


def network_event(action: str) -> Event:
    return Event("network", action, "n1", {}, 0)


def test_dockers_subnets_are_read_when_networks_come_and_go(engine: Engine, subnets: Subnets) -> None:
    engine.subnets = ["10.224.0.0/24", "10.225.0.0/24", "fd00::/64"]
    subnets.resync()
    await_others(subnets, "10.224.0.0/24", "fd00::/64")
    engine.subnets = ["10.226.0.0/24"]
    subnets.event(network_event("create"))
    await_others(subnets, "10.226.0.0/24")
    engine.subnets = []
    subnets.event(network_event("destroy"))
    await_others(subnets)


def test_dockers_subnets_stay_while_it_is_away_and_are_read_when_it_is_back(engine: Engine, subnets: Subnets) -> None:
    engine.subnets = ["10.224.0.0/24"]
    subnets.resync()
    await_others(subnets, "10.224.0.0/24")
    engine.away, engine.subnets = True, ["10.226.0.0/24"]
    subnets.event(network_event("create"))
    time.sleep(0.05)
    assert [str(subnet) for subnet in subnets.others()] == ["10.224.0.0/24"]
    engine.away = False
    await_others(subnets, "10.226.0.0/24")
