"""Two hosts with two networks, and a container's namespace in each of them on both hosts."""

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_network

import pytest

from driver.backends.interface import Remote
from driver.filter import Sets, members, sets
from driver.goal import LocalNetwork, goal
from driver.model import Endpoint, Network, Published
from driver.nft import Nft
from driver.plan import Operation, plan
from tests.kernel.conftest import NamespaceHost, inside, ip
from tests.lab.commands import wait_until

PORT = 5555
PATIENCE = 2.0  # seconds for a packet that must arrive
BRIEF = 0.2  # seconds for one that must not
HOSTS = (
    (ip_address("192.0.2.1"), ip_address("fd00:1::1")),
    (ip_address("192.0.2.2"), ip_address("fd00:1::2")),
)


def udp_socket(namespace: str, address: str, port: int = 0) -> socket.socket:
    def make() -> socket.socket:
        made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
        made.bind((address, port))
        made.settimeout(PATIENCE)
        return made

    return inside(namespace, make)


def network(number: int, backend: str, *, direct: bool = False) -> Network:
    """10.240.0.0/18 and fd77:0::/64, 10.241.0.0/18 and fd77:1::/64, ..."""
    pools = (ip_network(f"10.{240 + number}.0.0/18"), ip_network(f"fd77:{number}::/64"))
    gateways = tuple(pool[1] for pool in pools)
    port = 8479 if backend == "vxlan" else 0
    fast = backend in ("vxlan", "host-gw")
    return Network(
        f"n{number}", pools, gateways, backend, 7 + number, port, None, False, (), direct=direct, fast_path=fast
    )


@dataclass(frozen=True)
class Place:
    """A container's namespace and its addresses."""

    namespace: str
    addresses: tuple[str, str]

    def listen(self, version: int) -> socket.socket:
        return udp_socket(self.namespace, self.addresses[version == 6], PORT)


@dataclass
class Net:
    """Two hosts with networks 0 and 1, one container each: `places[host][network]`."""

    hosts: tuple[NamespaceHost, NamespaceHost]
    backend: str
    places: tuple[tuple[Place, Place], tuple[Place, Place]]
    tables: tuple[Nft, Nft]
    direct: bool
    namespaces: list[str]  # deleted in the end

    def sets(self, host: int, *networks: int, published: tuple[Published, ...] = ()) -> Sets:
        """With both hosts as peers of these networks only, and ports that lead to the container in the first."""
        both = [network(number, self.backend, direct=self.direct) for number in (0, 1)]
        server = replace(endpoint(host, 0), published=published)
        return sets(both, [m for n in networks for m in members(both[n], [remote(1 - host, n)])], [server], ["eth0"])

    def local(self, *published: tuple[int, Published]) -> list[LocalNetwork]:
        """The networks of the first host, each port with the number of the network whose container it leads to."""
        return [
            LocalNetwork(
                network(n, self.backend, direct=self.direct),
                (replace(endpoint(0, n), published=tuple(port for number, port in published if number == n)),),
                (remote(1, n),),
            )
            for n in (0, 1)
        ]

    def behind_bridge(self, bridge: str, number: int) -> Place:
        """A container of somebody else's on the first host: 172.NUMBER.0.2, behind a bridge that has 172.NUMBER.0.1;
        fd99:NUMBER:: likewise."""
        host = self.hosts[0]
        name = f"{host.name}{bridge}"
        ip("netns", "add", name)
        self.namespaces.append(name)
        host.ip("link", "add", bridge, "type", "bridge")
        host.ip("link", "add", f"p{bridge}", "master", bridge, "type", "veth", "peer", "name", "eth0", "netns", name)
        for netns, link, last in ((host.name, bridge, 1), (name, "eth0", 2)):
            ip("addr", "add", f"172.{number}.0.{last}/16", "dev", link, netns=netns)
            ip("addr", "add", f"fd99:{number}::{last}/64", "dev", link, "nodad", netns=netns)
            ip("link", "set", link, "up", netns=netns)
        host.ip("link", "set", f"p{bridge}", "up")
        for gateway in (f"172.{number}.0.1", f"fd99:{number}::1"):
            ip("route", "add", "default", "via", gateway, netns=name)
        return Place(name, (f"172.{number}.0.2", f"fd99:{number}::2"))

    def settle(self, host: int, wanted: Sets) -> None:
        inside(self.hosts[host].name, lambda: self.tables[host].settle(wanted))

    def counted(self, host: int) -> dict[str, int]:
        said = self.hosts[host].run("nft", "-j", "list", "counters", "table", "inet", "flannelpy").stdout
        found = [part["counter"] for part in json.loads(said)["nftables"] if "counter" in part]
        return {counter["name"]: counter["packets"] for counter in found if counter["packets"]}

    def await_count(self, host: int, name: str, least: int) -> None:
        wait_until(f"{name} {least}", lambda: self.counted(host).get(name, 0) >= least, timeout=10)

    def await_counted(self, host: int, wanted: dict[str, int]) -> None:
        """A packet may be under way for a moment when it was sent."""
        wait_until(f"{wanted}", lambda: self.counted(host) == wanted, timeout=10, tail=lambda: str(self.counted(host)))


def block(host: int, number: int, version: int) -> str:
    return f"10.{240 + number}.{host + 1}.0/26" if version == 4 else f"fd77:{number}::{host + 1}00/122"


def remote(host: int, number: int) -> Remote:
    return Remote(f"h{host}", HOSTS[host], tuple(ip_network(block(host, number, version)) for version in (4, 6)))


def endpoint(host: int, number: int) -> Endpoint:
    addresses = tuple(ip_network(block(host, number, version))[5] for version in (4, 6))
    return Endpoint(f"{host}{number}aaaaaaaaa", f"n{number}", addresses, "02:00:00:00:00:05")


def connect(host: NamespaceHost, one: Endpoint, net: Network) -> Place:
    name = f"{host.name}{one.id[:2]}"
    ip("netns", "add", name)
    host.kernel.add_veth(one.host_link, one.container_link, 1400)
    ip("link", "set", one.container_link, "netns", name, "name", "eth0", netns=host.name)
    ip("link", "set", "lo", "up", netns=name)
    ip("link", "set", "eth0", "up", netns=name)
    for address, gateway in zip(one.addresses, net.gateways, strict=True):
        length = 32 if address.version == 4 else 128
        ip("addr", "add", f"{address}/{length}", "dev", "eth0", *(["nodad"] if length == 128 else []), netns=name)
        ip("route", "add", f"{gateway}/{length}", "dev", "eth0", netns=name)
        ip("route", "add", "default", "via", str(gateway), netns=name)
    return Place(name, (str(one.addresses[0]), str(one.addresses[1])))


def await_address(host: NamespaceHost) -> None:
    """From a link without a link-local address the kernel asks for no neighbour of what it forwards."""

    def there() -> bool:
        found = host.run("ip", "-6", "-o", "addr", "show", "dev", "eth0", "scope", "link").stdout
        return bool(found) and "tentative" not in found

    wait_until(f"the link-local address of {host.name}", there, timeout=10)


def bring_about(host: NamespaceHost, number: int, local: list[LocalNetwork], *, fast: bool = True) -> list[Operation]:
    """The kernel of the host with this number as it should be; what was done."""
    done: list[Operation] = []
    for _ in range(2):
        actual, underlay = host.kernel.read(), host.kernel.underlay(None, ())
        for operation in plan(actual, goal(f"h{number}", underlay, local, actual, fast=fast)):
            host.kernel.apply(operation)
            done.append(operation)
    return done


@contextmanager
def connected(
    two_hosts: tuple[NamespaceHost, NamespaceHost], backend: str, *, direct: bool = False, fast: bool = True
) -> Iterator[Net]:
    made: list[str] = []
    try:
        places = []
        for number, host in enumerate(two_hosts):
            host.run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
            networks = [network(n, backend, direct=direct) for n in (0, 1)]
            here = [connect(host, endpoint(number, n), networks[n]) for n in (0, 1)]
            made += [place.namespace for place in here]
            places.append((here[0], here[1]))
            local = [LocalNetwork(networks[n], (endpoint(number, n),), (remote(1 - number, n),)) for n in (0, 1)]
            bring_about(host, number, local, fast=fast)
        net = Net(two_hosts, backend, (places[0], places[1]), (Nft(), Nft()), direct, made)
        for number in (0, 1):
            net.settle(number, net.sets(number, 0, 1))
        for host in two_hosts:
            await_address(host)
        yield net
    finally:
        for name in made:
            ip("netns", "del", name)


@pytest.fixture(params=["vxlan", "host-gw"])
def net(two_hosts: tuple[NamespaceHost, NamespaceHost], request: pytest.FixtureRequest) -> Iterator[Net]:
    with connected(two_hosts, request.param) as made:
        yield made
