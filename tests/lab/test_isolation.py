"""Safe by default: what nobody was allowed to send arrives nowhere, and is counted."""

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import pytest

from driver.backends.vxlan import vtep_mac
from tests.lab import commands
from tests.lab.cluster import POOL, POOL6, Cluster, Container, Keeper
from tests.lab.commands import wait_until
from tests.lab.docker_host import DockerHost
from tests.packets import udp_packet, vxlan_payload

VNI = 77
SEND = """
import socket, sys
target, port, payload = sys.argv[1:]
family = socket.AF_INET6 if ":" in target else socket.AF_INET
socket.socket(family, socket.SOCK_DGRAM).sendto(bytes.fromhex(payload), (target, int(port)))
"""
BIND = """
import socket, sys
source, target = sys.argv[1:]
sender = socket.socket(socket.AF_INET6 if ":" in target else socket.AF_INET, socket.SOCK_DGRAM)
sender.bind((source, 0))
sender.sendto(b"hello", (target, 7))
"""
PYTHON = (sys.executable, "-I", "-c")


@dataclass(frozen=True)
class Town:
    """Two networks of ours on both hosts and a bridge of Docker's on the first, a container in each."""

    cluster: Cluster
    web: list[Container]
    db: list[Container]
    plain: Container


@pytest.fixture(scope="module")
def town(clusters: Keeper) -> Iterator[Town]:
    with clusters.lend() as cluster:
        cluster.create("web", "-o", f"vni={VNI}", "--ipv6", "--subnet", POOL, "--subnet", POOL6)
        cluster.create("db", "-o", "backend=host-gw", "--ipv6", "--subnet", "10.241.0.0/18", "--subnet", "fd78::/64")
        one = cluster.hosts[0]
        one.docker("network", "create", "--ipv6", "--subnet", "fd99::/64", "plain")
        web = cluster.run_everywhere(2, "web")
        db = cluster.run_everywhere(1, "db", first=3)
        yield Town(cluster, web, db, cluster.run(one, "plain", "plain"))


def counted(host: DockerHost) -> dict[str, int]:
    said = json.loads(host.run("nft", "-j", "list", "counters", "table", "inet", "flannelpy"))
    return {part["counter"]["name"]: part["counter"]["packets"] for part in said["nftables"] if "counter" in part}


def count_of(host: DockerHost, name: str) -> int:
    return counted(host)[name]


def received(container: Container) -> int:
    """UDP datagrams that reached it, to ports where nobody listens."""
    lines = [line.split() for line in container.run("cat", "/proc/net/snmp", "/proc/net/snmp6").splitlines()]
    names, values = (line for line in lines if line[0] == "Udp:")
    return int(values[names.index("NoPorts")]) + next(int(line[1]) for line in lines if line[0] == "Udp6NoPorts")


def await_count(count: Callable[[], int], wanted: int) -> None:
    """A packet may be under way for a moment when it was sent."""
    wait_until(f"a count of {wanted}", lambda: count() == wanted, timeout=30, tail=lambda: str(count()))


def await_spoofed(host: DockerHost, before: int) -> None:
    wait_until("one more to be counted", lambda: counted(host)["spoofed"] > before, timeout=30)


def send(source: Container, address: str, target: str) -> None:
    assert source.tool(*PYTHON, BIND, address, target)[0] == 0


def test_a_machine_that_is_no_peer_gets_nothing_into_a_tunnel(town: Town) -> None:
    """It is on the link of all hosts, knows the network's number and who has which address."""
    host, other = town.cluster.hosts
    target, mate = town.web[0], town.web[2]
    for address, forged in zip(target.addresses, mate.addresses, strict=True):
        packet = vxlan_payload(VNI, vtep_mac(host.name, VNI), udp_packet(forged, address, 7, b"hello"))
        arguments = (*PYTHON, SEND, host.address, "8479", packet.hex())
        reached, dropped = received(target), counted(host)["strangers"]
        commands.run(*town.cluster.lab.switch.enter, *arguments)
        await_count(partial(count_of, host, "strangers"), dropped + 1)
        assert received(target) == reached
        other.run(*arguments)  # a peer's, the same packet
        await_count(partial(received, target), reached + 1)


def test_a_container_gets_nothing_into_a_tunnel(town: Town) -> None:
    """Though what it sends leaves its host with the host's address, as a peer's own packets do."""
    one, other = town.cluster.hosts
    liar, target = town.web[2], town.web[0]
    packet = vxlan_payload(VNI, vtep_mac(one.name, VNI), udp_packet(liar.address, target.address, 7, b"hello"))
    reached, dropped = received(target), counted(other)["strangers"]
    assert liar.tool(*PYTHON, SEND, one.address, "8479", packet.hex())[0] == 0
    await_count(partial(count_of, other, "strangers"), dropped + 1)
    assert received(target) == reached


def test_a_container_cannot_send_from_an_address_that_is_not_its_own(town: Town) -> None:
    host, _ = town.cluster.hosts
    liar, honest, near, far = town.web[0], town.web[1], town.web[1], town.web[2]
    for forged, target in (*zip(honest.addresses, far.addresses, strict=True), (far.address, near.address)):
        assert liar.tool("ip", "addr", "add", forged, "dev", "lo")[0] == 0
        victim = far if target in far.addresses else near
        reached, dropped = received(victim), counted(host)["spoofed"]
        send(liar, forged, target)
        await_spoofed(host, dropped)
        assert received(victim) == reached
        assert liar.tool("ip", "addr", "del", forged, "dev", "lo")[0] == 0
    for own, target in zip(liar.addresses, far.addresses, strict=True):
        reached = received(far)
        send(liar, own, target)
        await_count(partial(received, far), reached + 1)


def test_networks_and_dockers_bridges_do_not_reach_each_other(town: Town) -> None:
    """By the ways that Docker gives them, and by those that a container with the right to do so makes for itself."""
    web, db, plain = town.web[0], town.db[0], town.plain
    for container, gateways in ((web, ("10.240.0.1", "fd77::1")), (db, ("10.241.0.1", "fd78::1"))):
        assert container.unreached([*container.addresses, *gateways]) == []
    reached = {container: received(container) for container in (*town.web, *town.db, plain)}
    for source, targets in ((web, [*town.db, plain]), (db, [*town.web, plain]), (plain, [*town.web, *town.db])):
        send_all(source, targets)
    for source, gateways in ((web, ("10.240.0.1", "fd77::1")), (db, ("10.241.0.1", "fd78::1"))):
        for gateway, version in zip(gateways, ("-4", "-6"), strict=True):
            assert source.tool("ip", version, "route", "replace", "default", "via", gateway, "dev", "eth0")[0] == 0
        send_all(source, [*(town.db if source is web else town.web), plain])
    assert {container: received(container) for container in reached} == reached
    assert counted(town.cluster.hosts[0])["crossed"] >= 20


def send_all(source: Container, targets: list[Container]) -> None:
    """One datagram to each address. No route there is fine, too."""
    for target in targets:
        for address, own in zip(target.addresses, source.addresses, strict=True):
            source.tool(*PYTHON, BIND, own, address)
