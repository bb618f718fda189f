"""Pools that flannelpy chooses, put together as `serve` has it."""

from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_network

from driver.journal import Journal as Networks
from ipam.model import PoolRequest
from ipam.spaces import Spaces
from ipam.tenancy import Tenancy
from plugin.addressing import assemble_addressing
from plugin.settings import Settings
from store.ip import IPNetwork, contains
from store.memory import MemoryStore
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
