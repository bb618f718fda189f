"""What a host did not hear of it makes up for: events of Docker that were lost, and all that was before it came."""

import time
from collections.abc import Iterator

import pytest

from tests.lab import unix_http
from tests.lab.asking import RESOLVER, ask, until
from tests.lab.cluster import FLANNELPY, POOL, Cluster, Container, side_by_side
from tests.lab.commands import wait_until
from tests.lab.docker_host import DockerHost
from tests.lab.lab import Lab

MOST = 4000  # events, more than Docker keeps for a listener that does not read, and a socket holds
DROPS = 0.095  # seconds
SOON = 15.0  # seconds: half of the time in which a host looks at everything anew in any case


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Lab(hosts=2, dockerd_config={"dns": [RESOLVER], "live-restore": True}) as lab:
        side_by_side(lambda host: start(host, lab), lab.hosts)
        yield Cluster(lab)


def start(host: DockerHost, lab: Lab) -> None:
    host.start_flannelpy({"FLANNELPY_STORE": lab.consul.url, "FLANNELPY_PROPAGATE": "true"})


@pytest.fixture
def asker(cluster: Cluster) -> Iterator[Container]:
    """A container on the first host, in a network that all hosts have."""
    one = cluster.hosts[0]
    one.docker("network", "create", *FLANNELPY, "--subnet", POOL, "web")
    for host in cluster.hosts:
        wait_until("the network", lambda: host.docker_ok("network", "inspect", "web"), timeout=30, every=0.1)  # noqa: B023
    yield cluster.run(one, "asker", "web")
    cluster.clean()


def rename(host: DockerHost, old: str, new: str) -> float:
    """Seconds that it took."""
    began = time.monotonic()
    status, answer = unix_http.request(host.docker_socket, "POST", f"/containers/{old}/rename?name={new}", timeout=30)
    assert status == 204, answer
    return time.monotonic() - began


def rename_until_docker_drops_events(host: DockerHost, name: str) -> None:
    """Docker waits a tenth of a second for a listener before it leaves out an event; a machine that is busy may take as
    long once or twice."""
    names, slow = [name, f"{name}-too"], 0
    for number in range(MOST):
        took = rename(host, names[number % 2], names[1 - number % 2])
        slow = slow + 1 if took > DROPS else 0
        if slow == 4:
            return
    raise AssertionError(f"Docker kept {MOST} events")


def test_events_that_docker_dropped_are_made_up_for(cluster: Cluster, asker: Container) -> None:
    host = cluster.hosts[1]
    noisy, till = (cluster.run(host, name, "web") for name in ("noisy", "till"))
    until(asker, "till", f"NOERROR {till.address}")
    assert host.flannelpy is not None
    host.flannelpy.pause()
    try:
        rename_until_docker_drops_events(host, noisy.name)
        assert rename(host, "till", "shop") > DROPS
    finally:
        host.flannelpy.resume()
    until(asker, "shop", f"NOERROR {till.address}")
    until(asker, "till", "REFUSED")


def test_events_of_an_engine_that_died_are_made_up_for(cluster: Cluster, asker: Container) -> None:
    """It takes along what it has not told yet; with live-restore the containers run on."""
    host = cluster.hosts[1]
    till = cluster.run(host, "till", "web")
    until(asker, "till", f"NOERROR {till.address}")
    assert host.flannelpy is not None
    host.flannelpy.pause()
    try:
        rename(host, "till", "shop")
        host.kill_dockerd()
    finally:
        host.flannelpy.resume()
    host.start_dockerd()
    assert until(asker, "shop", f"NOERROR {till.address}") < SOON


def test_a_host_that_joins_later_has_networks_and_names_at_once(cluster: Cluster, asker: Container) -> None:
    till = cluster.run(cluster.hosts[1], "till", "web", "--network-alias", "desk")
    late = cluster.lab.add_host()
    began = time.monotonic()
    start(late, cluster.lab)
    wait_until("the network", lambda: late.docker_ok("network", "inspect", "web"), timeout=30, every=0.1)
    new = cluster.run(late, "new", "web")
    assert (ask(new, "till"), ask(new, "desk")) == (f"NOERROR {till.address}",) * 2
    until(asker, "new", f"NOERROR {new.address}")
    assert time.monotonic() - began < SOON
    assert cluster.unreached([asker, till, new]) == []
