"""`-o gateway=direct`: one interface, the way out and published ports are ours."""

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.lab import commands
from tests.lab.cluster import ASK, POOL, POOL6, Cluster, Container, Keeper, ask_from, caller_in

PYTHON = (sys.executable, "-I", "-c")
DIRECT = ("-o", "gateway=direct", "--ipv6", "--subnet", POOL, "--subnet", POOL6)
ECHO = """
import socket
server = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
server.bind(("::", 53))
while True:
    message, caller = server.recvfrom(100)
    server.sendto(message, caller)
"""
SAY = """
import socket, sys
target, port = sys.argv[1:]
client = socket.socket(socket.AF_INET6 if ":" in target else socket.AF_INET, socket.SOCK_DGRAM)
client.settimeout(1)
client.sendto(b"hello", (target, int(port)))
try:
    print(client.recv(100).decode())
except OSError as error:
    print(error)
"""


@dataclass(frozen=True)
class Direct:
    cluster: Cluster
    server: Container
    mate: Container
    far: Container

    def world_asks(self, address: str, port: int) -> str:
        """Who a machine outside of the cluster is for the one that serves there."""
        enter = self.cluster.lab.switch.enter
        return caller_in(commands.attempt(*enter, "sh", "-c", ASK, address, str(port)).stdout)

    def world_says(self, address: str, port: int) -> str:
        return commands.run(*self.cluster.lab.switch.enter, *PYTHON, SAY, address, str(port))


@pytest.fixture(scope="module")
def direct(clusters: Keeper) -> Iterator[Direct]:
    with clusters.lend() as cluster:
        one, other = cluster.hosts
        cluster.create("web", *DIRECT)
        ports = ("8080:80", "5353:53/udp", "8100-8109:80", f"{one.address}:8082:80", "127.0.0.1:8083:80", "80")
        options = [option for port in ports for option in ("-p", port)]
        server = cluster.run(one, "server", "web", *options)
        echo = server.host.daemon(
            "echo", "nsenter", "-t", server.pid, "-n", sys.executable, "-I", "-c", ECHO, log="echo.log"
        )
        yield Direct(cluster, server, cluster.run(one, "mate", "web"), cluster.run(other, "far", "web"))
        echo.kill()


def test_a_container_has_one_interface_and_reaches_the_world_as_its_host(direct: Direct) -> None:
    switch = direct.cluster.lab.switch
    for container in (direct.server, direct.far):
        links = re.findall(r"^\d+: (\w+)", container.run("ip", "link"), re.MULTILINE)
        assert links == ["lo", "eth0"]
        assert container.unreached([switch.address, switch.address6]) == []
    assert direct.cluster.unreached([direct.server, direct.mate, direct.far]) == []
    assert direct.far.ask(direct.server.address) == direct.far.address
    other = direct.far.host
    assert direct.far.ask(direct.server.host.address, 8080) == other.address
    assert direct.far.ask(direct.server.host.address6, 8080) == other.address6


def test_published_ports_answer_the_world(direct: Direct) -> None:
    host, switch = direct.server.host, direct.cluster.lab.switch
    assert direct.world_asks(host.address, 8080) == switch.address
    assert direct.world_asks(host.address6, 8080) == switch.address6
    assert direct.world_asks(host.address, 8100) == switch.address
    assert direct.world_asks(host.address, 8082) == switch.address
    assert direct.world_asks(host.address6, 8082) == direct.world_asks(host.address, 8083) == ""
    for address in (host.address, host.address6):
        assert direct.world_says(address, 5353) == "hello"
    assert direct.world_asks(host.address, ephemeral_port(direct)) == switch.address


def ephemeral_port(direct: Direct) -> int:
    """Docker does not show what a remote driver publishes, so it is looked up in the log."""
    said = re.findall(r"ports published .*", direct.server.host.flannelpy_log())[-1]
    chosen = {int(port) for port in re.findall(r":(\d+)/tcp", said)} - {8080, 8082, 8083, *range(8100, 8110)}
    return chosen.pop()


def test_published_ports_answer_containers_the_host_and_the_container_itself(direct: Direct) -> None:
    host = direct.server.host
    for container in (direct.server, direct.mate):
        for address in (host.address, host.address6):
            assert container.ask(address, 8080), f"{container} asks {address}"
    for address, port in ((host.address, 8080), ("127.0.0.1", 8080), ("127.0.0.1", 8083), (host.address6, 8080)):
        assert ask_from(host, address, port), f"the host asks {address}:{port}"


def test_a_port_that_is_taken_is_refused(direct: Direct) -> None:
    host = direct.server.host
    said = host.docker_refused("run", "--network", "web", "-p", "8080:80", "--name", "late", "lab/busybox", "true")
    assert "port 8080/tcp of this host is taken" in said
    said = host.docker_refused(
        "run",
        "--network",
        "web",
        "-p",
        "2000:80",
        "-p",
        f"{host.address}:8082:1",
        "--name",
        "later",
        "lab/busybox",
        "true",
    )
    assert f"port 8082/tcp of {host.address} is taken" in said
    host.docker("run", "--rm", "--network", "web", "-p", "2000:80", "lab/busybox", "true")


def test_published_ports_outlive_flannelpy_and_end_with_the_container(direct: Direct) -> None:
    host, switch = direct.server.host, direct.cluster.lab.switch
    host.kill_flannelpy()
    assert direct.world_asks(host.address, 8080) == switch.address
    host.start_flannelpy(host.flannelpy_env)
    assert direct.world_asks(host.address, 8080) == switch.address
    brief = direct.cluster.run(host, "brief", "web", "-p", "8090:80")
    brief.await_server()
    assert direct.world_asks(host.address, 8090) == switch.address
    said = host.docker_refused("run", "--network", "web", "-p", "8080:80", "--name", "latest", "lab/busybox", "true")
    assert "port 8080/tcp of this host is taken" in said
    host.docker("rm", "-f", brief.name)
    assert direct.world_asks(host.address, 8090) == ""
    table = host.run("nft", "list", "table", "inet", "flannelpy")
    assert " 8080 : " in table
    assert "8090" not in table


def test_an_internal_network_leads_nowhere(direct: Direct) -> None:
    host = direct.server.host
    internal = ("-d", "flannelpy", "--ipam-driver", "flannelpy", "--internal", "-o", "gateway=direct")
    host.docker("network", "create", *internal, "--subnet", "10.243.0.0/18", "inner")
    inner = direct.cluster.run(host, "inner", "inner", "-p", "8091:80")
    assert "default" not in inner.run("ip", "route")
    assert inner.tool("ip", "route", "add", "default", "via", "10.243.0.1")[0] == 0
    assert inner.unreached([direct.cluster.lab.switch.address]) != []
    assert direct.world_asks(host.address, 8091) == ""


def test_it_is_agreed_in_the_cluster(direct: Direct) -> None:
    host = direct.far.host
    host.docker("rm", "-f", "far")
    host.docker("network", "rm", "web")
    same = ("-d", "flannelpy", "--ipam-driver", "flannelpy", "--ipv6", "--subnet", POOL, "--subnet", POOL6)
    said = host.docker_refused("network", "create", *same, "-o", "gateway=gwbridge", "web")
    assert "is made with -o gateway=direct on the other hosts, not with -o gateway=gwbridge" in said
