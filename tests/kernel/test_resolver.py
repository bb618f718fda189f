"""The way from a container to the resolver of its host, and from nowhere else."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from driver.endpoints import join_answer, resolver_route
from driver.goal import LocalNetwork, endpoint_objects, goal
from driver.model import Endpoint, JoinAnswer, Network
from driver.plan import Put, plan
from names.messages import Member, Update, encode
from tests.kernel.conftest import NamespaceHost, ip

RESOLVER = ip_address("169.254.53.53")
POOLS = (ip_network("10.240.0.0/18"), ip_network("10.241.0.0/18"))
WEB, DB = map(str, POOLS)
ASK = """
import socket, sys, time
client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
client.settimeout(float(sys.argv[2]))
client.connect(("169.254.53.53", 53))
query = b"\\x12\\x34\\x01\\0\\0\\x01\\0\\0\\0\\0\\0\\0\\x04shop\\0\\0\\x01\\0\\x01"
for attempt in range(int(sys.argv[1])):
    try:
        client.send(query)
        answer = client.recv(512)
        print(answer[3] & 0xF, *answer[-4:] if answer[7] else "", client.getsockname()[0])
        break
    except ConnectionRefusedError:
        print("unreachable")
        time.sleep(0.1)
    except TimeoutError:
        print("silence")
"""


def network(number: int) -> Network:
    pool = POOLS[number]
    return Network(f"n{number}", (pool,), (pool[1],), "vxlan", 7 + number, 8479, None, False, ())


def endpoint(number: int) -> Endpoint:
    return Endpoint(f"e{number}0123456789", f"n{number}", (POOLS[number][10],), "02:00:00:00:00:0a", sandbox="sandbox")


@pytest.fixture
def host(two_hosts: tuple[NamespaceHost, NamespaceHost]) -> NamespaceHost:
    host = two_hosts[0]
    wanted = goal("h0", host.kernel.underlay(None, ()), [], host.kernel.read(), RESOLVER)
    for operation in plan(host.kernel.read(), wanted):
        host.kernel.apply(operation)
    return host


@contextmanager
def serving(host: NamespaceHost, *askers: str) -> Iterator[None]:
    command = ["ip", "netns", "exec", host.name, sys.executable, "-P", "-m", "names", f"{RESOLVER}:53"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        shop = Member(WEB, "web", "shop", ("shop",), ("10.240.0.99",))
        process.stdin.write(encode(Update({"1": shop}, dict.fromkeys(askers, (WEB,)), {WEB: (WEB,)})))
        process.stdin.flush()
        assert "unreachable" not in ask(host.name, 50)[-1]
        yield
        process.stdin.close()
        assert process.wait(30) == 0


def ask(netns: str, attempts: int = 1, patience: float = 5) -> list[str]:
    command = ["ip", "netns", "exec", netns, sys.executable, "-c", ASK, str(attempts), str(patience)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip().splitlines()


@pytest.fixture
def container(host: NamespaceHost) -> Iterator[str]:
    """A container of two networks, as Join's answers make libnetwork set it up."""
    name = f"{host.name}c"
    ip("netns", "add", name)
    try:
        made: list[Endpoint] = []
        for number in range(2):
            one = endpoint(number)
            one = replace(one, resolver=resolver_route(RESOLVER, one, made))
            made.append(one)
            host.kernel.add_veth(one.host_link, one.container_link, 1500)
            for o in endpoint_objects(network(number), one, 1500):
                host.kernel.apply(Put(o))
            ip("link", "set", one.container_link, "netns", name, netns=host.name)
            set_up(name, f"eth{number}", one, join_answer(network(number), one))
        yield name
    finally:
        ip("netns", "del", name)


def set_up(netns: str, dev: str, one: Endpoint, answer: JoinAnswer) -> None:
    ip("link", "set", answer.source_link, "name", dev, netns=netns)
    ip("addr", "add", f"{one.addresses[0]}/32", "dev", dev, netns=netns)
    ip("link", "set", dev, "up", netns=netns)
    for route in sorted(answer.static_routes, key=lambda route: route.next_hop is not None):
        way = ["via", str(route.next_hop)] if route.next_hop else ["dev", dev]
        ip("route", "add", str(route.destination), *way, netns=netns)


def test_a_container_asks_through_each_of_its_networks_in_turn(host: NamespaceHost, container: str) -> None:
    with serving(host, "10.240.0.10", "10.241.0.10"):
        assert ask(container) == ["0 10 240 0 99 10.240.0.10"]
        ip("link", "del", "eth0", netns=container)  # as `docker network disconnect` does
        assert ask(container) == ["0 10 240 0 99 10.241.0.10"]


def test_who_is_no_container_of_ours_is_refused_and_who_is_beyond_the_host_hears_nothing(
    two_hosts: tuple[NamespaceHost, NamespaceHost], host: NamespaceHost, container: str
) -> None:
    _, other = two_hosts
    other.ip("route", "add", str(RESOLVER), "via", "192.0.2.1")
    with serving(host):
        assert ask(container) == ["5 10.240.0.10"]
        assert ask(host.name) == [f"5 {RESOLVER}"]
        assert ask(other.name, patience=0.5) == ["silence"]


def test_without_the_resolver_a_container_hears_so_at_once(host: NamespaceHost, container: str) -> None:
    """Then Docker asks the next server without waiting."""
    assert ask(container) == ["unreachable"]


def test_the_way_to_the_resolver_is_kept(host: NamespaceHost) -> None:
    wanted = goal("h0", host.kernel.underlay(None, ()), [], host.kernel.read(), RESOLVER)
    assert plan(host.kernel.read(), wanted) == []
    host.ip("route", "del", "local", str(RESOLVER), "table", "local")
    operations = plan(host.kernel.read(), wanted)
    assert [str(operation) for operation in operations] == ["+ route local 169.254.53.53/32"]
    host.kernel.apply(operations[0])
    assert plan(host.kernel.read(), wanted) == []
    without = goal("h0", host.kernel.underlay(None, ()), [LocalNetwork(network(0), (), ())], host.kernel.read())
    assert "- route local 169.254.53.53/32" in map(str, plan(host.kernel.read(), without))
