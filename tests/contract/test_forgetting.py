"""A real Consul that is emptied, or restored from its own snapshot, while two hosts hold blocks."""

import pytest
import requests

from ipam.errors import AddressTaken
from ipam.model import PoolId
from ipam.tenancy import StoreForgot
from store.consul import ConsulStore
from store.ip import IPAddress
from tests.consul_agent import ConsulAgent
from tests.unit.ipam_hosts import WEB, Cluster, Host

pytestmark = pytest.mark.consul
POOL = PoolId(WEB)


@pytest.fixture
def cluster(open_agent: ConsulAgent, root: str) -> Cluster:
    return Cluster(ConsulStore(open_agent.url, root))


def call(agent: ConsulAgent, method: str, path: str, body: bytes = b"") -> bytes:
    answer = requests.request(method, f"http://127.0.0.1:{agent.ports['http']}/v1/{path}", data=body, timeout=10)
    answer.raise_for_status()
    return answer.content


def beat(*hosts: Host, periods: int) -> None:
    for _ in range(periods):
        for host in hosts:
            host.clock.now += host.tenancy.period
            host.tenancy.beat()


def give(host: Host, count: int) -> list[IPAddress]:
    return [host.give(POOL).ip for _ in range(count)]


def borrow(lender: Host, borrower: Host) -> IPAddress:
    """An address that was the lender's."""
    address = lender.give(POOL)
    lender.release(POOL, address)
    return borrower.give(POOL, str(address.ip)).ip


def test_consul_is_emptied_while_two_hosts_hold_blocks(cluster: Cluster, open_agent: ConsulAgent, root: str) -> None:
    a, b = cluster.host("a"), cluster.host("b")
    for host in (a, b):
        host.create()
    of_a, of_b = give(a, 3), [*give(b, 3), borrow(a, b)]
    before = cluster.held_keys()
    call(open_agent, "DELETE", f"kv/{root}/?recurse")
    assert cluster.held_keys() == []

    a.tenancy.beat()
    a.settle()
    for address in of_b:
        with pytest.raises((StoreForgot, AddressTaken)):
            a.give(POOL, str(address))
    left = next(iter(a.ipam.given(WEB))).num_addresses - len(a.journal.pool(WEB).leases)
    of_a += give(a, left - 1)  # of the block at hand
    with pytest.raises(StoreForgot):
        give(a, 2)
    new = cluster.host("new")
    with pytest.raises(StoreForgot):
        new.create()

    beat(a, b, periods=4)
    assert cluster.held_keys() == before
    new.create()
    everybodys = of_a + of_b + give(new, 70) + give(a, 70)
    assert len(set(everybodys)) == len(everybodys)
    cluster.store.close()


def test_consul_is_restored_from_a_snapshot_in_which_blocks_were_others(
    cluster: Cluster, open_agent: ConsulAgent
) -> None:
    a, b = cluster.host("a"), cluster.host("b")
    a.tenancy.beat()
    b.create()
    wanted = b.give(POOL).ip
    snapshot = call(open_agent, "GET", "snapshot")
    b.remove(POOL)
    a.create()
    assert a.give(POOL, str(wanted)).ip == wanted
    b.create()
    theirs = give(b, 3)
    beat(a, b, periods=1)
    call(open_agent, "PUT", "snapshot", snapshot)

    b.tenancy.beat()
    with pytest.raises(StoreForgot):
        b.give(POOL, str(wanted))
    beat(a, b, periods=4)
    with pytest.raises(AddressTaken):
        b.give(POOL, str(wanted))
    assert a.journal.pool(WEB).is_given(wanted)
    assert all(b.journal.pool(WEB).is_given(address) for address in theirs)
    owner = next(host for block, host in a.ipam._pools.owners(WEB).items() if wanted in block)
    assert owner == "a"
    cluster.store.close()
