"""VXLAN devices on real kernels: what else lives on a host, what changes while packets flow, who sends directly."""

import json
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from driver import checksums
from driver.backends.interface import Remote, Underlay
from driver.errors import KernelError
from driver.goal import LocalNetwork, goal
from driver.kernel import Kernel
from driver.model import Endpoint
from driver.offload import Offloads
from driver.plan import Drop, Operation, Put
from driver.state import LinkState, NoChecksumOffload, State, VxlanLink
from tests.kernel.conftest import NamespaceHost, inside, ip
from tests.kernel.test_kernel import BLOCKS, Hosts, network, settle

LINK = VxlanLink("fl.7", 7, ip_address("192.0.2.1"), 8479, "02:00:00:00:00:07")
MAC = "02:00:00:00:00:42"
FOREIGN = "id 7 dstport 8479"


def put(host: NamespaceHost, link: VxlanLink = LINK) -> None:
    host.kernel.apply(Put(link))
    host.kernel.apply(Put(LinkState(link.dev, 1450)))


# --- what else lives on the host


def test_a_foreign_device_in_the_way_is_named_and_stays(two_hosts: Hosts) -> None:
    a, _ = two_hosts
    a.ip(*f"link add theirs type vxlan {FOREIGN}".split())
    a.ip(*["link", "add", "others", "type", "vxlan", "id", "8", "dstport", "4789"])
    assert a.kernel.foreign_tunnels() == {(7, 8479), (8, 4789)}
    with pytest.raises(KernelError, match=r"\+ link fl\.7 .*: the VXLAN device theirs has the same .* -o vni= or"):
        put(a)
    assert "theirs" in a.ip("link")
    a.ip("link", "del", "theirs")
    put(a)
    assert a.kernel.foreign_tunnels() == {(8, 4789)}


def test_a_foreign_device_that_cannot_be_seen_is_told_of(two_hosts: Hosts) -> None:
    a, b = two_hosts
    a.ip(*f"link add theirs type vxlan {FOREIGN}".split())
    a.ip("link", "set", "theirs", "netns", b.name)
    with pytest.raises(KernelError, match="a VXLAN device made here and moved to another namespace has the same VNI"):
        put(a)


@pytest.mark.parametrize("owner", ["program", "tunnel"])
def test_a_port_that_is_taken_is_told_of(two_hosts: Hosts, owner: str) -> None:
    a, _ = two_hosts
    with inside(a.name, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as theirs:
        if owner == "program":
            theirs.bind(("", 8479))
        else:
            a.ip(*["link", "add", "theirs", "type", "vxlan", "external", "dstport", "8479"])
            a.ip("link", "set", "theirs", "up")
        with pytest.raises(KernelError, match=r"the UDP port of fl\.7 is taken .* with another -o port="):
            put(a)


def test_a_renamed_device_gets_its_name_back(two_hosts: Hosts) -> None:
    a, _ = two_hosts
    put(a)
    index = a.ip("-o", "link", "show", "fl.7").split(":")[0]
    a.ip("link", "set", "fl.7", "name", "lost")
    put(a)
    assert a.ip("-o", "link", "show", "fl.7").split(":")[0] == index
    assert "lost" not in a.ip("link")


# --- what changes while packets flow


@pytest.mark.parametrize("version", [4, 6])
def test_another_own_address_and_mac_make_no_new_device(two_hosts: Hosts, version: int) -> None:
    a, _ = two_hosts
    old, new = {4: ("192.0.2.1", "192.0.2.9"), 6: ("fd00:1::1", "fd00:1::9")}[version]
    put(a, replace(LINK, local=ip_address(old)))
    index = a.ip("-o", "link", "show", "fl.7").split(":")[0]
    a.ip("addr", "add", f"{new}/{64 if version == 6 else 24}", "dev", "eth0")
    moved = replace(LINK, local=ip_address(new), mac="02:00:00:00:00:99")
    settle(a, {moved.key: moved, ("state", "fl.7"): LinkState("fl.7", 1450)})
    assert a.kernel.read()[moved.key] == moved
    assert a.ip("-o", "link", "show", "fl.7").split(":")[0] == index


def between(host: NamespaceHost, number: int, *others: Remote, direct: bool = False) -> State:
    local = LocalNetwork(replace(network(number, "vxlan"), direct_routing=direct), (), others)
    return goal(f"h{number}", host.kernel.underlay(None, ()), [local], host.kernel.read())


def as_remote(number: int, underlay: Underlay) -> Remote:
    return Remote(f"h{number}", underlay.advertised, BLOCKS[number], link=underlay.link)


def follow(two_hosts: Hosts, *, direct: bool = False) -> None:
    """Both hosts hear of each other as they are now."""
    seen = [as_remote(number, host.kernel.underlay(None, ())) for number, host in enumerate(two_hosts)]
    for number, host in enumerate(two_hosts):
        settle(host, between(host, number, seen[1 - number], direct=direct))


def test_hosts_follow_an_underlay_that_has_another_address(two_hosts: Hosts) -> None:
    a, b = two_hosts
    follow(two_hosts)
    b.ip("addr", "del", "192.0.2.2/24", "dev", "eth0")
    b.ip("addr", "add", "192.0.2.77/24", "dev", "eth0")
    b.ip("route", "replace", "default", "via", "192.0.2.254")
    follow(two_hosts)
    assert a.pings(BLOCKS[1][0][1])
    assert b.pings(BLOCKS[0][1][1])
    assert "dst 192.0.2.77" in a.run("bridge", "fdb", "show", "dev", "fl.7").stdout


def test_a_borrowed_address_is_reached_and_one_that_begins_a_block_takes_nothing_of_the_block(two_hosts: Hosts) -> None:
    a, b = two_hosts
    borrowed = ip_network("10.240.3.7/32"), ip_network("fd77::307/128")
    seen = [as_remote(number, host.kernel.underlay(None, ())) for number, host in enumerate(two_hosts)]
    seen[1] = replace(seen[1], blocks=(*seen[1].blocks, *borrowed))
    firsts = tuple(ip_network(block.network_address) for block in BLOCKS[1])
    gone = Remote("h2", (ip_address("192.0.2.9"), ip_address("fd00:1::9")), firsts)
    settle(b, between(b, 1, seen[0]))
    for lone in borrowed:
        b.ip("addr", "add", str(lone), "dev", "lo")
    settle(a, between(a, 0, seen[1], gone))
    assert settle(a, between(a, 0, seen[1], gone)) == []
    for address in (*(block[1] for block in BLOCKS[1]), *(lone[0] for lone in borrowed)):
        assert a.pings(address)


def test_hosts_with_ipv6_alone_tunnel_over_it(two_hosts: Hosts) -> None:
    a, b = two_hosts
    for host in two_hosts:
        host.ip("-4", "addr", "flush", "dev", "eth0")
        host.ip("-6", "route", "add", "default", "via", "fd00:1::fe")
    follow(two_hosts)
    for host, other in ((a, 1), (b, 0)):
        assert host.kernel.underlay(None, ()).local.version == 6
        assert host.pings(BLOCKS[other][0][1], size=1430 - 28)
        assert host.pings(BLOCKS[other][1][1], size=1430 - 48)
        assert not host.pings(BLOCKS[other][0][1], size=1430 - 27)


def test_the_mtu_follows_the_underlay_without_a_new_device(two_hosts: Hosts) -> None:
    follow(two_hosts)
    for mtu in (1400, 9000):
        for host in two_hosts:
            host.ip("link", "set", "eth0", "mtu", str(mtu))
            before = host.ip("-o", "link", "show", "fl.7").split(":")[0]
        follow(two_hosts)
        assert host.ip("-o", "link", "show", "fl.7").split(":")[0] == before
        assert two_hosts[0].pings(BLOCKS[1][0][1], size=mtu - 50 - 28)
        assert not two_hosts[0].pings(BLOCKS[1][0][1], size=mtu - 50 - 27)


@pytest.fixture
def container(two_hosts: Hosts) -> Iterator[NamespaceHost]:
    """Behind the first host, with an endpoint's pair of links of MTU 1450, at the second address of its block."""
    a, _ = two_hosts
    inner = f"{a.name}c"
    ip("netns", "add", inner)
    try:
        a.kernel.add_veth("flv1", "flc1", 1450)
        a.ip("link", "set", "flc1", "netns", inner)
        with Kernel(inner) as kernel:
            inside_it = NamespaceHost(inner, kernel)
            inside_it.ip("link", "set", "flc1", "up")
            for words in (f"addr add {BLOCKS[0][0][2]}/32", "route add 10.240.0.1", "route add default via 10.240.0.1"):
                inside_it.ip(*words.split(), "dev", "flc1")
            a.ip("link", "set", "flv1", "up")
            a.ip("addr", "add", "10.240.0.1/32", "dev", "flv1")
            a.ip("route", "add", f"{BLOCKS[0][0][2]}/32", "dev", "flv1", "proto", "102")
            a.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
            yield inside_it
    finally:
        ip("netns", "del", inner)


def test_a_container_is_told_of_an_underlay_that_carries_less_and_keeps_its_mtu(
    two_hosts: Hosts, container: NamespaceHost
) -> None:
    a, b = two_hosts
    endpoint = Endpoint("1", "n", (BLOCKS[0][0][2],), MAC, mtu=1450)
    far = str(BLOCKS[1][0][1])

    def follow_with_endpoint() -> None:
        here, there = (host.kernel.underlay(None, ()) for host in two_hosts)
        local = LocalNetwork(network(0, "vxlan"), (endpoint,), (as_remote(1, there),))
        settle(a, goal("h0", here, [local], a.kernel.read()))
        settle(b, between(b, 1, as_remote(0, here)))

    follow_with_endpoint()
    assert container.pings(far, size=1450 - 28)
    for host in two_hosts:
        host.ip("link", "set", "eth0", "mtu", "1400")
    follow_with_endpoint()
    assert "mtu 1450" in a.ip("link", "show", "flv1")
    said = container.run("ping", "-c", "1", "-W", "2", "-M", "do", "-s", str(1450 - 28), far)
    assert "mtu = 1350" in said.stdout + said.stderr  # the host's answer: no silence, and no new container
    assert container.pings(far, size=1350 - 28)
    # The other way: what the container's end cannot take is told to the sender, too.
    for host in two_hosts:
        host.ip("link", "set", "eth0", "mtu", "9000")
    follow_with_endpoint()
    said = b.run("ping", "-c", "1", "-W", "2", "-M", "do", "-s", "4000", str(BLOCKS[0][0][2]))
    assert "mtu = 1450" in said.stdout + said.stderr


# --- who sends directly


def through_the_tunnel(host: NamespaceHost, act: Callable[[], object]) -> bool:
    """Whether what arrives at the host meanwhile comes that way."""
    before = received(host)
    act()
    return received(host) > before


def received(host: NamespaceHost) -> int:
    packets: int = json.loads(host.ip("-s", "-j", "link", "show", "fl.7"))[0]["stats64"]["rx"]["packets"]
    return packets


def test_hosts_on_one_link_send_directly_and_through_the_tunnel_once_they_are_not(two_hosts: Hosts) -> None:
    """Strict reverse-path filters everywhere: every packet must come the way that its answer goes."""
    a, b = two_hosts
    for host in two_hosts:
        for link in ("all", "default"):
            host.run("sysctl", "-qw", f"net.ipv4.conf.{link}.rp_filter=1")
            host.run("sysctl", "-qw", f"net.ipv4.conf.{link}.forwarding=1")
    follow(two_hosts, direct=True)
    target, back = BLOCKS[1][0][1], BLOCKS[0][0][1]

    def both() -> None:
        assert a.pings(target)
        assert b.pings(back)

    assert not through_the_tunnel(b, both)
    assert "via 192.0.2.2 dev eth0" in a.ip("route", "get", str(target))
    # One of them now holds the other for far: neither sends directly.
    b.ip("addr", "add", "192.0.2.2/32", "dev", "eth0")
    b.ip("addr", "del", "192.0.2.2/24", "dev", "eth0")
    b.ip("route", "replace", "192.0.2.254", "dev", "eth0", "scope", "link")
    b.ip("route", "replace", "default", "via", "192.0.2.254")
    b.ip("route", "replace", "192.0.2.1/32", "dev", "eth0", "scope", "link")
    follow(two_hosts, direct=True)
    assert through_the_tunnel(b, both)
    assert "dev fl.7" in a.ip("route", "get", str(target))
    # And back.
    b.ip("addr", "del", "192.0.2.2/32", "dev", "eth0")
    b.ip("addr", "add", "192.0.2.2/24", "dev", "eth0")
    b.ip("route", "replace", "default", "via", "192.0.2.254")
    follow(two_hosts, direct=True)
    assert not through_the_tunnel(b, both)


# --- checksums


def test_the_checksum_offload_of_our_tunnels_alone_is_read_and_switched(two_hosts: Hosts) -> None:
    a, _ = two_hosts
    put(a)
    a.ip(*["link", "add", "fl.8", "type", "bridge"])
    a.ip(*["link", "add", "theirs", "type", "vxlan", "id", "8", "dstport", "4789"])
    door, off = Offloads(), NoChecksumOffload("fl.7")

    def read() -> list[object]:
        return list(inside(a.name, lambda: list(door.read())))

    def apply(operation: Operation) -> dict[Operation, str]:
        return inside(a.name, lambda: door.apply_all([operation]))

    assert read() == []
    for _ in range(2):
        assert apply(Put(off)) == {}
        assert read() == [off]
    assert apply(Drop(off)) == {}
    assert read() == []
    a.ip("link", "del", "fl.7")
    assert apply(Drop(off)) == {}
    assert apply(Put(off)) == {Put(off): "+ link fl.7 tx-checksum-ip-generic off: the kernel says No such device"}


@pytest.mark.parametrize("version", [4, 6])
def test_a_tunnelled_packet_with_a_wrong_checksum_is_counted(two_hosts: Hosts, version: int) -> None:
    """A peer with a broken offload shows on the host that receives."""
    a, b = two_hosts
    local = "192.0.2.2" if version == 4 else "fd00:1::2"
    put(b, replace(LINK, local=ip_address(local)))
    before = inside(b.name, checksums.wrong)
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    udp = b"\x10\x00\x21\x1f\x00\x10\xba\xad" + bytes(8)  # from 4096 to 8479, 16 bytes, checksum baad

    def send() -> None:
        with socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_UDP) as raw:
            raw.sendto(udp, (local, 0))

    for _ in range(2):
        inside(a.name, send)
    deadline = time.monotonic() + 3
    while inside(b.name, checksums.wrong) < before + 2:
        assert time.monotonic() < deadline
        time.sleep(0.02)
