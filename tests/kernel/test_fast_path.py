"""The program on links, in real kernels: who takes the fast path, who must not, and how it is kept on its links."""

import ctypes
import fcntl
import json
import socket
import struct
import subprocess
import sys
import threading
from dataclasses import replace
from functools import partial
from ipaddress import ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from driver.entries import Key
from driver.errors import KernelError
from driver.fast_path.program import program
from driver.fast_path.wanted import MOST, of_links
from driver.goal import LocalNetwork
from driver.kernel import bpf
from driver.kernel.notices import Everything, Notices
from driver.model import Endpoint, Network
from driver.plan import Drop, Put
from driver.state import FastPath
from store.ip import IPAddress
from tests.kernel.conftest import NamespaceHost, inside
from tests.kernel.containers import (
    BRIEF,
    HOSTS,
    PATIENCE,
    PORT,
    Net,
    Place,
    bring_about,
    connect,
    connected,
    endpoint,
    net,
    network,
    remote,
    udp_socket,
)
from tests.packets import checksum, frame_of, put_on_the_wire, udp_packet

__all__ = ["net"]  # a fixture

Hosts = tuple[NamespaceHost, NamespaceHost]
PACKETS = 20
BULK = 4 << 20  # bytes


# --- who takes it


def watch_the_ordinary_way(host: NamespaceHost) -> None:
    """A rule that counts what is forwarded."""
    rules = "".join(f"{protocol} dport {PORT} counter\n" for protocol in ("tcp", "udp"))
    text = f"table inet watched {{ chain forward {{ type filter hook forward priority -300;\n{rules}}}\n}}\n"
    subprocess.run(["ip", "netns", "exec", host.name, "nft", "-f", "-"], input=text, text=True, check=True)


def on_the_ordinary_way(host: NamespaceHost) -> int:
    listed = json.loads(host.run("nft", "-j", "list", "table", "inet", "watched").stdout)["nftables"]
    rules = [part["rule"]["expr"] for part in listed if "rule" in part]
    return sum(each["counter"]["packets"] for rule in rules for each in rule if "counter" in each)


def send(sender: Place, receiver: Place, version: int, packets: int, payload: bytes = b"hello") -> int:
    """How many arrive."""
    with receiver.listen(version) as arriving, udp_socket(sender.namespace, sender.addresses[version == 6]) as leaving:
        for _ in range(packets):
            leaving.sendto(payload, arriving.getsockname()[:2])
        return sum(arriving.recv(2000) == payload for _ in range(packets))


def second_container(net: Net) -> Place:
    """Beside that of network 0 on the first host."""
    host, first, here = net.hosts[0], endpoint(0, 0), network(0, net.backend)
    second = replace(first, id="02bbbbbbbbb", addresses=tuple(address + 1 for address in first.addresses))
    place = connect(host, second, here)
    net.namespaces.append(place.namespace)
    other = LocalNetwork(network(1, net.backend), (endpoint(0, 1),), (remote(1, 1),))
    bring_about(host, 0, [LocalNetwork(here, (first, second), (remote(1, 0),)), other])
    return place


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("where", ["on another host", "on this host"])
def test_within_a_network_packets_meet_no_rule_of_the_hosts(net: Net, where: str, version: int) -> None:
    one = net.places[0][0]
    other = net.places[1][0] if where == "on another host" else second_container(net)
    assert send(one, other, version, 1) == send(other, one, version, 1) == 1
    for host in net.hosts:
        watch_the_ordinary_way(host)
    assert send(one, other, version, PACKETS) == send(other, one, version, PACKETS) == PACKETS
    assert [on_the_ordinary_way(host) for host in net.hosts] == [0, 0]


def test_without_it_they_do(two_hosts: Hosts) -> None:
    with connected(two_hosts, "vxlan", fast=False) as net:
        watch_the_ordinary_way(two_hosts[0])
        assert send(net.places[0][0], net.places[1][0], 4, PACKETS) == PACKETS
        assert on_the_ordinary_way(two_hosts[0]) == PACKETS


def test_what_is_for_a_link_on_top_of_the_underlay_is_not_taken(two_hosts: Hosts) -> None:
    """A frame of a VLAN, on a host that has none: nobody is there to receive it."""
    with connected(two_hosts, "host-gw") as net:
        source, target = net.places[1][0], net.places[0][0]
        packet = udp_packet(source.addresses[0], target.addresses[0], PORT, b"hello")
        frame = frame_of(packet, mac_of(two_hosts[0], "eth0"))
        with target.listen(4) as arriving:
            for tag, arrives in ((b"", True), (b"\x81\x00\x00\x64", False)):
                inside(two_hosts[1].name, partial(put_on_the_wire, frame[:12] + tag + frame[12:]))
                arriving.settimeout(PATIENCE if arrives else BRIEF)
                assert received(arriving) == arrives


def received(arriving: socket.socket) -> bool:
    try:
        return bool(arriving.recv(100))
    except TimeoutError:
        return False


def mac_of(host: NamespaceHost, link: str) -> str:
    found: str = json.loads(host.ip("-j", "link", "show", link))[0]["address"]
    return found


@pytest.mark.parametrize("version", [4, 6])
def test_segments_too_large_for_the_way_on_are_told_of_and_none_is_lost(net: Net, version: int) -> None:
    """The containers' links keep their MTU when that of the underlay shrinks: their kernels learn of it by ICMP."""
    dev = "fl.7" if net.backend == "vxlan" else "eth0"
    for host in net.hosts:
        host.ip("link", "set", dev, "mtu", "1300")
    client, server = net.places[0][0], net.places[1][0]
    family = socket.AF_INET6 if version == 6 else socket.AF_INET

    def listening() -> socket.socket:
        return socket.create_server((server.addresses[version == 6], PORT), family=family)

    def calling() -> socket.socket:
        made = socket.socket(family, socket.SOCK_STREAM)
        made.settimeout(20)
        made.connect((server.addresses[version == 6], PORT))
        return made

    arrived: list[int] = []
    with inside(server.namespace, listening) as accepting:
        receiver = threading.Thread(target=lambda: arrived.append(drain(accepting.accept()[0])))
        receiver.start()
        with inside(client.namespace, calling) as sending:
            sending.sendall(bytes(BULK))
        receiver.join(20)
    assert arrived == [BULK]


def drain(connection: socket.socket) -> int:
    connection.settimeout(20)
    with connection:
        return sum(iter(lambda: len(connection.recv(1 << 16)), 0))


@pytest.mark.parametrize("version", [4, 6])
def test_sums_that_the_receiving_host_made_stay_right(net: Net, version: int) -> None:
    """Where the sender's card leaves nothing open, the receiving host sums a packet up, and the container compares."""
    for host in net.hosts:
        inside(host.name, partial(set_checksum_offload, "eth0", on=False))
    one, other = net.places[0][0], net.places[1][0]
    assert send(one, other, version, 1) == send(other, one, version, 1) == 1
    watch_the_ordinary_way(net.hosts[1])
    assert send(one, other, version, PACKETS, bytes(1000)) == PACKETS
    assert on_the_ordinary_way(net.hosts[1]) == 0


def set_checksum_offload(link: str, *, on: bool) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as door:
        value = ctypes.create_string_buffer(struct.pack("=II", 0x17, on))  # ETHTOOL_STXCSUM
        fcntl.ioctl(door, 0x8946, struct.pack("16sP16x", link.encode(), ctypes.addressof(value)))  # SIOCETHTOOL


def test_a_host_that_does_not_answer_is_told_of(two_hosts: Hosts) -> None:
    with connected(two_hosts, "host-gw") as net:
        sender, receiver = net.places[0][0], net.places[1][0]
        assert send(sender, receiver, 4, 1) == 1
        for words in (["link", "set", "eth0", "arp", "off"], ["link", "set", "eth0", "address", "02:00:00:00:99:99"]):
            two_hosts[1].ip(*words)
        two_hosts[0].ip("neigh", "flush", "dev", "eth0")
        with inside(sender.namespace, lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM)) as calling:
            calling.settimeout(20)
            with pytest.raises(OSError, match="No route to host"):
                calling.connect((receiver.addresses[0], PORT))


# --- every decision of the program, asked of the kernel packet by packet

LINKS = "flv00aaaaaaaaa", "flv01aaaaaaaaa", "fl.7", "fl.8", "eth0"
MINE, MATE, OTHERS = endpoint(0, 0), endpoint(1, 0), endpoint(0, 1)
CONTAINER = "02:00:00:00:00:05"
STRANGER = "02:00:00:00:00:77"  # a MAC that no link here has
NETS = tuple(network(number, "vxlan") for number in (0, 1))


def reached_by(version: int) -> dict[IPAddress, str | None]:
    """By which link the first host reaches an address; None for those of its own, and those that nobody has."""
    at = version == 6
    return {
        MINE.addresses[at]: "flv00aaaaaaaaa",
        OTHERS.addresses[at]: "flv01aaaaaaaaa",
        MATE.addresses[at]: "fl.7",
        endpoint(1, 1).addresses[at]: "fl.8",
        HOSTS[1][at]: "eth0",
        HOSTS[0][at]: None,
        NETS[0].gateways[at]: None,
        MINE.addresses[at] + 9: None,
    }


def is_fast(source: IPAddress, target: IPAddress, arriving: str, hops: int, mine: bool) -> bool:
    ways = reached_by(source.version)
    within = any(source in pool and target in pool for net in NETS for pool in net.pools)
    leaving = ways[target]
    return mine and within and hops > 1 and ways[source] == arriving and leaving not in (None, arriving)


class Judge:
    """The program with both networks' pools, run by the kernel on one packet after the other."""

    TEST_RUN = struct.Struct("=IIIIQQIIIIQQ")
    CONTEXT = struct.Struct("=40xI148x")  # __sk_buff, of which the link's number is set

    def __init__(self, host: NamespaceHost) -> None:
        self._file = bpf.load(program(tuple(net.pools for net in NETS)), "judge")
        self._links = {each["ifname"]: each for each in json.loads(host.ip("-j", "link", "show"))}

    def mac(self, link: str) -> str:
        found: str = self._links[link]["address"]
        return found

    def takes(self, frame: bytes, arriving: str) -> bytes | None:
        """The frame as it leaves; None if it goes the ordinary way."""
        context = ctypes.create_string_buffer(self.CONTEXT.pack(self._links[arriving]["ifindex"]))
        data, room = ctypes.create_string_buffer(frame, len(frame)), ctypes.create_string_buffer(len(frame))
        what, where = ctypes.addressof, (self._file, 0, len(frame), len(frame))
        ends = what(data), what(room), 1, 0, self.CONTEXT.size, 0, what(context), 0
        wanted = ctypes.create_string_buffer(self.TEST_RUN.pack(*where, *ends))
        done = ctypes.CDLL(None, use_errno=True).syscall(bpf.number_of_call(), 10, wanted, self.TEST_RUN.size)
        assert done == 0, ctypes.get_errno()
        verdict = struct.unpack_from("=I", wanted, 4)[0]
        assert verdict in (7, 0xFFFFFFFF)  # TC_ACT_REDIRECT, TC_ACT_UNSPEC
        return room.raw if verdict == 7 else None


def test_each_packet_is_taken_or_left_as_the_routes_say(two_hosts: Hosts) -> None:
    versions = st.sampled_from([4, 6])
    pairs = versions.flatmap(lambda version: st.tuples(*[st.sampled_from(list(reached_by(version)))] * 2))

    with connected(two_hosts, "vxlan"):
        for address, link in (reached_by(4) | reached_by(6)).items():
            if link and link.startswith("flv"):
                two_hosts[0].ip("neigh", "replace", str(address), "lladdr", CONTAINER, "dev", link)
        judge = inside(two_hosts[0].name, lambda: Judge(two_hosts[0]))

        @settings(max_examples=1500, deadline=None)
        @given(pairs, st.sampled_from(LINKS), st.sampled_from([0, 1, 2, 64, 255]), st.integers(0, 9).map(bool))
        def agrees(pair: tuple[IPAddress, IPAddress], arriving: str, hops: int, mine: bool) -> None:
            source, target = pair
            to = judge.mac(arriving) if mine else STRANGER
            taken = judge.takes(frame_of(with_hops(source, target, hops), to), arriving)
            if is_fast(source, target, arriving, hops, mine):
                assert taken is not None
                assert taken[6:12].hex(":") == judge.mac(reached_by(source.version)[target] or "")
                assert taken[12:] == frame_of(with_hops(source, target, hops - 1), to)[12:]
            else:
                assert taken is None

        inside(two_hosts[0].name, agrees)


def with_hops(source: IPAddress, target: IPAddress, hops: int) -> bytes:
    """A packet with so many hops left, whose header's checksum is right."""
    packet = bytearray(udp_packet(str(source), str(target), PORT, b"hello"))
    packet[8 if source.version == 4 else 7] = hops
    if source.version == 4:
        packet[10:12] = bytes(2)
        packet[10:12] = struct.pack("!H", checksum(bytes(packet[:20])))
    return bytes(packet)


def test_what_holds_no_ip_or_has_options_is_left(two_hosts: Hosts) -> None:
    with connected(two_hosts, "vxlan"):
        judge = inside(two_hosts[0].name, lambda: Judge(two_hosts[0]))
        packet = udp_packet(str(MINE.addresses[0]), str(MATE.addresses[0]), PORT, b"hello")
        frame = frame_of(packet, judge.mac(LINKS[0]))
        of_another_kind = frame[:12] + b"\x88\xb5" + frame[14:]  # for experiments, IEEE 802
        with_options = frame[:14] + b"\x46" + frame[15:]
        frames = frame, of_another_kind, with_options
        taken = [inside(two_hosts[0].name, partial(judge.takes, each, LINKS[0])) for each in frames]
        assert [each is not None for each in taken] == [True, False, False]


# --- how it is kept


def paths(host: NamespaceHost) -> dict[str, FastPath]:
    return {o.dev: o for o in host.kernel.read().values() if isinstance(o, FastPath)}


def wanted(host: NamespaceHost, backend: str, *numbers: int) -> dict[str, FastPath]:
    underlay = host.kernel.underlay(None, ())
    networks: list[tuple[Network, list[Endpoint]]] = [(network(n, backend), [endpoint(0, n)]) for n in numbers]
    return {o.dev: o for o in of_links(underlay, networks)}


def test_it_is_found_as_it_was_put(net: Net) -> None:
    host = net.hosts[0]
    assert paths(host) == wanted(host, net.backend, 0, 1)
    entrances = {"fl.7", "fl.8"} if net.backend == "vxlan" else {"eth0"}
    assert paths(host).keys() == {"flv00aaaaaaaaa", "flv01aaaaaaaaa", *entrances}


@pytest.mark.parametrize("taken", [("qdisc", "del", "dev", "{}", "clsact"), ("filter", "del", "dev", "{}", "ingress")])
def test_one_that_others_took_away_is_missed_and_told_of(net: Net, taken: tuple[str, ...]) -> None:
    host, link = net.hosts[0], "flv00aaaaaaaaa"
    assert link in paths(host)
    notices = Notices(host.name, Keeping(FastPath(link, "").key))
    try:
        assert host.run("tc", *(word.format(link) for word in taken)).returncode == 0
        while not notices.wait():
            pass
    finally:
        notices.close()
    assert link not in paths(host)
    host.kernel.apply(Put(wanted(host, net.backend, 0)[link]))
    assert link in paths(host)


class Keeping(Everything):
    """Nothing but what has this key."""

    def __init__(self, key: Key) -> None:
        self._key = key

    def keeps(self, key: Key) -> bool:
        return key == self._key


def test_the_underlays_follows_its_networks_while_packets_flow(two_hosts: Hosts) -> None:
    with connected(two_hosts, "host-gw") as net:
        host = two_hosts[0]
        only = wanted(host, "host-gw", 0)["eth0"]
        assert only != paths(host)["eth0"]
        host.kernel.apply(Put(only))
        assert paths(host)["eth0"] == only
        for number in (0, 1):  # neighbours are known then
            assert send(net.places[0][number], net.places[1][number], 4, 1) == 1
        watch_the_ordinary_way(host)
        for number, ordinary in ((0, 0), (1, PACKETS)):
            assert send(net.places[1][number], net.places[0][number], 4, PACKETS) == PACKETS
            assert on_the_ordinary_way(host) == ordinary


@pytest.mark.parametrize("qdisc", ["clsact", "ingress"])
def test_classifiers_of_others_stay_and_come_first(two_hosts: Hosts, qdisc: str) -> None:
    host = two_hosts[0]
    path = wanted(host, "host-gw", 0)["eth0"]
    theirs = ["filter", "add", "dev", "eth0", "ingress", "prio", "1", "bpf", "bytecode", "1,6 0 0 0,"]
    for words in (["qdisc", "add", "dev", "eth0", qdisc], theirs):
        assert host.run("tc", *words).returncode == 0
    before = host.run("tc", "filter", "show", "dev", "eth0", "ingress").stdout
    assert before
    for _ in range(2):
        host.kernel.apply(Put(path))
        assert paths(host) == {"eth0": path}
    listed = host.run("tc", "filter", "show", "dev", "eth0", "ingress").stdout
    assert listed.startswith(before)
    assert f"flannelpy {path.digest} direct-action" in listed
    for _ in range(2):
        host.kernel.apply(Drop(path))
    assert host.run("tc", "filter", "show", "dev", "eth0", "ingress").stdout == before
    assert paths(host) == {}


def test_a_program_for_very_many_networks_is_believed(two_hosts: Hosts) -> None:
    many = tuple((ip_network(f"10.{number}.0.0/16"), ip_network(f"fd77:{number:x}::/64")) for number in range(MOST))
    two_hosts[0].kernel.apply(Put(FastPath("eth0", "many", program(many))))
    assert paths(two_hosts[0])["eth0"].digest == "many"


def test_a_host_with_policies_of_ipsec_is_known(two_hosts: Hosts) -> None:
    host = two_hosts[0]
    assert not host.kernel.has_ipsec()
    host.ip(*["xfrm", "policy", "add", "src", "10.240.0.0/18", "dst", "10.240.0.0/18", "dir", "out", "action", "block"])
    assert host.kernel.has_ipsec()


def test_a_process_that_may_load_no_program_says_so(two_hosts: Hosts) -> None:
    """As a service does whose unit, or plugin whose settings, lack CAP_BPF."""
    host = two_hosts[0]
    ask = "from driver.kernel import Kernel; print(Kernel().fast_path_refusal())"
    without = ["setpriv", "--bounding-set", "-bpf,-sys_admin", "--inh-caps", "-bpf,-sys_admin"]
    said = [host.run(*rights, sys.executable, "-c", ask).stdout.strip() for rights in ([], without)]
    assert said == ["None", "loading a program: the kernel says Operation not permitted (EPERM)"]
    assert "flc" not in host.ip("link")


def test_a_program_that_the_kernel_does_not_believe_is_told_with_its_reason() -> None:
    endless = struct.pack("<BBhI", 0x05, 0, -1, 0)
    with pytest.raises(KernelError, match=r"loading a program: the kernel says Invalid argument \(EINVAL\): .+"):
        bpf.load(endless, "endless")
