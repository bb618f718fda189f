"""The way out and published ports by our own translation. The second host is the world here."""

import json
import socket
import struct
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from ipaddress import ip_address

import pytest

from driver.filter import members, sets
from driver.forwarding import Forwarding
from driver.kernel.flows import FEW, forget
from driver.model import Published
from driver.translations import changed, translations
from tests.kernel.conftest import NamespaceHost, inside, ip
from tests.kernel.containers import BRIEF, PATIENCE, Net, connected, endpoint, network, remote, udp_socket
from tests.packets import sctp_init, send_frame, udp_packet

TCP, UDP, SCTP = 6, 17, 132
PUBLISHED = (
    Published(TCP, ip_address("0.0.0.0"), 8080, 80),
    Published(TCP, ip_address("::"), 8080, 80),
    Published(TCP, ip_address("127.0.0.1"), 8081, 80),
    Published(TCP, ip_address("fd00:1::1"), 8082, 80),
    Published(UDP, ip_address("192.0.2.1"), 5353, 53),
)


@pytest.fixture
def net(two_hosts: tuple[NamespaceHost, NamespaceHost]) -> Iterator[Net]:
    with connected(two_hosts, "vxlan", direct=True) as net:
        for place, version in ((place, v) for host in net.places for place in host for v in (4, 6)):
            with udp_socket(place.namespace, place.addresses[version == 6]) as one:  # the gateway's MAC is known
                one.sendto(b"", ("10.240.0.1" if version == 4 else "fd77:0::1", 9))
        net.settle(0, net.sets(0, 0, 1, published=PUBLISHED))
        for link in net.hosts[0].run("sh", "-c", "ls /proc/sys/net/ipv4/conf | grep ^flv").stdout.split():
            net.hosts[0].run("sysctl", "-qw", f"net.ipv4.conf.{link}.route_localnet=1")
        yield net


def server(namespace: str) -> socket.socket:
    def make() -> socket.socket:
        return socket.create_server(("::", 80), family=socket.AF_INET6, dualstack_ipv6=True)

    made = inside(namespace, make)
    made.settimeout(1)
    return made


def caller(net: Net, namespace: str, address: str, port: int) -> str:
    """Who somebody in the namespace is for the container on the first host; empty where the port leads nowhere."""

    def connect() -> socket.socket:
        return socket.create_connection((address, port), timeout=0.5)

    with closing(server(net.places[0][0].namespace)) as listening:
        try:
            with inside(namespace, connect):
                made, peer = listening.accept()
                made.close()
                return str(peer[0]).removeprefix("::ffff:")
        except OSError:
            return ""


def test_a_published_port_leads_to_the_container_from_everywhere(net: Net) -> None:
    host, world = (host.name for host in net.hosts)
    own, mate = net.places[0][0], net.places[0][1]  # the mate is in the other network
    assert caller(net, world, "192.0.2.1", 8080) == "192.0.2.2"
    assert caller(net, world, "fd00:1::1", 8080) == "fd00:1::2"
    assert caller(net, world, "fd00:1::1", 8082) == "fd00:1::2"
    assert caller(net, world, "192.0.2.1", 8082) == caller(net, world, "192.0.2.1", 8081) == ""
    for address in ("192.0.2.1", "fd00:1::1"):
        assert caller(net, mate.namespace, address, 8080) == mate.addresses[":" in address]
        assert caller(net, own.namespace, address, 8080)
    for address, port in (("192.0.2.1", 8080), ("127.0.0.1", 8080), ("127.0.0.1", 8081), ("fd00:1::1", 8080)):
        assert caller(net, host, address, port), f"{address} {port}"
    assert net.counted(0) == {}


def test_what_is_published_at_loopback_is_not_for_the_neighbours_on_the_link(net: Net) -> None:
    mac = json.loads(net.hosts[0].ip("-j", "link", "show", "eth0"))[0]["address"]
    net.settle(0, net.sets(0, 0, 1, published=(Published(UDP, ip_address("127.0.0.1"), 5354, 53),)))
    packet = udp_packet("192.0.2.2", "127.0.0.1", 5354, b"hello")
    with udp_socket(net.places[0][0].namespace, "10.240.1.5", 53) as listening:
        inside(net.hosts[1].name, lambda: send_frame(packet, mac))
        with pytest.raises(TimeoutError):
            listening.recv(100)
        with udp_socket(net.hosts[0].name, "127.0.0.1") as client:
            client.sendto(b"mine", ("127.0.0.1", 5354))
        assert listening.recv(100) == b"mine"


def test_a_published_port_ends_at_once(net: Net) -> None:
    net.settle(0, net.sets(0, 0, 1))
    assert caller(net, net.hosts[1].name, "192.0.2.1", 8080) == ""


def test_udp_is_answered_from_the_published_port(net: Net) -> None:
    listening = udp_socket(net.places[0][0].namespace, "10.240.1.5", 53)
    with listening, udp_socket(net.hosts[1].name, "192.0.2.2") as client:
        client.sendto(b"hello", ("192.0.2.1", 5353))
        message, sender = listening.recvfrom(100)
        listening.sendto(message, sender)
        assert client.recvfrom(100) == (b"hello", ("192.0.2.1", 5353))


@pytest.mark.parametrize("version", [4, 6])
def test_sctp_is_published_too(net: Net, version: int) -> None:
    """By hand, since a kernel may translate SCTP and have no sockets of it."""
    if net.hosts[0].run("sysctl", "net.netfilter.nf_conntrack_sctp_timeout_closed").returncode != 0:
        pytest.skip("this kernel does not track SCTP")
    port = Published(SCTP, ip_address("0.0.0.0" if version == 4 else "::"), 9899, 36412)
    net.settle(0, net.sets(0, 0, 1, published=(port,)))

    def raw() -> socket.socket:
        return socket.socket(socket.AF_INET if version == 4 else socket.AF_INET6, socket.SOCK_RAW, SCTP)

    with inside(net.places[0][0].namespace, raw) as listening, inside(net.hosts[1].name, raw) as client:
        client.sendto(sctp_init(5000, 9899), (("192.0.2.1", "fd00:1::1")[version == 6], 0))
        listening.settimeout(PATIENCE)
        assert listening.recv(100)[20 if version == 4 else 0 :][:4] == struct.pack("!HH", 5000, 36412)


@pytest.mark.parametrize(("version", "more"), [(4, 0), (6, 0), (4, 2 * FEW)])
def test_a_flow_follows_its_published_port_to_another_container_and_from_nowhere(
    net: Net, version: int, more: int
) -> None:
    """The client sends from one port all the while, as a resolver or a game does. A range of ports may be published
    with that one."""
    host, forwarding = net.hosts[0], Forwarding()
    port = Published(UDP, ip_address("0.0.0.0" if version == 4 else "::"), 5353, 53)
    to = (("192.0.2.1", "fd00:1::1")[version == 6], 5353)
    first, second = (udp_socket(place.namespace, place.addresses[version == 6], 53) for place in net.places[0])

    def lead(*networks: int) -> None:
        ports = [replace(port, host_port=port.host_port + offset) for offset in range(1 + more)]
        wanted = net.local(*((number, each) for number in networks for each in ports))
        assert inside(host.name, lambda: forwarding.settle(host.kernel.underlay(None, ()), wanted, look=False)) == []

    with first, second, udp_socket(net.hosts[1].name, ("192.0.2.2", "fd00:1::2")[version == 6]) as client:
        lead(0)
        client.sendto(b"one", to)
        assert first.recv(100) == b"one"
        lead(1)
        client.sendto(b"two", to)
        assert second.recv(100) == b"two"
        lead()
        client.sendto(b"three", to)
        lead(0)
        client.sendto(b"four", to)
        assert first.recv(100) == b"four"


def test_flows_that_do_not_come_in_by_a_published_port_go_on(net: Net) -> None:
    """To the same port of another host, and to the container itself."""
    host, port = net.hosts[0], Published(UDP, ip_address("0.0.0.0"), 5353, 53)
    place, world = net.places[0][0], net.hosts[1]
    with udp_socket(world.name, "192.0.2.2", 5353) as far, udp_socket(place.namespace, place.addresses[0]) as near:
        near.sendto(b"out", ("192.0.2.2", 5353))
        assert far.recv(100) == b"out"
        forgotten = inside(
            host.name, lambda: forget(changed({}, translations([replace(endpoint(0, 0), published=(port,))])))
        )
    assert forgotten == 0


@pytest.mark.parametrize("version", [4, 6])
def test_the_way_out_has_the_hosts_address(net: Net, version: int) -> None:
    place, world, here = net.places[0][0], ("192.0.2.2", "fd00:1::2"), ("192.0.2.1", "fd00:1::1")
    with (
        udp_socket(net.hosts[1].name, world[version == 6], 7) as listening,
        udp_socket(place.namespace, place.addresses[version == 6]) as client,
    ):
        client.sendto(b"hello", (world[version == 6], 7))
        message, sender = listening.recvfrom(100)
        assert sender[0] == here[version == 6]
        listening.sendto(message, sender)
        assert client.recv(100) == b"hello"


def test_the_way_out_does_not_lead_into_a_bridge(net: Net) -> None:
    """As Docker's own are, where the bridge networks' containers live."""
    place, foreign = net.places[0][0], net.behind_bridge("docker0", 17)
    with udp_socket(place.namespace, place.addresses[0]) as client:
        client.sendto(b"hello", (foreign.addresses[0], 7))
    net.await_counted(0, {"crossed": 1})


@pytest.mark.parametrize("version", [4, 6])
def test_the_way_out_leads_by_whichever_bridge_has_a_default_route(net: Net, version: int) -> None:
    """A host may reach the others by one interface and the world by another, which virtual machines share."""
    host, place, router = net.hosts[0], net.places[0][0], net.behind_bridge("br0", 18)
    there = router.addresses[version == 6]
    host.ip("route", "replace", "default", "via", there)
    underlay = host.kernel.underlay("eth0", ())
    assert inside(host.name, lambda: Forwarding().settle(underlay, net.local(), look=False)) == []
    client = udp_socket(place.namespace, place.addresses[version == 6])
    with client, udp_socket(router.namespace, there, 7) as world:
        client.sendto(b"hello", (there, 7))
        assert world.recvfrom(100)[1][0] == ("172.18.0.1", "fd99:18::1")[version == 6]


def test_a_published_port_leads_to_the_container_from_behind_a_bridge(net: Net) -> None:
    """As from a container in one of Docker's own networks."""
    foreign = net.behind_bridge("docker0", 17)
    assert caller(net, foreign.namespace, "192.0.2.1", 8080) == "172.17.0.2"
    assert caller(net, foreign.namespace, "172.17.0.1", 8080) == "172.17.0.2"
    assert caller(net, foreign.namespace, "fd00:1::1", 8080) == "fd99:17::2"
    assert caller(net, foreign.namespace, net.places[0][0].addresses[0], 80) == ""
    assert net.counted(0).keys() == {"crossed"}


def test_a_published_port_is_for_all_networks_but_internal_ones(net: Net) -> None:
    """They come to it by an address of the host in their own network: the gateway, or its own among the hosts'."""
    net.hosts[0].ip("addr", "add", "10.241.1.1/32", "dev", "fl.8")
    (here, there), other = (places[1] for places in net.places), network(1, net.backend)
    server, senders = replace(endpoint(0, 0), published=PUBLISHED), members(other, [remote(1, 1)])
    calls = [(here, "10.241.0.1"), (here, "fd77:1::1"), (there, "10.241.1.1")]
    heard = []
    for internal in (False, True):
        networks = [network(0, net.backend, direct=True), replace(other, internal=internal)]
        net.settle(0, sets(networks, senders, [server], ["eth0"]))
        heard.append([caller(net, place.namespace, address, 8080) for place, address in calls])
    assert heard == [[here.addresses[0], here.addresses[1], there.addresses[0]], ["", "", ""]]
    net.await_count(0, "crossed", 3)


def test_a_container_reaches_nothing_at_its_hosts_loopback(net: Net) -> None:
    place = net.places[0][0]
    mac = json.loads(ip("-j", "neigh", "show", "10.240.0.1", netns=place.namespace))[0]["lladdr"]
    packet = udp_packet(place.addresses[0], "127.0.0.1", 7, b"hello")
    with udp_socket(net.hosts[0].name, "127.0.0.1", 7) as listening:
        inside(place.namespace, lambda: send_frame(packet, mac))
        listening.settimeout(BRIEF)
        with pytest.raises(TimeoutError):
            listening.recv(100)
    net.await_counted(0, {"spoofed": 1})
