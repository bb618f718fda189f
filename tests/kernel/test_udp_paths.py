"""What packets of the udp backend meet on their way: other addresses, routers, other hosts, strangers, harm."""

import json
import re
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from driver.backends.interface import Remote
from driver.filter import members, sets
from driver.forwarder import wire
from driver.kernel import Kernel
from driver.model import Endpoint
from driver.nft import Nft
from store.ip import IPAddress
from tests.kernel.conftest import NamespaceHost, inside, ip
from tests.kernel.containers import BRIEF, connect, udp_socket
from tests.kernel.udp_hosts import BLOCKS, NETWORK, PORT, UdpHost, apart, eventually, joined, remote, sends
from tests.packets import udp_packet

Hosts = tuple[NamespaceHost, NamespaceHost]
Pair = tuple[UdpHost, UdpHost]
OTHER = ip_address("192.0.2.200")


@pytest.fixture
def pair(two_hosts: Hosts, tmp_path: Path) -> Iterator[Pair]:
    with joined(two_hosts, tmp_path) as (a, b):
        yield a, b


@pytest.mark.parametrize("dev", ["eth0", "lo"])
def test_a_host_may_be_reached_at_another_address_of_its_own(two_hosts: Hosts, tmp_path: Path, dev: str) -> None:
    two_hosts[0].ip("addr", "add", f"{OTHER}/32", "dev", dev)
    with apart(two_hosts, tmp_path) as (a, b):
        a.settle(a.desired(a.host.kernel.underlay("eth0", (OTHER,))))
        b.settle(b.desired(b.underlay(), [replace(remote(0), addresses=(OTHER,))]))
        assert a.host.pings(b.address)
        assert b.host.pings(a.address)


def test_a_host_may_send_from_another_address_than_it_is_reached_at(two_hosts: Hosts, tmp_path: Path) -> None:
    """As one behind NAT to its neighbours there."""
    with apart(two_hosts, tmp_path) as (a, b):
        a.host.ip("addr", "add", f"{OTHER}/32", "dev", "lo")
        rules = "add table ip t; add chain ip t c { type filter hook prerouting priority raw; };"
        rules += f"add rule ip t c ip daddr {OTHER} ip daddr set 192.0.2.1"
        assert a.host.run("nft", rules).returncode == 0
        underlay = replace(a.underlay(), addresses=(ip_address("192.0.2.1"),), advertised=(OTHER,))
        a.settle(a.desired(underlay))
        others = [replace(remote(0), addresses=(OTHER,), sources=underlay.sources)]
        b.settle(b.desired(b.underlay(), others))
        assert a.host.pings(b.address)
        assert b.host.pings(a.address6)
        assert b.settle(b.desired(b.underlay(), others)) == []


@pytest.mark.parametrize("version", [4, 6])
def test_a_packet_passes_two_routers(pair: Pair, version: int) -> None:
    """The hosts; each says so where it is one too many."""
    with ExitStack() as stack:
        near, _ = (behind(host, stack) for host in pair)
        target = str(pair[1].endpoints[0].addresses[version == 6])

        def said(hops: int) -> str:
            command = ("ip", "netns", "exec", near, "ping", "-n", "-c", "1", "-W", "2", "-t", str(hops), target)
            return subprocess.run(command, capture_output=True, text=True, timeout=10).stdout

        assert " ttl=62 " in said(64)
        assert " ttl=62 " in said(3)
        gateway, beyond = NETWORK.gateways[version == 6], (pair[1].address, pair[1].address6)[version == 6]
        for hops, router in ((1, gateway), (2, beyond)):
            assert re.search(rf"From {router}:? .*(Time to live exceeded|Hop limit)", said(hops))


def behind(host: UdpHost, stack: ExitStack, addresses: tuple[IPAddress, ...] | None = None) -> str:
    """The namespace of a container on that host."""
    host.host.run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
    own = BLOCKS[host.number]
    addresses = addresses or (own[0][5], own[-1][5])
    one = Endpoint(f"{host.number}caaaaaaaaa", NETWORK.id, addresses, "02:00:00:00:00:05")
    place = connect(host.host, one, NETWORK)
    stack.callback(ip, "netns", "del", place.namespace)
    host.endpoints = (one,)
    host.settle(host.desired(host.underlay()))
    return place.namespace


@pytest.fixture
def three(two_hosts: Hosts, tmp_path: Path) -> Iterator[list[UdpHost]]:
    """A third host that reaches the second by another of its interfaces: 198.51.100.3 -- 198.51.100.2."""
    name = f"{two_hosts[1].name}c"
    ip("netns", "add", name)
    try:
        ip(*f"link add eth1 netns {two_hosts[1].name} type veth peer name eth0 netns {name}".split())
        for words in ("addr add 198.51.100.2/24 dev eth1", "link set eth1 up"):
            two_hosts[1].ip(*words.split())
        for words in (
            "addr add 198.51.100.3/24 dev eth0",
            "link set lo up",
            "link set eth0 up",
            "route add default via 198.51.100.2",
        ):
            ip(*words.split(), netns=name)
        with Kernel(name) as kernel, apart((*two_hosts, NamespaceHost(name, kernel)), tmp_path) as (a, b, c):
            third = Remote("h2", (ip_address("198.51.100.3"),), BLOCKS[2])
            for host, others in ((a, [remote(1)]), (b, [remote(0), third]), (c, [remote(1)])):
                host.settle(host.desired(host.underlay(), others))
            yield [a, b, c]
    finally:
        ip("netns", "del", name)


def test_fragments_and_segments_of_several_hosts_come_in_between_each_other(three: list[UdpHost]) -> None:
    a, b, c = three
    pings = ("ping", "-q", "-c", "100", "-i", "0.005", "-W", "2", "-M", "dont", "-s", "5000", str(b.address))
    with ThreadPoolExecutor() as threads:
        for told in threads.map(lambda host: host.host.run(*pings).stdout, (a, c)):
            assert " 100 received" in told
        streams = [
            threads.submit(sends, a, b, b.address, 5_000_000),
            threads.submit(sends, c, b, b.address6, 5_000_000),
        ]
        for stream in streams:
            stream.result()
    assert refused(b) == {"strangers": 0, "spoofed": 0, "malformed": 0}


def tunnelled(source: UdpHost, outer: str, packet: bytes, vni: int = NETWORK.vni) -> None:
    """Send the packet as a forwarder would that is at this address."""
    header = wire.header(vni, bytes(wire.VNET.size))
    assert header is not None
    with udp_socket(source.host.name, outer, PORT) as sender:
        sender.sendto(header + packet, ("192.0.2.2", PORT))


@pytest.mark.parametrize("version", [4, 6])
def test_none_that_is_injected_is_delivered_and_all_are_counted(pair: Pair, version: int) -> None:
    """By somebody who is no peer, and by a peer in the name of others or into a network that it shares with nobody. One
    of the peers has nothing but an address that it has borrowed of the other's block."""
    a, b = pair
    stranger, lender, borrower = "192.0.2.77", "192.0.2.66", "192.0.2.67"
    for address in (stranger, lender, borrower):
        a.host.ip("addr", "add", f"{address}/24", "dev", "eth0")
    loans = tuple(map(ip_network, ("10.240.1.61", "fd77::13d")))
    third = Remote("h2", (ip_address(borrower),), loans)
    b.settle(b.desired(b.underlay(), [replace(remote(0), sources=(ip_address(lender),)), third]))
    honest, loan = (("10.240.1.5", "10.240.1.61"), ("fd77::105", "fd77::13d"))[version == 6]
    forged = (("10.240.2.9", "10.240.3.9", "203.0.113.9"), ("fd77::209", "fd77::305", "2001:db8::9"))[version == 6]
    target = str((b.address, b.address6)[version == 6])
    counted = [(stranger, honest, 7, "strangers"), (lender, honest, 9, "strangers")]
    counted += [(lender, source, 7, "spoofed") for source in (*forged, loan)]
    counted += [(borrower, source, 7, "spoofed") for source in (*forged, honest)]
    with udp_socket(b.host.name, target, 5555) as receiver:
        for number, (outer, source, vni, why) in enumerate(counted):
            before = refused(b)
            tunnelled(a, outer, udp_packet(source, target, 5555, b"injected"), vni)
            eventually(partial(has_refused, b, {**before, why: before[why] + 1}))
            for sender, own in ((lender, honest), (borrower, loan)):
                tunnelled(a, sender, udp_packet(own, target, 5555, b"%d" % number))
                assert receiver.recv(100) == b"%d" % number


@pytest.mark.parametrize("version", [4, 6])
def test_who_lent_an_address_to_this_host_cannot_send_from_it(pair: Pair, version: int) -> None:
    """Its forwarder does not know its addresses, and takes it for one of the lender's block. The filter knows."""
    a, b = pair
    lender, loan = ip_address("192.0.2.66"), BLOCKS[0][version == 6][60]
    a.host.ip("addr", "add", f"{lender}/24", "dev", "eth0")
    other = replace(remote(0), sources=(lender,))
    with ExitStack() as stack:
        behind(b, stack, (BLOCKS[0][0][60], BLOCKS[0][1][60]))
        b.settle(b.desired(b.underlay(), [other]))
        filtering = sets([NETWORK], members(NETWORK, [other]), b.endpoints, ["eth0"])
        inside(b.host.name, lambda: Nft().settle(filtering))
        target = str((b.address, b.address6)[version == 6])
        with udp_socket(b.host.name, target, 5555) as receiver:
            tunnelled(a, str(lender), udp_packet(str(loan), target, 5555, b"injected"))
            eventually(lambda: counted_by_filter(b, "injected") == 1)
            tunnelled(a, str(lender), udp_packet(str(loan - 1), target, 5555, b"honest"))
            assert receiver.recv(100) == b"honest"


def counted_by_filter(host: UdpHost, name: str) -> int:
    told = host.host.run("nft", "-j", "list", "counter", "inet", "flannelpy", name).stdout
    return int(next(part["counter"]["packets"] for part in json.loads(told)["nftables"] if "counter" in part))


def refused(host: UdpHost) -> dict[str, int]:
    """Of what came: what a host itself sends to nobody is counted, too."""
    counted = host.counters()
    return {name: counted[name] for name in ("strangers", "spoofed", "malformed")}


def has_refused(host: UdpHost, wanted: dict[str, int]) -> bool:
    return refused(host) == wanted


def test_the_filter_keeps_strangers_off_the_forwarder(pair: Pair) -> None:
    a, b = pair
    a.host.ip("addr", "add", "192.0.2.77/24", "dev", "eth0")
    inside(b.host.name, lambda: Nft().settle(sets([NETWORK], members(NETWORK, [remote(0)]), (), ["eth0"])))
    before = refused(b)
    with udp_socket(b.host.name, str(b.address), 5555) as receiver:
        tunnelled(a, "192.0.2.77", udp_packet("10.240.1.5", str(b.address), 5555, b"injected"))
        receiver.settimeout(BRIEF)
        with pytest.raises(TimeoutError):
            receiver.recv(100)
    assert counted_by_filter(b, "strangers") == 1
    assert refused(b) == before
    assert a.host.pings(b.address)


@pytest.mark.parametrize(
    "harm",
    [
        ["set fl.7 down"],
        ["set fl.7 mtu 1300"],
        ["set fl.7 down", "set fl.7 name lost", "set lost up"],
        ["set fl.7 down", "set fl.7 name lost", "set lost up", "add fl.7 type bridge"],
    ],
)
def test_harm_to_the_device_is_healed(pair: Pair, harm: list[str]) -> None:
    a, b = pair
    forwarders = a.forwarders()
    for words in harm:
        a.host.ip("link", *words.split())
    a.settle(a.desired(a.underlay()))
    assert a.settle(a.desired(a.underlay())) == []
    assert a.host.pings(b.address)
    assert "lost" not in a.host.ip("link")
    assert a.forwarders() == forwarders


def test_a_device_that_somebody_moved_to_another_namespace_is_replaced(pair: Pair) -> None:
    a, b = pair
    forwarders, elsewhere = a.forwarders(), f"{a.host.name}x"
    ip("netns", "add", elsewhere)
    try:
        a.host.ip("link", "set", "fl.7", "netns", elsewhere)
        a.settle(a.desired(a.underlay()))
        assert a.settle(a.desired(a.underlay())) == []
        assert a.host.pings(b.address)
        assert "fl.7" not in ip("link", netns=elsewhere)
    finally:
        ip("netns", "del", elsewhere)
    assert a.forwarders() == forwarders
