"""Programs come and go while connections last. The hosts track those that pass their rules, and on a host that drops
what does not fit what it has tracked, none may break."""

import json
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from driver.fast_path import tracking
from driver.goal import LocalNetwork
from tests.kernel.conftest import NamespaceHost, inside
from tests.kernel.containers import PORT, Net, Place, bring_about, connected, endpoint, network, remote

Hosts = tuple[NamespaceHost, NamespaceHost]
BULK = 4 << 20  # bytes: more than any window that was tracked at the beginning
STUCK = 5.0  # seconds
STRICT = """
table inet strict {
    chain forward { type filter hook forward priority 0; ct state invalid counter drop; }
}
"""


def be_strict(host: NamespaceHost) -> None:
    subprocess.run(["ip", "netns", "exec", host.name, "nft", "-f", "-"], input=STRICT, text=True, check=True)


def dropped(host: NamespaceHost) -> int:
    listed = json.loads(host.run("nft", "-j", "list", "table", "inet", "strict").stdout)["nftables"]
    [rule] = [part["rule"]["expr"] for part in listed if "rule" in part]
    return next(int(each["counter"]["packets"]) for each in rule if "counter" in each)


def programs(net: Net, number: int, *, on: bool) -> None:
    """On the links of one host, or on none of them."""
    networks, host = [network(n, net.backend) for n in (0, 1)], net.hosts[number]
    local = [LocalNetwork(networks[n], (endpoint(number, n),), (remote(1 - number, n),)) for n in (0, 1)]
    done = bring_about(host, number, local, fast=on)
    inside(host.name, lambda: tracking.forget(done, networks))


class Connection:
    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self._ends = client, server

    def carries_both_ways(self) -> None:
        for sender, receiver in (self._ends, self._ends[::-1]):
            sending = threading.Thread(target=lambda sender=sender: sender.sendall(bytes(BULK)))
            sending.start()
            left = BULK
            while left:
                left -= len(receiver.recv(min(left, 1 << 16)))
            sending.join()


@contextmanager
def connection(client: Place, server: Place, version: int) -> Iterator[Connection]:
    family = socket.AF_INET6 if version == 6 else socket.AF_INET
    where = server.addresses[version == 6], PORT

    def calling() -> socket.socket:
        made = socket.socket(family, socket.SOCK_STREAM)
        made.settimeout(STUCK)
        made.connect(where)
        return made

    with (
        inside(server.namespace, lambda: socket.create_server(where, family=family)) as listening,
        inside(client.namespace, calling) as one,
        listening.accept()[0] as other,
    ):
        other.settimeout(STUCK)
        yield Connection(one, other)


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("fast", [False, True])
def test_a_connection_outlives_programs_that_come_and_go(two_hosts: Hosts, fast: bool, version: int) -> None:
    """Begun before there are any, or after."""
    with connected(two_hosts, "vxlan", fast=fast) as net:
        for host in two_hosts:
            be_strict(host)
        with connection(net.places[0][0], net.places[1][0], version) as it:
            it.carries_both_ways()
            for on in (not fast, fast, not fast):
                for number in (0, 1):
                    programs(net, number, on=on)
                    it.carries_both_ways()
        assert [dropped(host) for host in two_hosts] == [0, 0]
