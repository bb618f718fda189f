"""Single addresses that go from host to host, and a pool used to its last address."""

import time
from functools import partial
from itertools import cycle

import pytest

from tests.lab.cluster import POOL, Cluster, Container, side_by_side
from tests.lab.commands import wait_until
from tests.lab.docker_host import DockerHost
from tests.promises import best_of

SMALL = "10.240.0.0/28"
FOR_CONTAINERS = 16 - 2 - 1 - 2  # not the first, the last, the gateway, nor one for each host itself
SECOND = 1.0


@pytest.mark.alone
def test_a_container_made_again_on_another_host_keeps_its_address(cluster: Cluster) -> None:
    one, other = cluster.hosts
    cluster.create("web", "--subnet", POOL)
    address = cluster.run(one, "wanderer", "web").address
    watchers = [cluster.run(host, "watcher", "web") for host in cluster.hosts]
    moves = cycle(((one, other), (other, one)))
    here, there = one, other

    def moved() -> float:
        nonlocal here, there
        here, there = next(moves)
        here.docker("rm", "-f", "wanderer")
        wanderer = cluster.run(there, "wanderer", "web", "--ip", address)
        assert wanderer.address == address
        began = time.monotonic()
        for watcher in watchers:
            reached = partial(watcher.answered, address, 0.2)
            wait_until(f"{watcher} to reach {address}", reached, timeout=30, every=0.01)
        took = time.monotonic() - began
        assert cluster.unreached([wanderer, *watchers]) == []
        return took

    for _ in range(3):
        best_of(moved, SECOND)
    refused = here.docker_refused("run", "--rm", "--network", "web", "--ip", address, "lab/busybox", "true")
    assert f"address {address} is already in use on host {there.name}" in refused


def test_a_pool_is_used_to_its_last_address_and_the_next_one_is_refused_in_words(cluster: Cluster) -> None:
    cluster.create("web", "--subnet", SMALL)
    full: list[Container] = []
    while len(full) < FOR_CONTAINERS:
        host = cluster.hosts[len(full) % 2]
        full.append(cluster.run(host, f"c{len(full)}", "web"))
    assert len({container.address for container in full}) == FOR_CONTAINERS
    assert cluster.unreached([full[0], full[1], full[-1], full[-2]]) == []

    def refusal(host: DockerHost) -> str:
        return host.docker_refused("run", "--rm", "--network", "web", "lab/busybox", "true")

    for said in side_by_side(refusal, cluster.hosts):
        assert f"pool {SMALL} (16 addresses) has no free address left; most blocks: " in said
        assert cluster.hosts[0].name in said
    gone = full.pop()
    gone.host.docker("rm", "-f", gone.name)
    other = next(host for host in cluster.hosts if host is not gone.host)
    assert cluster.run(other, "again", "web").address == gone.address
