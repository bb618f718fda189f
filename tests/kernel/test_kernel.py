"""The door to the kernel and the backends on real kernels: packets cross, crashes heal, foreign things stay."""

import os
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network

import pytest

from driver import sysctl
from driver.backends.interface import Remote
from driver.entries import Entry, Fdb, Key, Neighbour, Route, Unreachable
from driver.errors import KernelError
from driver.goal import LocalNetwork, goal
from driver.kernel import Notices
from driver.model import Network
from driver.plan import Drop, Put, plan
from driver.state import LinkState, Object, State, VxlanLink
from tests.kernel.conftest import NamespaceHost, inside

Hosts = tuple[NamespaceHost, NamespaceHost]
POOL, POOL6 = ip_network("10.240.0.0/18"), ip_network("fd77::/64")
BLOCKS = [
    (ip_network("10.240.1.0/26"), ip_network("fd77::100/122")),
    (ip_network("10.240.2.0/26"), ip_network("fd77::200/122")),
]


def network(number: int, backend: str) -> Network:
    own = tuple(block[1] for block in BLOCKS[number])
    gateways = (ip_address("10.240.0.1"), ip_address("fd77::1"))
    return Network("n", (POOL, POOL6), gateways, backend, 7, 8479 if backend == "vxlan" else 0, None, False, own)


def remote(number: int) -> Remote:
    addresses = (ip_address(f"192.0.2.{number + 1}"), ip_address(f"fd00:1::{number + 1}"))
    return Remote(f"h{number}", addresses, BLOCKS[number])


def desired(host: NamespaceHost, number: int, backend: str, *, v6_underlay: bool = False) -> State:
    underlay = host.kernel.underlay(None, ())
    if v6_underlay:
        underlay = replace(underlay, addresses=underlay.addresses[1:])
    local = LocalNetwork(network(number, backend), (), (remote(1 - number),))
    return goal(f"h{number}", underlay, [local], host.kernel.read())


def settle(host: NamespaceHost, goal_state: State) -> list[str]:
    operations = plan(host.kernel.read(), goal_state)
    for operation in operations:
        host.kernel.apply(operation)
    return [str(operation) for operation in operations]


def joined(two_hosts: Hosts, backend: str, *, v6_underlay: bool = False) -> list[State]:
    goals = [desired(host, n, backend, v6_underlay=v6_underlay) for n, host in enumerate(two_hosts)]
    for host, goal_state in zip(two_hosts, goals, strict=True):
        settle(host, goal_state)
    return goals


@pytest.mark.parametrize(("backend", "v6_underlay"), [("vxlan", False), ("vxlan", True), ("host-gw", False)])
def test_hosts_reach_each_other_in_both_families_up_to_the_mtu(
    two_hosts: Hosts, backend: str, v6_underlay: bool
) -> None:
    joined(two_hosts, backend, v6_underlay=v6_underlay)
    mtu = {("vxlan", False): 1450, ("vxlan", True): 1430, ("host-gw", False): 1500}[backend, v6_underlay]
    a, _ = two_hosts
    assert a.pings(BLOCKS[1][0][1], size=mtu - 28)
    assert a.pings(BLOCKS[1][1][1], size=mtu - 48)
    assert not a.pings(BLOCKS[1][0][1], size=mtu - 27)
    assert not a.pings(BLOCKS[1][1][1], size=mtu - 47)


@pytest.mark.parametrize("backend", ["vxlan", "host-gw"])
def test_a_second_look_finds_nothing_to_do(two_hosts: Hosts, backend: str) -> None:
    goals = joined(two_hosts, backend)
    for host, goal_state in zip(two_hosts, goals, strict=True):
        assert settle(host, goal_state) == []


@pytest.mark.parametrize("backend", ["vxlan", "host-gw"])
def test_a_crash_after_any_step_leaves_exactly_the_rest_to_do(two_hosts: Hosts, backend: str) -> None:
    host = two_hosts[0]
    goal_state = desired(host, 0, backend)
    operations = plan(host.kernel.read(), goal_state)
    for done, operation in enumerate(operations, start=1):
        host.kernel.apply(operation)
        rest = [str(op) for op in plan(host.kernel.read(), goal_state) if not isinstance(op.object, LinkState)]
        assert rest == [str(op) for op in operations[done:] if not isinstance(op.object, LinkState)]


@pytest.mark.parametrize(
    "harm",
    [
        "route del 10.240.2.0/26",
        "-6 route del fd77::200/122",
        "route replace 10.240.2.0/26 via 192.0.2.9 proto 102",
        "route add 10.240.2.0/26 via 192.0.2.9 proto 102 metric 50",
        "-6 route add fd77::200/122 via fd00:1::9 proto 102 metric 1",
        "-6 route add unreachable fd77::200/122 proto 102 metric 2",
        "neigh del 10.240.2.0 dev fl.7",
        "neigh replace 10.240.2.0 lladdr 02:00:00:00:00:99 dev fl.7 nud permanent",
        "addr del 10.240.1.1/32 dev fl.7",
        "addr add 10.240.1.9/32 dev fl.7",
        "link set fl.7 down",
        "link set fl.7 mtu 1300",
        "link set fl.7 address 02:00:00:00:00:98",
        "link del fl.7",
        "link set fl.7 name lost",
        "link set fl.7 type vxlan local 192.0.2.99",
        "link set fl.7 type vxlan learning",
        "link set fl.7 type vxlan ttl 1",
        "link set fl.7 type vxlan tos 4",
        "route del unreachable 10.240.0.0/18",
        "route change 10.240.2.0/26 via 10.240.2.0 dev fl.7 onlink src 10.240.1.1 mtu lock 600 proto 102",
        "-6 route change fd77::200/122 via fd77::200 dev fl.7 onlink src fd77::101 mtu lock 1280 proto 102",
        "route replace unreachable 10.240.0.0/18 mtu lock 600 proto 102",
        "route add 10.240.2.0/26 tos 0x10 via 192.0.2.9 proto 102",
        "route replace 10.240.2.0/26 proto 102 nexthop via 192.0.2.9 nexthop via 192.0.2.8",
        "neigh replace 10.240.2.0 lladdr 02:00:00:00:00:99 dev fl.7 nud reachable",
        "neigh replace 10.240.2.0 dev fl.7 nud failed",
    ],
)
def test_harm_is_healed_in_one_pass(two_hosts: Hosts, harm: str) -> None:
    a, _ = two_hosts
    goals = joined(two_hosts, "vxlan")
    a.ip(*harm.split())
    assert settle(a, goals[0])
    assert settle(a, goals[0]) == []
    assert a.pings(BLOCKS[1][0][1])
    assert a.pings(BLOCKS[1][1][1])


@pytest.mark.parametrize(
    "harm",
    [
        "del {mac} dev fl.7 dst 192.0.2.2",
        "replace {mac} dev fl.7 dst 192.0.2.9",
        "replace {mac} dev fl.7 dst 192.0.2.2 port 9999",
        "replace {mac} dev fl.7 dst 192.0.2.2 vni 99",
        "replace {mac} dev fl.7 dst 192.0.2.2 dynamic",
        "replace {mac} dev fl.7 dst 192.0.2.2 via eth0",
        "add 02:00:00:00:00:99 dev fl.7 dst 192.0.2.2 port 9999",
        "append 00:00:00:00:00:00 dev fl.7 dst 192.0.2.9 port 9999",
    ],
)
def test_a_harmed_fdb_entry_is_healed(two_hosts: Hosts, harm: str) -> None:
    a, _ = two_hosts
    goals = joined(two_hosts, "vxlan")
    assert settle(a, goals[0]) == []  # and so it knows what it has read
    before = a.run("bridge", "fdb", "show", "dev", "fl.7").stdout
    entry = next(o for o in goals[0].values() if isinstance(o, Fdb))
    assert a.run("bridge", "fdb", *harm.format(mac=entry.mac).split()).returncode == 0
    assert settle(a, goals[0])
    assert settle(a, goals[0]) == []
    assert a.run("bridge", "fdb", "show", "dev", "fl.7").stdout == before
    assert a.pings(BLOCKS[1][0][1])


def test_all_of_ours_goes_and_nothing_else(two_hosts: Hosts) -> None:
    a, _ = two_hosts
    before = [a.ip("-o", "link"), a.ip("-4", "route"), a.ip("-4", "neigh"), a.ip("-4", "addr")]
    joined(two_hosts, "vxlan")
    settle(a, {})
    assert [a.ip("-o", "link"), a.ip("-4", "route"), a.ip("-4", "neigh"), a.ip("-4", "addr")] == before


def test_a_route_of_somebody_else_is_never_overwritten(two_hosts: Hosts) -> None:
    a, _ = two_hosts
    a.ip("route", "add", "10.240.2.0/26", "via", "192.0.2.77")
    goal_state = desired(a, 0, "vxlan")
    with pytest.raises(KernelError, match=r"this host has another route to 10\.240\.2\.0/26; remove it"):
        settle(a, goal_state)
    assert "10.240.2.0/26 via 192.0.2.77" in a.ip("route")


def test_what_the_kernel_refuses_is_said_in_its_words(two_hosts: Hosts) -> None:
    a, _ = two_hosts
    with pytest.raises(
        KernelError, match=r"\+ route 10\.9\.0\.0/24 via 203\.0\.113\.9 dev eth0: the kernel says .*unreach"
    ):
        settle(a, {("route",): Route("eth0", ip_network("10.9.0.0/24"), ip_address("203.0.113.9"))})
    with pytest.raises(KernelError, match="there is no interface nope"):
        a.kernel.underlay("nope", ())


def test_the_underlay_is_where_the_default_route_goes_unless_told(two_hosts: Hosts) -> None:
    a, _ = two_hosts
    found = a.kernel.underlay(None, ())
    assert (found.dev, found.mtu) == ("eth0", 1500)
    assert found.addresses == found.advertised == (ip_address("192.0.2.1"), ip_address("fd00:1::1"))
    assert ip_network("192.0.2.0/24") in found.on_link
    assert a.kernel.underlay(None, (ip_address("198.51.100.7"),)).advertised == (ip_address("198.51.100.7"),)
    a.ip("route", "del", "default")
    with pytest.raises(KernelError, match="no default route; set FLANNELPY_IFACE"):
        a.kernel.underlay(None, ())
    assert a.kernel.underlay(None, (ip_address("192.0.2.1"),)).dev == "eth0"


def test_the_underlay_keeps_its_addresses_when_others_come_and_go(two_hosts: Hosts) -> None:
    """Those of keepalived and its like move from host to host."""
    a, _ = two_hosts
    own = (ip_address("192.0.2.1"), ip_address("fd00:1::1"))
    for moving in ("192.0.2.200/32", "fd00:1::200/128", "192.0.2.201/24", "fd00:1::201/64"):
        a.ip("addr", "add", moving, "dev", "eth0", *["nodad"] * (":" in moving))
        assert a.kernel.underlay(None, ()).addresses == own
    asked = ip_address("192.0.2.201"), ip_address("fd00:1::200")
    assert a.kernel.underlay(None, asked).addresses == asked
    assert a.kernel.underlay(None, (), kept=asked).addresses == asked
    for address in ("192.0.2.201/24", "fd00:1::200/128"):
        a.ip("addr", "del", address, "dev", "eth0")
    assert a.kernel.underlay(None, (), kept=asked).addresses == own


def test_the_underlay_of_a_default_route_with_several_ways_is_the_first_that_is_up(two_hosts: Hosts) -> None:
    a, _ = two_hosts
    a.ip("link", "add", "eth1", "type", "veth", "peer", "name", "cable1")
    for words in ("link set cable1 up", "link set eth1 up", "addr add 203.0.113.1/24 dev eth1", "route del default"):
        a.ip(*words.split())
    ways = "nexthop via 203.0.113.254 dev eth1 nexthop via 192.0.2.254 dev eth0"
    a.ip(*f"route add default {ways}".split())
    found = a.kernel.underlay(None, ())
    assert (found.dev, found.default_devs) == ("eth1", ("eth1", "eth0"))
    a.ip("link", "set", "cable1", "down")
    assert a.kernel.underlay(None, ()).default_devs == ("eth0", "eth1")


def test_a_vxlan_link_reads_back_as_it_was_made(two_hosts: Hosts) -> None:
    a, _ = two_hosts
    for local in ("192.0.2.1", "fd00:1::1"):
        link = VxlanLink("fl.9", 9, ip_address(local), 4799, "02:00:00:00:00:09")
        settle(a, {link.key: link})
        assert a.kernel.read()[link.key] == link
        settle(a, {})


def test_prefixes_in_use_are_those_of_routes_and_interfaces(two_hosts: Hosts) -> None:
    a, _ = two_hosts
    a.ip("route", "add", "10.77.0.0/16", "via", "192.0.2.2")
    used = a.kernel.prefixes_in_use()
    assert {ip_network("192.0.2.0/24"), ip_network("10.77.0.0/16"), ip_network("fd00:1::/64")} <= set(used)
    assert ip_interface("0.0.0.0/0").network not in used


@pytest.mark.parametrize(
    "harm",
    [
        "route del 10.240.2.0/26",
        "neigh del 10.240.2.0 dev fl.7",
        "addr del 10.240.1.1/32 dev fl.7",
        "neigh replace 10.240.2.0 lladdr 02:00:00:00:00:99 dev fl.7 nud permanent",
        "neigh add 10.240.3.0 lladdr 02:00:00:00:00:99 dev fl.7 nud permanent",
        "route replace 10.240.2.0/26 via 192.0.2.9 proto 102",
        "route add 10.240.3.0/26 via 192.0.2.9 proto 102",
        "route add 10.240.2.0/26 via 192.0.2.9 proto 102 metric 50",
        "addr add 10.240.1.9/32 dev fl.7",
        "link set fl.7 mtu 1300",
        "link set fl.7 address 02:00:00:00:00:98",
        "link set fl.7 name lost",
        "link set fl.7 down",
        "link del fl.7",
        "link set fl.7 name vethlost",
        "link set flv1 down",
        "link set flv1 mtu 1300",
        "link set flv1 name lost",
        "link set flv1 name vethlost",
        "link set flv1 master br-foreign",
        "addr del 10.240.0.1/32 dev flv1",
        "addr add 10.240.0.9/32 dev flv1",
        "route add 10.240.1.5/32 dev flv1 proto 102",
        "link set eth0 mtu 1400",
        "link set eth0 down",
        "addr del 192.0.2.1/24 dev eth0",
    ],
)
def test_the_kernel_tells_of_harm_at_once(two_hosts: Hosts, harm: str) -> None:
    a, _ = two_hosts
    joined(two_hosts, "vxlan")
    a.kernel.add_veth("flv1", "flc1", 1450)
    a.ip("link", "set", "flv1", "up")
    a.ip("addr", "add", "10.240.0.1/32", "dev", "flv1")
    a.ip("link", "add", "br-foreign", "type", "bridge")
    with listening(Notices(a.name, Known())) as heard:
        a.ip(*harm.split())
        assert heard.wait(1)


@pytest.mark.parametrize("kind", ["vxlan id 9 dstport 8479 dev eth0", "vxlan external dstport 8479", "bridge"])
def test_a_link_with_a_name_of_ours_that_is_of_no_kind_of_ours_is_dropped(two_hosts: Hosts, kind: str) -> None:
    a, _ = two_hosts
    a.ip("link", "add", "fl.9", "type", *kind.split())
    actual = a.kernel.read()
    operations = plan(actual, {})
    assert [str(o) for o in operations if str(o).startswith("- link")]
    for operation in operations:
        a.kernel.apply(operation)
    assert a.kernel.read() == {}


def test_a_link_whose_name_is_no_text_hinders_nobody(two_hosts: Hosts) -> None:
    host, name = two_hosts[0], os.fsdecode("für".encode("latin-1"))
    notices = Notices(host.name)
    try:
        host.ip("link", "add", name, "type", "bridge")
        while not notices.wait():
            pass
    finally:
        notices.close()
    assert host.kernel.read() == {}
    assert host.kernel.underlay(None, ()).dev == "eth0"
    host.ip("link", "set", name, "up")  # now its routes are listed, too
    inside(host.name, lambda: sysctl.ensure_forwarding(6, "eth0"))


def test_links_that_are_gone_are_forgotten(two_hosts: Hosts) -> None:
    a, _ = two_hosts
    a.kernel.add_veth("flv1", "flc1", 1450)
    notices = Notices(a.name, Known())
    known = dict(notices._links)
    for number in range(5):
        a.kernel.add_veth(f"flv2{number}", f"flc2{number}", 1450)
        a.kernel.delete_link(f"flv2{number}")
    while notices._links == known:
        notices.wait()
    while notices._links != known:
        notices.wait()
    notices.close()


def test_what_the_kernel_tells_of_our_own_entries_is_no_news(two_hosts: Hosts) -> None:
    a, _ = two_hosts
    wanted = joined(two_hosts, "vxlan")[0]
    entries = [o for o in wanted.values() if isinstance(o, Entry)]
    assert {type(o) for o in entries} == {Route, Unreachable, Neighbour, Fdb}
    for o in entries:
        a.kernel.apply(Drop(o))
    with listening(Notices(a.name, Known(entries))) as heard:
        for o in entries:
            a.kernel.apply(Put(o))
        assert not heard.wait(0.3)
        a.ip(*["route", "replace", "10.240.2.0/26", "via", "192.0.2.9", "proto", "102"])
        assert heard.wait(1)


BRIDGED = """link add br-lan type bridge; link set br-lan up; addr add 198.51.100.1/24 dev br-lan
route add 203.0.113.0/24 dev br-lan; link add br-1234 type bridge; link add vethabc type bridge"""


@pytest.fixture
def bridged(two_hosts: Hosts) -> tuple[NamespaceHost, "Known"]:
    """A host whose way to the others is a bridge with a name like those between containers."""
    a, _ = two_hosts
    wanted = joined(two_hosts, "vxlan")[0]
    for words in BRIDGED.replace("\n", ";").split(";"):
        a.ip(*words.split())
    return a, Known(list(wanted.values()), {"br-lan"})


@pytest.mark.parametrize(
    "news",
    [
        "link set br-lan mtu 1400",
        "link set br-lan down",
        "link set br-lan name br-wan",
        "addr add 198.51.100.9/24 dev br-lan",
        "addr del 198.51.100.1/24 dev br-lan",
        "route replace default via 198.51.100.254",
        "route del default",
        "-6 route add default via fd00:1::2",
        "route add default metric 9 nexthop via 198.51.100.254 nexthop via 192.0.2.254",
        "route add 10.9.0.0/16 dev br-lan",
        "route del 203.0.113.0/24 dev br-lan",
        "route replace 10.240.2.0/26 via 192.0.2.9",
        "route change 10.240.2.0/26 via 192.0.2.9 proto static",
        "-6 route replace fd77::200/122 via fd00:1::9",
        "route replace blackhole 10.240.2.0/26",
        "route replace 10.240.2.0/26 nexthop via 192.0.2.9 nexthop via 192.0.2.8",
        "route change 10.240.2.0/26 via 10.240.2.0 dev fl.7 onlink src 10.240.1.1 mtu lock 600 proto 102",
        "route add 10.240.2.0/26 tos 0x10 via 192.0.2.9 proto 102",
        "neigh replace 10.240.2.0 lladdr 02:00:00:00:00:99 dev fl.7 nud reachable",
        "neigh replace 10.240.2.0 dev fl.7 nud failed",
        "link set fl.7 type vxlan learning",
    ],
)
def test_the_kernel_tells_at_once_of_harm_without_our_mark_and_of_the_underlay(
    bridged: tuple[NamespaceHost, "Known"], news: str
) -> None:
    host, known = bridged
    with listening(Notices(host.name, known)) as heard:
        host.ip(*news.split())
        assert heard.wait(1)


@pytest.mark.parametrize("switch", ["ipv4/ip_forward", "ipv6/conf/all/forwarding"])
def test_the_kernel_tells_at_once_that_forwarding_is_turned_off(two_hosts: Hosts, switch: str) -> None:
    a, _ = two_hosts
    turn = f"echo {{}} > /proc/sys/net/{switch}"
    with listening(Notices(a.name, Known())) as heard:
        a.run("sh", "-c", turn.format(1))
        assert not heard.wait(0.3)
        a.run("sh", "-c", turn.format(0))
        assert heard.wait(1)


def test_what_goes_on_beside_us_is_no_news(bridged: tuple[NamespaceHost, "Known"]) -> None:
    """Links between containers, and the routes of a routing daemon, of which there may be very many."""
    host, known = bridged
    daemon = [f"route add 10.{n >> 8}.{n & 255}.0/24 via 192.0.2.{n & 127} dev eth0 proto bird" for n in range(2000)]
    daemon += ["route add 10.240.2.0/26 via 192.0.2.9 metric 20", "route add 10.240.2.7 via 192.0.2.9 table 7"]
    beside = ["link set br-1234 up", "addr add 172.19.0.1/16 dev br-1234", "link set vethabc up", "link del vethabc"]
    with listening(Notices(host.name, known)) as heard:
        batch = "\n".join([*daemon, *beside])
        host.run("sh", "-c", f"ip -batch - <<'END'\n{batch}\nEND")
        assert "10.7.207.0/24" in host.ip("route")
        assert not heard.wait(0.3)
        host.ip("route", "add", "10.9.0.0/16", "dev", "br-lan")
        assert heard.wait(1)


def test_the_kernels_own_address_on_a_link_of_ours_is_no_news(two_hosts: Hosts) -> None:
    a, _ = two_hosts
    joined(two_hosts, "vxlan")
    with listening(Notices(a.name, Known())) as heard:
        a.ip("addr", "add", "fe80::7/64", "dev", "fl.7")
        a.ip("addr", "del", "fe80::7/64", "dev", "fl.7")
        assert not heard.wait(0.3)
        a.ip("addr", "add", "fd77::7/64", "dev", "fl.7")
        assert heard.wait(1)


class Known:
    """Of what the kernel may tell: these objects are as they should be, and these links lead to the others."""

    def __init__(self, wanted: Collection[Object] = (), uplinks: Collection[str] = ()) -> None:
        self._wanted, self._keys, self.uplinks = wanted, {o.key for o in wanted}, uplinks

    def expects(self, o: Object) -> bool:
        return o in self._wanted

    def keeps(self, key: Key) -> bool:
        return key in self._keys

    def attached(self, link: str) -> bool:
        return True


@contextmanager
def listening(notices: Notices) -> Iterator[threading.Event]:
    """Set when the kernel told of something that may concern us."""
    heard = threading.Event()

    def listen() -> None:
        while not notices.wait():
            pass
        heard.set()

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    yield heard
    thread.join(5)
    notices.close()
