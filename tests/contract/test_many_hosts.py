"""A hundred hosts on one pool of real Consul servers, all at once."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, count
from pathlib import Path
from typing import TypeVar

import pytest

from ipam.model import AddressRequest, PoolRequest
from store import records
from store.interface import Contended, Store, StoreUnavailable
from store.ip import IPAddress
from tests.bench.addresses import POOL, Crowd, Host, crowd, hosts_on
from tests.consul_agent import ConsulAgent, ConsulServers
from tests.contract.plain_consul import PlainStore

HOSTS, EACH = 100, 4
PATIENCE = 60.0  # seconds in which a call is repeated

T = TypeVar("T")


@pytest.mark.consul
@pytest.mark.timeout(300)
def test_a_hundred_hosts_at_once_get_no_duplicate_and_leave_nothing(
    open_agent: ConsulAgent, quick_path: Path, root: str
) -> None:
    seen: Crowd = crowd(lambda: PlainStore(open_agent.url, root), quick_path, hosts=100, each=40)
    assert seen.addresses == 4000
    assert seen.duplicates == 0
    assert seen.left_over == 0
    assert seen.writes_per_address < 0.5


@pytest.mark.consul
@pytest.mark.timeout(300)
def test_a_hundred_hosts_on_three_servers_whose_leader_is_killed_meanwhile(
    three_servers: ConsulServers, quick_path: Path
) -> None:
    """Each host asks one of the three. What the store refuses meanwhile is asked for again, as a person would."""
    numbers = count()

    def store() -> Store:
        return PlainStore(three_servers.agents[next(numbers) % 3].url, "crowd")

    with hosts_on(store, HOSTS, quick_path) as hosts, ThreadPoolExecutor(HOSTS) as pool:
        some_have_some = threading.Semaphore(0)
        working = [pool.submit(take, host, some_have_some) for host in hosts]
        for _ in range(HOSTS):
            some_have_some.acquire(timeout=PATIENCE)
        with three_servers.without(three_servers.leader()):
            pass
        given = list(chain.from_iterable(future.result() for future in working))
        assert len(set(given)) == len(given) == HOSTS * EACH
        list(pool.map(let_go, hosts))
        assert hosts[0].store.read("").entries.keys() == {records.EPOCH}


def take(host: Host, told: threading.Semaphore) -> list[IPAddress]:
    pool_id, _ = again(lambda: host.ipam.request_pool(PoolRequest(POOL, None)))
    again(lambda: host.ipam.request_address(AddressRequest(pool_id, None, gateway=True)))
    given = []
    for _ in range(EACH):
        given.append(again(lambda: host.give(pool_id)))
        told.release()
    return given


def let_go(host: Host) -> None:
    host.mirror.stop()
    again(host.tenancy.beat)
    for pool_id in host.ipam.held():
        host.ipam.release_pool(pool_id)
    again(lambda: host.ipam.settle([POOL]))
    again(host.tenancy.end)


def again(call: Callable[[], T]) -> T:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return call()
        except (StoreUnavailable, Contended):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
