"""Our nftables table on real kernels: what may pass does, all else is dropped and counted."""

import json
import re
import socket
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from ipaddress import ip_address

import pytest

from driver.backends.interface import Remote
from driver.backends.vxlan import vtep_mac
from driver.filter import members, sets
from driver.nft import Nft, RuleNotices, read_generation, read_members
from tests.kernel.conftest import NamespaceHost, inside, ip
from tests.kernel.containers import (
    BRIEF,
    HOSTS,
    PATIENCE,
    PORT,
    Net,
    Place,
    block,
    bring_about,
    connected,
    endpoint,
    net,
    network,
    remote,
    udp_socket,
)
from tests.lab.commands import wait_until
from tests.packets import send_frame, udp_packet, vxlan_payload

__all__ = ["net"]  # a fixture

PINGS = 20_000
over_vxlan = pytest.mark.parametrize("net", ["vxlan"], indirect=True)


def arrives(sender: socket.socket, receiver: socket.socket, wait: float = PATIENCE) -> bool:
    sender.sendto(b"hello", receiver.getsockname()[:2])
    receiver.settimeout(wait)
    try:
        return receiver.recv(100) == b"hello"
    except TimeoutError:
        return False
    finally:
        sender.close()
        receiver.close()


@pytest.mark.parametrize("version", [4, 6])
def test_within_a_network_all_arrives_and_nothing_is_counted(net: Net, version: int) -> None:
    for source, target in ((0, 1), (1, 0), (0, 0)):
        place, other = net.places[source][0], net.places[target][0]
        assert arrives(udp_socket(place.namespace, place.addresses[version == 6]), other.listen(version))
    assert (net.counted(0), net.counted(1)) == ({}, {})


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("forged", ["a neighbour's", "a mate's elsewhere", "nobody's"])
def test_a_container_cannot_send_from_an_address_that_is_not_its_own(net: Net, forged: str, version: int) -> None:
    owner = {
        "a neighbour's": net.places[0][1],
        "a mate's elsewhere": net.places[1][0],
        "nobody's": Place("", ("203.0.113.9", "2001:db8::9")),
    }[forged]
    liar, address = net.places[0][0], owner.addresses[version == 6]
    ip("addr", "add", address, "dev", "lo", *(["nodad"] if version == 6 else []), netns=liar.namespace)
    with udp_socket(liar.namespace, liar.addresses[version == 6]) as honest:  # so that the gateway's MAC is known
        honest.sendto(b"", (str(network(0, net.backend).gateways[version == 6]), PORT))
    with udp_socket(liar.namespace, address) as sender:
        for target in (net.places[1][0], net.places[0][1]):
            with target.listen(version) as receiver:
                if target is not owner:
                    receiver.settimeout(BRIEF)
                    sender.sendto(b"hello", receiver.getsockname()[:2])
                    with pytest.raises(TimeoutError):
                        receiver.recv(100)
    net.await_count(0, "spoofed", 1)


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("target", [0, 1])
def test_networks_do_not_reach_each_other(net: Net, target: int, version: int) -> None:
    place, other = net.places[0][0], net.places[target][1]
    assert not arrives(udp_socket(place.namespace, place.addresses[version == 6]), other.listen(version), BRIEF)
    net.await_counted(0, {"crossed": 1})


@over_vxlan
@pytest.mark.parametrize("version", [4, 6])
def test_a_container_reaches_nobody_behind_the_host(net: Net, version: int) -> None:
    place, far = net.places[0][0], HOSTS[1][version == 6]
    receiver = udp_socket(net.hosts[1].name, str(far), PORT)
    assert not arrives(udp_socket(place.namespace, place.addresses[version == 6]), receiver, BRIEF)
    net.await_counted(0, {"crossed": 1})


@pytest.mark.parametrize("version", [4, 6])
def test_the_link_between_the_hosts_brings_nothing_that_no_peer_sends(net: Net, version: int) -> None:
    """Not from a pool whose packets come through a tunnel, nor from one's own containers, nor from anywhere else."""
    target = net.places[0][0]
    host = net.hosts[1]
    host.ip("route", "add", block(0, 0, version), "via", str(HOSTS[0][version == 6]), "metric", "1")
    net.hosts[0].ip("route", "replace", "default", "via", str(HOSTS[1][version == 6]))  # it is the way to all others
    for forged, why in (
        (net.places[0][1].addresses[version == 6], "injected"),
        (("203.0.113.9", "2001:db8::9")[version == 6], "crossed"),
        (net.places[1][0].addresses[version == 6], "injected" if net.backend == "vxlan" else None),
    ):
        packet = udp_packet(forged, target.addresses[version == 6], PORT, b"hello")
        before = net.counted(0).get(why or "", 0)
        receiver = target.listen(version)
        inside(host.name, partial(send_frame, packet, mac_of_eth0(net.hosts[0])))
        if why is None:  # the link itself is trusted
            assert receiver.recv(100) == b"hello"
        else:
            receiver.settimeout(BRIEF)
            with pytest.raises(TimeoutError):
                receiver.recv(100)
            net.await_count(0, why, before + 1)
            assert net.counted(0)[why] == before + 1
        receiver.close()


def mac_of_eth0(host: NamespaceHost) -> str:
    return str(json.loads(host.ip("-j", "link", "show", "eth0"))[0]["address"])


def tunnelled(
    net: Net, source: str, target: Place, *, vni: int, version: int, outer: str, wait: float = PATIENCE
) -> bool:
    """Whether a packet arrives that somebody at `outer` on the second host's link puts into the first's tunnel."""
    packet = udp_packet(source, target.addresses[version == 6], PORT, b"hello")
    receiver = target.listen(version)
    receiver.settimeout(wait)
    with udp_socket(net.hosts[1].name, outer) as sender:
        sender.sendto(vxlan_payload(vni, vtep_mac("h0", vni), packet), (str(HOSTS[0][":" in outer]), 8479))
    try:
        return receiver.recv(100) == b"hello"
    except TimeoutError:
        return False
    finally:
        receiver.close()


@over_vxlan
@pytest.mark.parametrize("version", [4, 6])
def test_a_tunnel_takes_packets_from_peers_of_that_network_alone(net: Net, version: int) -> None:
    target, honest = net.places[0][0], net.places[1][0].addresses[version == 6]
    net.hosts[1].ip("addr", "add", "192.0.2.66/24", "dev", "eth0")
    assert tunnelled(net, honest, target, vni=7, version=version, outer="192.0.2.2")
    assert not tunnelled(net, honest, target, vni=7, version=version, outer="192.0.2.66", wait=BRIEF)
    net.await_counted(0, {"strangers": 1})
    net.settle(0, net.sets(0, 1))  # no longer a peer of network 0, though one of network 1 with the same port
    assert not tunnelled(net, honest, target, vni=7, version=version, outer="192.0.2.2", wait=BRIEF)
    net.await_counted(0, {"strangers": 2})
    net.settle(0, net.sets(0, 0, 1))
    assert tunnelled(net, honest, target, vni=7, version=version, outer="192.0.2.2")


@over_vxlan
@pytest.mark.parametrize("version", [4, 6])
def test_a_peer_sends_from_its_own_blocks_into_that_network_alone(net: Net, version: int) -> None:
    target, other = net.places[0]
    for forged in (other, net.places[1][1], Place("", ("203.0.113.9", "2001:db8::9"))):
        address = forged.addresses[version == 6]
        assert not tunnelled(net, address, target, vni=7, version=version, outer="192.0.2.2", wait=BRIEF)
    net.await_counted(0, {"injected": 3})
    honest = net.places[1][0].addresses[version == 6]
    assert not tunnelled(net, honest, other, vni=7, version=version, outer="192.0.2.2", wait=BRIEF)
    net.await_counted(0, {"injected": 3, "crossed": 1})
    host = Place(net.hosts[0].name, (str(HOSTS[0][0]), str(HOSTS[0][1])))
    assert not tunnelled(net, honest, host, vni=7, version=version, outer="192.0.2.2", wait=BRIEF)
    net.await_counted(0, {"injected": 3, "crossed": 2})


@over_vxlan
@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("end", [0, 1])
def test_a_container_behind_a_bridge_cannot_claim_to_be_a_peer(net: Net, end: int, version: int) -> None:
    """One of Docker's, which may make packets of any kind, to a tunnel of its own host and to one of another."""
    host, router = net.hosts[0], ("172.17.0.1", "fd99::1")
    ip("link", "add", "docker0", "type", "bridge", netns=host.name)
    ip("link", "add", "vethx", "type", "veth", "peer", "name", "eth0x", netns=host.name)
    for words in (f"addr add {router[0]}/16 dev docker0", f"addr add {router[1]}/64 dev docker0 nodad"):
        host.ip(*words.split())
    for words in ("link set vethx master docker0", "link set docker0 up", "link set vethx up", "link set eth0x up"):
        host.ip(*words.split())
    mac = json.loads(host.ip("-j", "link", "show", "docker0"))[0]["address"]
    inner = udp_packet(
        "10.240.2.5" if version == 4 else "fd77:0::205", net.places[end][0].addresses[version == 6], 7, b""
    )
    third = Remote("h3", (ip_address("192.0.2.3"), ip_address("fd00:1::3")), ())
    for number in (0, 1):
        senders = members(network(0, net.backend), [remote(1 - number, 0), third])
        net.settle(number, sets([network(0, net.backend)], senders))
    forged = str(third.addresses[version == 6])
    packet = udp_packet(forged, str(HOSTS[end][version == 6]), 8479, vxlan_payload(7, vtep_mac(f"h{end}", 7), inner))
    inside(host.name, partial(send_frame, packet, mac, "eth0x"))
    wait_until("it to be dropped", lambda: net.counted(0) == {"strangers": 1}, timeout=5)
    assert net.counted(1) == {}


@over_vxlan
@pytest.mark.parametrize("version", [4, 6])
def test_a_tunnel_of_somebody_else_at_the_same_port_goes_on(net: Net, version: int) -> None:
    """As Docker's overlay beside a network of ours at port 4789: the kernel gives each packet to the device of its
    network number. Neither host is a peer of ours here."""
    for number, host in enumerate(net.hosts):
        local, remote = HOSTS[number][version == 6], HOSTS[1 - number][version == 6]
        tunnel = f"link add ov type vxlan id 4097 dstport 8479 learning local {local} remote {remote}"
        for words in (tunnel, f"addr add 198.51.100.{number + 1}/24 dev ov", "link set ov up"):
            host.ip(*words.split())
        net.settle(number, net.sets(number))
    receiver = udp_socket(net.hosts[0].name, "198.51.100.1", PORT)
    assert arrives(udp_socket(net.hosts[1].name, "198.51.100.2"), receiver)
    assert net.counted(0) == {}


@over_vxlan
def test_a_container_cannot_use_its_host_to_look_like_a_peer(net: Net) -> None:
    """Where somebody masquerades what leaves the host, a container would reach another host's tunnel as its host."""
    liar = net.places[0][0]
    with udp_socket(liar.namespace, liar.addresses[0]) as sender:
        sender.sendto(b"anything", ("192.0.2.2", 8479))
    net.await_counted(0, {"strangers": 1})


@pytest.mark.parametrize("dev", ["fl.7", endpoint(0, 0).host_link])
def test_a_link_that_somebody_made_a_port_of_a_bridge_is_taken_out(
    two_hosts: tuple[NamespaceHost, NamespaceHost], dev: str
) -> None:
    """As a program does that makes each link of a kind one. What comes in by it would be the bridge's."""
    with connected(two_hosts, "vxlan", fast=False) as net:
        host, (here, there) = net.hosts[0], (places[0] for places in net.places)
        host.ip("link", "add", "br-foreign", "up", "type", "bridge")
        host.ip("link", "set", dev, "master", "br-foreign")
        assert len(bring_about(host, 0, net.local(), fast=False)) == 1
        for source, target in ((here, there), (there, here)):
            assert arrives(udp_socket(source.namespace, source.addresses[0]), target.listen(4))
        assert "master" not in host.ip("link", "show", dev)


@over_vxlan
def test_a_peer_that_comes_or_goes_is_an_element_and_no_counter_is_lost(net: Net) -> None:
    place, other = net.places[0]
    assert not arrives(udp_socket(place.namespace, place.addresses[0]), other.listen(4), BRIEF)
    for networks in ((0,), (0, 1), (1,)):
        net.settle(0, net.sets(0, *networks))
        assert inside(net.hosts[0].name, read_members) == {
            m for n in networks for m in members(network(n, net.backend), [remote(1, n)])
        }
    net.await_counted(0, {"crossed": 1})


@over_vxlan
def test_nothing_is_done_where_nothing_has_changed(net: Net) -> None:
    before = inside(net.hosts[0].name, read_generation)
    net.settle(0, net.sets(0, 0, 1))
    assert inside(net.hosts[0].name, read_generation) == before
    net.hosts[0].run("nft", "add", "table", "inet", "another")
    net.settle(0, net.sets(0, 0, 1))
    assert inside(net.hosts[0].name, read_generation) == before + 1


@over_vxlan
@pytest.mark.parametrize(
    "harm",
    [
        "flush ruleset",
        "delete table inet flannelpy",
        "flush chain inet flannelpy within",
        "delete element inet flannelpy pools4 { 10.240.0.0/18 }",
        "add rule inet flannelpy sources accept",
    ],
)
def test_harm_is_healed(net: Net, harm: str) -> None:
    host = net.hosts[0]
    before = host.run("nft", "-s", "list", "table", "inet", "flannelpy").stdout
    host.run("nft", harm)
    assert host.run("nft", "-s", "list", "table", "inet", "flannelpy").stdout != before
    net.settle(0, net.sets(0, 0, 1))
    assert host.run("nft", "-s", "list", "table", "inet", "flannelpy").stdout == before


def flooded(net: Net, event: Callable[[Net], None]) -> list[str]:
    """Ten thousand pings a second between two containers, for both families, and the event again and again meanwhile:
    what ping says of them. They end by themselves, for one that is told to end calls lost what is under way."""
    near, far = net.places[0][0], net.places[1][0]
    command = ("ping", "-n", "-q", "-i", "0.0002", "-W", "5", "-c", str(PINGS))
    pings = [
        subprocess.Popen(["ip", "netns", "exec", near.namespace, *command, address], stdout=subprocess.PIPE, text=True)
        for address in far.addresses
    ]
    try:
        while any(ping.poll() is None for ping in pings):
            event(net)
        return [ping.communicate()[0] for ping in pings]
    finally:
        for ping in pings:
            ping.kill()
            ping.wait()


def expect_none_lost(said: list[str]) -> None:
    counted = [re.search(r"(\d+) packets transmitted, (\d+) received", one) for one in said]
    assert all(found and found[1] == found[2] and int(found[1]) == PINGS for found in counted), said


def settle_anew(net: Net) -> None:
    net.tables = (Nft(), net.tables[1])
    net.settle(0, net.sets(0, 0, 1))


def heal(net: Net) -> None:
    net.hosts[0].run("nft", "add rule inet flannelpy sources accept")
    net.settle(0, net.sets(0, 0, 1))


def let_others_come_and_go(net: Net) -> None:
    """A network with its pools and peers, beside that of the pings."""
    one, other = network(0, net.backend), network(1, net.backend)
    its, others = members(one, [remote(1, 0)]), members(other, [remote(1, 1)])
    net.settle(0, sets([one], its))
    net.settle(0, sets([one, other], its | others))


@pytest.mark.alone
@pytest.mark.parametrize("event", [settle_anew, heal, let_others_come_and_go])
def test_no_packet_is_lost_by_a_change(net: Net, event: Callable[[Net], None]) -> None:
    """A table made anew loses one in three times at this rate, for the kernel fills new sets after it has new rules."""
    expect_none_lost(flooded(net, event))
    assert net.counted(0) == {}


@over_vxlan
def test_counters_go_on_after_a_new_start(net: Net) -> None:
    place, other = net.places[0]
    assert not arrives(udp_socket(place.namespace, place.addresses[0]), other.listen(4), BRIEF)
    settle_anew(net)
    net.await_counted(0, {"crossed": 1})


@over_vxlan
@pytest.mark.parametrize(
    "other",
    [
        "add chain inet flannelpy another",
        "delete element inet flannelpy uplinks { eth0 }; delete set inet flannelpy selves6",
        "delete table inet flannelpy; add table inet flannelpy; add set inet flannelpy pools4 { type ipv6_addr; }",
    ],
)
def test_a_table_of_another_shape_is_replaced(net: Net, other: str) -> None:
    host = net.hosts[0]
    before = host.run("nft", "-s", "list", "table", "inet", "flannelpy").stdout
    host.run("nft", other)
    settle_anew(net)
    assert host.run("nft", "-s", "list", "table", "inet", "flannelpy").stdout == before


@over_vxlan
def test_the_kernel_tells_when_anybody_changes_rules(net: Net) -> None:
    host = net.hosts[0]
    notices = inside(host.name, RuleNotices)
    with ThreadPoolExecutor(1) as thread:
        told = thread.submit(lambda: any(told for told in iter(notices.wait, None)))
        net.settle(0, net.sets(0, 0, 1))  # nothing to be done
        with pytest.raises(TimeoutError):
            told.result(0.3)
        host.run("iptables", "-N", "SOMEBODYS")
        assert told.result(5)
    notices.close()


@over_vxlan
def test_a_new_start_finds_its_table_and_the_last_network_takes_it_along(net: Net) -> None:
    net.tables = (Nft(), net.tables[1])
    net.settle(0, net.sets(0, 0, 1))
    assert net.hosts[0].run("nft", "list", "tables").stdout.split() == ["table", "inet", "flannelpy"]
    net.settle(0, {})
    assert net.hosts[0].run("nft", "list", "tables").stdout == ""
