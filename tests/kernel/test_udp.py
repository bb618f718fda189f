"""The udp backend on real kernels: forwarders that run, packets that cross, and everything that may happen to them."""

import os
import signal
import socket
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from driver.endpoints import attach
from driver.errors import KernelError
from driver.model import Endpoint
from driver.plan import plan
from driver.state import LinkState
from tests.kernel.conftest import NamespaceHost, inside
from tests.kernel.udp_hosts import (
    BLOCKS,
    NETWORK,
    PORT,
    UdpHost,
    eventually,
    joined,
    python,
    said,
    sends,
    without_v4,
)

Hosts = tuple[NamespaceHost, NamespaceHost]
Pair = tuple[UdpHost, UdpHost]
BORROWED = BLOCKS[1][1][0]

ECHO = """
import socket, sys
udp = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM)
udp.bind((sys.argv[1], 7))
print("ready", flush=True)
while True:
    udp.sendto(*udp.recvfrom(65536))
"""
ASK = """
import random, socket, sys
udp = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM)
udp.settimeout(3)
for size in (0, 1, 100, 1400, 1428, 1429, 9000, 60000):
    content = random.Random(size).randbytes(size)
    udp.sendto(content, (sys.argv[1], 7))
    assert udp.recv(65536) == content, size
if len(sys.argv) > 2:  # many of one size in one call: UDP_SEGMENT
    udp.setsockopt(socket.SOL_UDP, 103, 1000)
    content = random.Random(0).randbytes(40_500)
    udp.sendto(content, (sys.argv[1], 7))
    assert b"".join(udp.recv(65536) for _ in range(41)) == content
print("all")
"""
RUBBISH = """
import random, socket, sys
chance, udp = random.Random(3), socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind((sys.argv[1], 8478))
for number in range(2000):
    header = bytes([1, 16, 0, number % 3, 0, 0, 7, chance.choice([0, 0x40, 0x41, 0x44, 0x45, 0xC1, 3])])
    content = chance.choice([b"", header]) + chance.randbytes(chance.choice([0, 1, 8, 20, 60, 400, 1400]))
    udp.sendto(content, (sys.argv[2], 8478))
"""


@pytest.fixture
def pair(two_hosts: Hosts, tmp_path: Path) -> Iterator[Pair]:
    with joined(two_hosts, tmp_path) as (a, b):
        yield a, b


@pytest.mark.parametrize("v6", [False, True])
def test_hosts_reach_each_other_in_both_families_up_to_the_mtu(two_hosts: Hosts, tmp_path: Path, v6: bool) -> None:
    mtu = 1436 if v6 else 1456
    with joined(two_hosts, tmp_path, v6=v6) as (a, b):
        for target, headers in ((b.address, 28), (b.address6, 48)):
            assert a.host.pings(target, size=mtu - headers)
            assert not a.host.pings(target, size=mtu - headers + 1)
            fragments = a.host.run("ping", "-c", "1", "-W", "2", "-M", "dont", "-s", "5000", str(target))
            assert fragments.returncode == 0
        for each in (a, b):
            underlay = each.underlay()
            assert each.settle(each.desired(without_v4(underlay) if v6 else underlay)) == []


@pytest.mark.parametrize("family", [4, 6])
def test_tcp_carries_content_unchanged_both_ways(pair: Pair, family: int) -> None:
    a, b = pair
    sends(a, b, b.address if family == 4 else b.address6, 30_000_000)
    sends(b, a, a.address if family == 4 else a.address6, 3_000_000)
    assert a.counters()["malformed"] == b.counters()["malformed"] == b.counters()["unwritten"] == 0


@pytest.mark.parametrize(("cut", "every"), [(False, 20), (True, 100)])
def test_tcp_carries_content_unchanged_when_packets_are_lost(pair: Pair, cut: bool, every: int) -> None:
    """`cut`: single datagrams are lost, as between machines; otherwise what goes through the cable in one piece is."""
    a, b = pair
    if cut:
        for each in pair:
            each.host.ip("link", "set", "eth0", "gso_max_segs", "1")
    rules = "add table netdev t; add chain netdev t c { type filter hook ingress device eth0 priority 0; };"
    rules += f"add rule netdev t c udp dport 8478 numgen inc mod {every} 0 counter drop"
    assert b.host.run("nft", rules).returncode == 0
    sends(a, b, b.address, 5_000_000)
    assert "packets 0 " not in b.host.run("nft", "list", "chain", "netdev", "t", "c").stdout


@pytest.mark.parametrize("family", [4, 6])
def test_udp_datagrams_of_all_sizes_come_back_unchanged(pair: Pair, family: int) -> None:
    a, b = pair
    target = b.address if family == 4 else b.address6
    with python(b, ECHO, target) as echo:
        assert echo.stdout is not None
        assert echo.stdout.readline() == "ready\n"
        try:
            assert said(a, ASK, target, "segments") == "all"
        finally:
            echo.kill()


def test_a_container_hands_over_no_more_than_goes_in_one_call(pair: Pair) -> None:
    """Else the rest of each packet would be a second call here, and mostly another packet for the other host."""
    host = pair[0].host
    endpoint = Endpoint("e" * 64, NETWORK.id, (BLOCKS[0][0][5],), "02:00:00:00:00:05")
    inside(host.name, lambda: attach(host.kernel, NETWORK, endpoint, 1456))
    assert " gso_max_segs 44 " in host.ip("-d", "link", "show", endpoint.container_link)
    assert " gso_max_segs 44 " not in host.ip("-d", "link", "show", endpoint.host_link)


def test_a_borrowed_address_is_reached_at_its_borrower(pair: Pair) -> None:
    a, b = pair
    b.host.ip("addr", "add", f"{BORROWED}/32", "dev", "lo")
    assert a.host.pings(BORROWED)


def test_who_sends_from_an_address_that_is_not_its_own_is_not_heard(pair: Pair) -> None:
    a, b = pair
    for stolen in ("10.240.9.9", "10.240.2.5"):
        before = b.counters()["spoofed"]
        a.host.ip("addr", "add", f"{stolen}/32", "dev", "lo")
        a.host.run("ping", "-c", "1", "-W", "0.2", "-I", stolen, str(b.address))
        eventually(partial(counts_spoofed, b, before + 1))
    assert a.host.pings(b.address)


def counts_spoofed(host: UdpHost, wanted: int) -> bool:
    return host.counters()["spoofed"] == wanted


def test_who_is_no_peer_is_not_heard(pair: Pair) -> None:
    a, b = pair
    a.host.ip("addr", "add", "192.0.2.77/24", "dev", "eth0")
    before = b.counters()
    said(a, RUBBISH, "192.0.2.77", "192.0.2.2")
    eventually(lambda: sum(b.counters().values()) - sum(before.values()) >= 2000)
    after = b.counters()
    assert after["strangers"] > before["strangers"]
    assert (after["spoofed"], after["unwritten"]) == (before["spoofed"], before["unwritten"])


def test_rubbish_of_a_peer_reaches_nobody_and_breaks_nothing(pair: Pair) -> None:
    a, b = pair
    [pid] = a.forwarders()
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not a.forwarders())
    received = b.host.run("cat", "/sys/class/net/fl.7/statistics/rx_packets").stdout
    said(a, RUBBISH, "192.0.2.1", "192.0.2.2")
    eventually(lambda: b.counters()["malformed"] > 1000)
    assert b.host.run("ip", "-s", "link", "show", "fl.7").stdout
    assert b.host.run("cat", "/sys/class/net/fl.7/statistics/rx_packets").stdout == received
    a.settle(a.desired(a.underlay()))
    assert a.host.pings(b.address)


def test_a_killed_forwarder_is_started_again_and_the_kernel_has_kept_the_rest(pair: Pair) -> None:
    a, b = pair
    [pid] = a.forwarders()
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not a.forwarders())
    assert [text[:11] for text in a.settle(a.desired(a.underlay()))] == ["+ forwarder", "+ peer h1 a"]
    assert a.host.pings(b.address)
    assert a.host.pings(b.address6)


def test_a_forwarder_that_hangs_is_replaced(pair: Pair) -> None:
    a, b = pair
    [pid] = a.forwarders()
    os.kill(pid, signal.SIGSTOP)
    assert a.settle(a.desired(a.underlay()))
    assert pid not in a.forwarders()
    assert a.host.pings(b.address)


def test_it_is_nobodys_child_and_a_session_of_its_own(pair: Pair) -> None:
    for pid in pair[0].forwarders():
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        assert int(fields[1]) != os.getpid()
        assert int(fields[3]) != os.getsid(0)


def test_a_forwarder_of_another_version_is_replaced(pair: Pair) -> None:
    a, b = pair
    [pid] = a.forwarders()
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not a.forwarders())
    a.socket.unlink()
    asked: list[bytes] = []

    def old() -> None:
        """All that is promised of any version: it tells its version, and `Stop` ends it."""
        while not asked or b"stop" not in asked[-1]:
            peer, _ = listener.accept()
            with peer:
                asked.append(peer.recv(1000))
                peer.sendall(b'{"version": 999, "surprise": [1]}\n')

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(a.socket))
        listener.listen()
        thread = threading.Thread(target=old)
        thread.start()
        a.settle(a.desired(a.underlay()))
        thread.join(5)
    assert a.host.pings(b.address)


def test_networks_of_one_port_share_a_forwarder_that_ends_with_the_last(pair: Pair) -> None:
    a, b = pair
    before = a.forwarders()
    a.settle(a.desired(a.underlay(), second=True))
    assert a.forwarders() == before
    assert "fl.8" in a.host.ip("link")
    a.settle(a.desired(a.underlay()))
    assert "fl.8" not in a.host.ip("link")
    assert a.forwarders() == before
    assert a.host.pings(b.address)
    a.settle({})
    eventually(lambda: not a.forwarders())
    assert "fl.7" not in a.host.ip("link")
    assert list(a.directory.iterdir()) == []


@pytest.mark.parametrize("another", ["", "tun", "tun multi_queue", "tap"])
def test_a_deleted_device_is_made_again(pair: Pair, another: str) -> None:
    """Also where somebody has made another one of its name."""
    a, b = pair
    a.host.ip("link", "del", "fl.7")
    if another:
        a.host.ip("tuntap", "add", "fl.7", "mode", *another.split())
    assert a.settle(a.desired(a.underlay()))
    assert a.settle(a.desired(a.underlay())) == []
    assert a.host.pings(b.address)


def test_another_address_of_the_host_takes_a_new_forwarder_and_the_same_device(pair: Pair) -> None:
    for each in pair:
        while each.settle(each.desired(without_v4(each.underlay()))):
            pass
    a, b = pair
    assert a.host.pings(b.address)
    assert len(a.forwarders()) == 1


def test_a_port_that_is_taken_is_said_at_once(two_hosts: Hosts, tmp_path: Path) -> None:
    one = UdpHost(two_hosts[0], 0, tmp_path)
    holder = python(
        one, "import socket, time; u = socket.socket(type=2); u.bind(('', 8478)); print(1, flush=True); time.sleep(60)"
    )
    assert holder.stdout is not None
    holder.stdout.readline()
    try:
        with pytest.raises(
            KernelError, match=rf"forwarder fl.7 .*UDP port {PORT} of 192.0.2.1: Address already in use"
        ):
            one.settle(one.desired(one.underlay()))
    finally:
        holder.kill()
        holder.communicate()
        one.settle({})
        one.door.close()
    assert not one.socket.exists()


def test_a_crash_after_any_step_leaves_exactly_the_rest_to_do(two_hosts: Hosts, tmp_path: Path) -> None:
    one = UdpHost(two_hosts[0], 0, tmp_path)
    try:
        goal_state = one.desired(one.underlay())
        operations = plan(one.doors().read(), goal_state)
        for done, operation in enumerate(operations, start=1):
            assert not one.doors().apply_all([operation])
            rest = [str(op) for op in plan(one.doors().read(), goal_state) if not isinstance(op.object, LinkState)]
            assert rest == [str(op) for op in operations[done:] if not isinstance(op.object, LinkState)]
    finally:
        one.settle({})
        one.door.close()
