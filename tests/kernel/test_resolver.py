"""The way from a container to the resolver of its host, and from nowhere else."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network

import pytest

from driver.endpoints import join_answer, resolver_route
from driver.goal import LocalNetwork, endpoint_objects, goal
from driver.model import Endpoint, JoinAnswer, Network
from driver.plan import Put, plan
from names.messages import Member, Update, encode
from tests.kernel.conftest import NamespaceHost, ip

RESOLVERS = {4: ip_address("169.254.53.53"), 6: ip_address("fda9:fe35:35::53")}
POOLS = {
    4: (ip_network("10.240.0.0/18"), ip_network("10.241.0.0/18")),
    6: (ip_network("fd77::/64"), ip_network("fd78::/64")),
}
SHOP = {4: ip_address("10.240.0.99"), 6: ip_address("fd77::99")}
ASK = """
import ipaddress, socket, sys, time
server, attempts, patience = sys.argv[1:]
family = socket.AF_INET6 if ":" in server else socket.AF_INET
client = socket.socket(family, socket.SOCK_DGRAM)
client.settimeout(float(patience))
client.connect((server, 53))
kind, size = (b"\\x1c", 16) if family == socket.AF_INET6 else (b"\\1", 4)
query = b"\\x12\\x34\\x01\\0\\0\\x01\\0\\0\\0\\0\\0\\0\\x04shop\\0\\0" + kind + b"\\0\\x01"
for attempt in range(int(attempts)):
    try:
        client.send(query)
        answer = client.recv(512)
        print(answer[3] & 0xF, *([ipaddress.ip_address(answer[-size:])] if answer[7] else []), client.getsockname()[0])
        break
    except ConnectionRefusedError:
        print("unreachable")
        time.sleep(0.1)
    except TimeoutError:
        print("silence")
"""


def network(number: int, version: int = 4) -> Network:
    pool = POOLS[version][number]
    return Network(f"n{number}", (pool,), (pool[1],), "vxlan", 7 + number, 8479, None, False, ())


def endpoint(number: int, version: int) -> Endpoint:
    address = POOLS[version][number][10]
    return Endpoint(f"e{number}0123456789", f"n{number}", (address,), "02:00:00:00:00:0a", sandbox="sandbox")


@pytest.fixture(params=[4, 6])
def version(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def host(two_hosts: tuple[NamespaceHost, NamespaceHost]) -> NamespaceHost:
    host = two_hosts[0]
    host.run("sysctl", "-qw", "net.ipv6.conf.all.forwarding=1")
    wanted = goal("h0", host.kernel.underlay(None, ()), [], host.kernel.read(), RESOLVERS.values())
    for operation in plan(host.kernel.read(), wanted):
        host.kernel.apply(operation)
    return host


@contextmanager
def serving(host: NamespaceHost, version: int, *askers: str) -> Iterator[None]:
    """On both addresses; only with `version` are there networks."""
    where = ["53", *map(str, RESOLVERS.values())]
    command = ["ip", "netns", "exec", host.name, sys.executable, "-P", "-m", "names", *where]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        web = str(POOLS[version][0])
        shop = Member(web, "web", "shop", ("shop",), (str(SHOP[version]),))
        process.stdin.write(encode(Update({"1": shop}, dict.fromkeys(askers, (web,)), {web: (web,)})))
        process.stdin.flush()
        assert "unreachable" not in ask(host.name, version, 50)[-1]
        yield
        process.stdin.close()
        assert process.wait(30) == 0


def ask(netns: str, version: int, attempts: int = 1, patience: float = 5) -> list[str]:
    where = ["ip", "netns", "exec", netns, sys.executable, "-c", ASK, str(RESOLVERS[version])]
    command = [*where, str(attempts), str(patience)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip().splitlines()


@pytest.fixture
def container(host: NamespaceHost, version: int) -> Iterator[str]:
    """A container of two networks, as Join's answers make libnetwork set it up."""
    name = f"{host.name}c"
    ip("netns", "add", name)
    try:
        made: list[Endpoint] = []
        for number in range(2):
            one = endpoint(number, version)
            one = replace(one, resolver=resolver_route(RESOLVERS.values(), one, made))
            made.append(one)
            host.kernel.add_veth(one.host_link, one.container_link, 1500)
            for o in endpoint_objects(network(number, version), one, 1500):
                host.kernel.apply(Put(o))
            ip("link", "set", one.container_link, "netns", name, netns=host.name)
            set_up(name, f"eth{number}", one, join_answer(network(number, version), one))
        yield name
    finally:
        ip("netns", "del", name)


def set_up(netns: str, dev: str, one: Endpoint, answer: JoinAnswer) -> None:
    address = ip_interface(one.addresses[0])
    ip("link", "set", answer.source_link, "name", dev, netns=netns)
    ip("addr", "add", str(address), "dev", dev, *(["nodad"] if address.version == 6 else []), netns=netns)
    ip("link", "set", dev, "up", netns=netns)
    for route in sorted(answer.static_routes, key=lambda route: route.next_hop is not None):
        way = ["via", str(route.next_hop)] if route.next_hop else ["dev", dev]
        ip("route", "add", str(route.destination), *way, netns=netns)


def test_a_container_asks_through_each_of_its_networks_in_turn(
    host: NamespaceHost, container: str, version: int
) -> None:
    first, second = (str(pool[10]) for pool in POOLS[version])
    with serving(host, version, first, second):
        assert ask(container, version) == [f"0 {SHOP[version]} {first}"]
        ip("link", "del", "eth0", netns=container)  # as `docker network disconnect` does
        assert ask(container, version) == [f"0 {SHOP[version]} {second}"]


def test_who_is_no_container_of_ours_is_refused_and_who_is_beyond_the_host_hears_nothing(
    two_hosts: tuple[NamespaceHost, NamespaceHost], host: NamespaceHost, container: str, version: int
) -> None:
    _, other = two_hosts
    here = {4: "192.0.2.1", 6: "fd00:1::1"}
    other.ip("route", "add", str(RESOLVERS[version]), "via", here[version])
    with serving(host, version):
        assert ask(container, version) == [f"5 {POOLS[version][0][10]}"]
        assert ask(host.name, version)[0].startswith("5 ")
        assert ask(other.name, version, patience=0.5) == ["silence"]


def test_without_the_resolver_a_container_hears_so_at_once(host: NamespaceHost, container: str, version: int) -> None:
    """Then Docker asks the next server without waiting."""
    assert ask(container, version) == ["unreachable"]


def test_the_way_to_the_resolver_is_kept(host: NamespaceHost) -> None:
    wanted = goal("h0", host.kernel.underlay(None, ()), [], host.kernel.read(), RESOLVERS.values())
    assert plan(host.kernel.read(), wanted) == []
    for resolver in RESOLVERS.values():
        host.ip("route", "del", "local", str(resolver), "table", "local")
    operations = plan(host.kernel.read(), wanted)
    ways = {"route local 169.254.53.53/32", "route local fda9:fe35:35::53/128"}
    assert {str(operation) for operation in operations} == {f"+ {way}" for way in ways}
    for operation in operations:
        host.kernel.apply(operation)
    assert plan(host.kernel.read(), wanted) == []
    without = goal("h0", host.kernel.underlay(None, ()), [LocalNetwork(network(0), (), ())], host.kernel.read())
    assert {f"- {way}" for way in ways} <= set(map(str, plan(host.kernel.read(), without)))
