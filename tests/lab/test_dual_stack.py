"""Networks with IPv6: both families between hosts, and no second lost when a container starts."""

import re
from collections.abc import Iterator
from functools import partial
from ipaddress import ip_address, ip_network
from itertools import count

import pytest

from driver.backends import BACKENDS
from tests.lab.cluster import POOL, POOL6, Cluster, Container, Keeper, ask_from
from tests.lab.docker_host import DockerHost
from tests.promises import best_of

PROMPT = 0.5  # seconds; a link that first tests its own address for a duplicate answers after one


@pytest.fixture(scope="module", params=BACKENDS)
def dual(clusters: Keeper, request: pytest.FixtureRequest) -> Iterator[Cluster]:
    with clusters.lend() as cluster:
        cluster.create("dual", "-o", f"backend={request.param}", "--ipv6", "--subnet", POOL, "--subnet", POOL6)
        yield cluster


@pytest.fixture(scope="module")
def containers(dual: Cluster) -> list[Container]:
    return dual.run_everywhere(2, "dual")


@pytest.mark.alone
def test_the_first_packet_of_a_new_container_is_answered_at_once(dual: Cluster) -> None:
    one, other = dual.hosts
    server = dual.run(one, "server", "dual")
    for target in (server.address6, server.address):
        for host in (one, other):
            best_of(partial(first_answer_to_new, host, target), PROMPT)


def first_answer_to_new(host: DockerHost, target: str) -> float:
    """What a container is told that does nothing else."""
    run = ("run", "--rm", "--network", "dual", "lab/busybox")
    return first_answer(host.docker(*run, "ping", "-c", "1", "-W", "5", target))


@pytest.mark.alone
def test_the_first_packet_to_a_new_container_is_answered_at_once(dual: Cluster) -> None:
    one, other = dual.hosts
    asker, neighbour = dual.run(one, "asker", "dual"), dual.run(other, "neighbour", "dual")
    names = (f"fresh-{number}" for number in count())

    def first_answer_of_new(source: Container, version: int) -> float:
        fresh = dual.run(other, next(names), "dual")
        target = fresh.address6 if version == 6 else fresh.address
        return first_answer(source.run("ping", "-c", "1", "-W", "5", target))

    for version in (6, 4):
        for source in (asker, neighbour):
            best_of(partial(first_answer_of_new, source, version), PROMPT)


def first_answer(said: str) -> float:
    """Seconds, as ping tells them."""
    found = re.search(r"time=([0-9.]+) ms", said)
    return float(found[1]) / 1000 if found else float("inf")


def test_everybody_has_an_address_of_each_family_and_no_two_the_same(containers: list[Container]) -> None:
    addresses = [address for container in containers for address in container.addresses]
    assert len(addresses) == len(set(addresses)) == 2 * len(containers)
    for container in containers:
        assert ip_address(container.address) in ip_network(POOL)
        assert ip_address(container.address6) in ip_network(POOL6)


def test_everybody_reaches_everybody_in_both_families(dual: Cluster, containers: list[Container]) -> None:
    assert dual.unreached(containers) == []


def test_nobody_translates_addresses_of_either_family(dual: Cluster, containers: list[Container]) -> None:
    one, other = (next(c for c in containers if c.host is host) for host in dual.hosts)
    for client, server in ((one, other), (other, one)):
        assert client.ask(server.address) == client.address
        assert client.ask(server.address6) == client.address6


def test_a_host_reaches_the_containers_of_all_hosts_in_both_families(
    dual: Cluster, containers: list[Container]
) -> None:
    for host in dual.hosts:
        for container in containers:
            for address in container.addresses:
                assert ask_from(host, address), f"{host.name} asks {container} at {address}"


def test_the_largest_packet_arrives_whole_in_both_families(dual: Cluster, containers: list[Container]) -> None:
    one, other = (next(c for c in containers if c.host is host) for host in dual.hosts)
    mtu = int(one.run("cat", "/sys/class/net/eth0/mtu"))
    for address in other.addresses:
        assert one.passes_unfragmented(address, mtu)
        assert not one.passes_unfragmented(address, mtu + 1)


def test_names_resolve_in_both_families(dual: Cluster, containers: list[Container]) -> None:
    one, other = (container for container in containers if container.host is dual.hosts[0])
    said = one.run("nslookup", other.name)
    assert other.address in said
    assert other.address6 in said
