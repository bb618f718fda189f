"""What nobody may bring in through WireGuard: strangers, replays, addresses and networks of others. None is delivered;
how many were, the device counts."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from driver.backends.interface import Remote
from driver.filter import sets
from driver.nft import Nft
from driver.wireguard_key import HostKey
from tests.kernel.conftest import inside
from tests.kernel.containers import BRIEF, udp_socket
from tests.kernel.test_wireguard import BLOCKS, DEV, NET, PORT, Hosts, WireguardHost, hosts, tools, until, wiretap
from tests.packets import put_on_the_wire

__all__ = ["hosts", "tools"]  # fixtures

SERVED = 5555
UDP_CHECKSUM = slice(14 + 20 + 6, 14 + 20 + 8)  # of a frame with IPv4, where it may be left out
DATA = 4  # the first byte of WireGuard's messages with packets
SECOND = replace(NET, id="m", vni=8, pools=(ip_network("10.241.0.0/18"),), gateways=(ip_address("10.241.0.1"),))


def delivered(host: WireguardHost) -> int:
    """Packets that its kernel got out of the tunnel."""
    return int(host.base.run("cat", f"/sys/class/net/{DEV}/statistics/rx_packets").stdout)


def tell(source: WireguardHost, address: object, target: object, content: bytes) -> None:
    with udp_socket(source.base.name, str(address)) as sender:
        sender.sendto(content, (str(target), SERVED))


def own(host: WireguardHost, version: int = 4) -> object:
    return BLOCKS[host.number][version == 6][1]


def expect_the_next_to_be(honest: bytes, hosts: Hosts, version: int = 4, *, after: int) -> None:
    """What a sends to b now is what b gets next, as packet `after` + 1."""
    a, b = hosts
    with udp_socket(b.base.name, str(own(b, version)), SERVED) as receiver:
        tell(a, own(a, version), own(b, version), honest)
        assert receiver.recv(100) == honest
    assert delivered(b) == after + 1


def test_somebody_with_another_key_is_not_heard_even_at_a_peers_address(hosts: Hosts, tmp_path: Path) -> None:
    a, b = hosts
    assert a.reaches(b)
    before = delivered(b)
    a.run("wg", "set", DEV, "private-key", str(foreign_key(tmp_path)))
    for _ in range(5):
        tell(a, own(a), own(b), b"injected")
    assert not a.reaches(b, wait=BRIEF)
    assert delivered(b) == before


def foreign_key(folder: Path) -> Path:
    key = HostKey(folder / "foreign")
    key.public()
    return key.path


def test_a_packet_that_somebody_recorded_is_delivered_once(hosts: Hosts) -> None:
    """It is kept back on its way and sent later; and then again."""
    a, b = hosts
    assert a.reaches(b)
    with wiretap(b) as frames, kept_back(b):
        tell(a, own(a), own(b), b"recorded")
    [recorded] = [unchecked(frame) for frame in frames if is_data_of(frame, a)]
    before = delivered(b)
    with udp_socket(b.base.name, str(own(b)), SERVED) as receiver:
        inside(a.base.name, lambda: put_on_the_wire(recorded))
        assert receiver.recv(100) == b"recorded"
    inside(a.base.name, lambda: put_on_the_wire(recorded))
    expect_the_next_to_be(b"honest", hosts, after=before + 1)


@contextmanager
def kept_back(host: WireguardHost) -> Iterator[None]:
    """What comes for the tunnel is seen on the cable and goes no further."""
    rules = "add table netdev t; add chain netdev t c { type filter hook ingress device eth0 priority 0; };"
    assert host.base.run("nft", f"{rules} add rule netdev t c udp dport {PORT} counter drop").returncode == 0
    yield
    until(lambda: "packets 0 " not in host.base.run("nft", "list", "chain", "netdev", "t", "c").stdout)
    assert host.base.run("nft", "delete table netdev t").returncode == 0


def is_data_of(frame: bytes, sender: WireguardHost) -> bool:
    """Not a handshake or keepalive."""
    source = ip_address(f"192.0.2.{sender.number + 1}").packed
    return frame[12:14] == b"\x08\x00" and frame[26:30] == source and frame[42] == DATA and len(frame) > 14 + 28 + 32


def unchecked(frame: bytes) -> bytes:
    """Without the UDP checksum, which the sender's kernel had left to its card."""
    return frame[: UDP_CHECKSUM.start] + bytes(2) + frame[UDP_CHECKSUM.stop :]


@pytest.mark.parametrize("version", [4, 6])
def test_a_peer_sends_from_its_own_blocks_alone(hosts: Hosts, tmp_path: Path, version: int) -> None:
    """Not from one of the receiver, of a third host or of nobody, nor from what another has borrowed of its own."""
    a, b = hosts
    loan = ("10.240.1.60", "fd77::13c")[version == 6]
    blocks = tuple(map(ip_network, ("10.240.3.0/26", "fd77::300/122", loan)))
    third = Remote("h3", (ip_address("192.0.2.3"),), blocks, HostKey(tmp_path / "third").public())
    b.wants(a.remote(), third)
    b.settle()
    assert a.reaches(b, version)
    forged = (("10.240.2.9", "10.240.3.9", "203.0.113.9"), ("fd77::209", "fd77::309", "2001:db8::9"))[version == 6]
    before = delivered(b)
    for address in (*forged, loan):
        a.ip("addr", "add", address, "dev", "lo", *(["nodad"] if version == 6 else []))
        tell(a, address, own(b, version), b"injected")
    expect_the_next_to_be(b"honest", hosts, version, after=before)


def test_from_one_network_nothing_gets_into_another_on_the_same_device(hosts: Hosts) -> None:
    a, b = hosts
    target = SECOND.pools[0][5]
    b.ip("addr", "add", f"{target}/32", "dev", "lo")
    a.wants(b.remote(blocks=(*BLOCKS[1], ip_network(f"{target}/32"))))
    a.settle()
    inside(b.base.name, lambda: Nft().settle(sets([NET, SECOND], ())))
    with udp_socket(b.base.name, str(target), SERVED) as receiver:
        tell(a, own(a), target, b"injected")
        until(lambda: "packets 1 " in b.base.run("nft", "list", "counter", "inet", "flannelpy", "crossed").stdout)
        receiver.settimeout(BRIEF)
        with pytest.raises(TimeoutError):
            receiver.recv(100)
    assert a.reaches(b)
