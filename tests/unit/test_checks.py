"""What the doctor makes of facts."""

from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from driver.backends.interface import Remote, Underlay
from driver.kernel.look import Way as Route
from driver.model import Network
from driver.probe import Answer
from driver.verdict import Drop
from operations.checks import examine
from operations.facts import Facts
from operations.lookup import Lookup, Question
from operations.model import LeaseState
from operations.reach import MOST_ASKED, Reached, Way, ways

POOL, BLOCK, THERE = ip_network("10.240.0.0/18"), ip_network("10.240.2.0/26"), ip_address("192.0.2.2")
NETWORK = Network(
    "n1", (POOL,), (ip_address("10.240.0.1"),), "vxlan", 7, 8479, None, False, (ip_address("10.240.0.2"),)
)
UNDERLAY = Underlay("eth0", 1500, (ip_address("192.0.2.1"),), (ip_address("192.0.2.1"),), ())
REMOTE = Remote("h2", (THERE,), (BLOCK,))
YES, NO = Answer(THERE, reply=True), Answer(None)
FINE = Reached(Way(NETWORK, REMOTE, THERE), 1450, YES, 1500, YES, YES, YES)
AWAY = Route(ip_network("0.0.0.0/0"), "eth1", None, False, 254)
HERE = Route(ip_network(f"{THERE}/32"), "eth0", None, False, 254, None, True)
MISLED = replace(FINE, underlay=NO, tunnel=NO, tunnel_whole=None, link="eth0")
TOLD = Lookup(Question("web", 77, "db", THERE, ip_address("169.254.53.53")), (str(THERE),), "")
HEALTHY = Facts(
    host="h1",
    store="consul://192.0.2.9:8500",
    store_error=None,
    forbidden=False,
    faulty=(),
    skew=0.4,
    clocks={"h2": -0.2},
    lease=LeaseState(600.0, 20.0, ""),
    silent={},
    engine_error=None,
    shared={},
    conflicts=(),
    garbage=(),
    faults=(),
    lost="",
    failing={},
    underlay=UNDERLAY,
    networks=(NETWORK,),
    foreign=((ip_network("192.0.2.0/24"), "eth0"), (ip_network("10.0.0.0/8"), "eth1")),
    forward_drops=(),
    tunnel_drops={},
    not_forwarding=(),
    unguarded=(),
    reached=(FINE,),
    left_out=0,
    unprobed="",
    lookups=(TOLD,),
    dropped={"strangers": 0, "crossed": 9},
    bad_checksums=0,
    disk=(50 << 30, 100 << 30),
    unwritten="",
)
READ_ONLY = "Consul at consul://x refused (Permission denied): see that the token exists and allows"
FULL = "store host.db: the disk is full"
DROP = Drop("ip filter FORWARD", "the policy drop", certain=True)


def test_where_all_is_well_nothing_is_said() -> None:
    assert examine(HEALTHY) == ()


@pytest.mark.parametrize(
    ("change", "check", "says"),
    [
        ({"store_error": "refused", "forbidden": True}, "store", "does not allow"),
        ({"failing": {"beat": READ_ONLY, "publish": READ_ONLY}}, "store", READ_ONLY),
        ({"store_error": "no route"}, "store", "the store is away: no route"),
        ({"faulty": ("pools/10.240.0.0-18/blocks/x",)}, "record", "pools/10.240.0.0-18/blocks/x in the store"),
        ({"lease": LeaseState(600.0, 301.0, "")}, "lease", "301 s ago and lasts 600 s"),
        ({"lease": LeaseState(600.0, 700.0, "too long")}, "lease", "has lapsed"),
        ({"lease": LeaseState(600.0, None, "a copy"), "failing": {"beat": "a copy"}}, "lease", "a copy"),
        ({"lease": LeaseState(600.0, 20.0, "", retelling=True)}, "store", "the hosts are telling it again"),
        ({"skew": -60.0}, "clock", "60 s behind"),
        (
            {"clocks": {"h2": 0.1, "h3": -90.4, "h4": 7.0}},
            "clock",
            "h3 (90 s behind), h4 (7 s ahead)",
        ),
        ({"engine_error": "the Docker Engine does not answer"}, "engine", "does not answer"),
        ({"disk": (100 << 20, 100 << 30)}, "disk", "100 MiB left"),
        ({"disk": None}, "disk", "the state directory is gone"),
        ({"unwritten": f"not written: {FULL}", "failing": {"beat": FULL}}, "disk", FULL),
        ({"faults": ("fl.7: no",)}, "kernel", "fl.7: no"),
        ({"lost": "there is no interface missing0"}, "interface", "there is no interface missing0"),
        ({"failing": {"publish": "no"}}, "duty", "publish: no"),
        ({"foreign": ((ip_network("10.240.9.0/24"), "eth1"),)}, "overlap", "10.240.9.0/24 on eth1"),
        ({"not_forwarding": ("ipv4/ip_forward",)}, "forwarding", "ipv4/ip_forward is 0"),
        ({"forward_drops": (DROP,)}, "forward", "the policy drop in chain ip filter FORWARD"),
        ({"tunnel_drops": {8479: (DROP,)}}, "tunnel port", "UDP port 8479"),
        ({"unguarded": ("flv1",)}, "rp_filter", "flv1"),
        ({"underlay": replace(UNDERLAY, advertised=(THERE,))}, "published address", "192.0.2.2"),
        ({"shared": {"172.17.0.1": ("h1", "h2")}}, "shared address", "hosts h1 and h2 all publish 172.17.0.1"),
        ({"silent": {"h2": 90.0}}, "silent host", "h2 has given no sign of life for 90 s"),
        ({"unprobed": "Operation not permitted"}, "probes", "Operation not permitted"),
        ({"reached": (replace(FINE, underlay=NO, tunnel=NO),)}, "underlay", "h2 does not answer at 192.0.2.2"),
        ({"reached": (replace(FINE, tunnel=NO, tunnel_whole=None),)}, "tunnel", "not through the tunnel"),
        ({"reached": (replace(MISLED, route=AWAY),)}, "interface", "192.0.2.2) leave by eth1, but the others are"),
        ({"reached": (replace(MISLED, underlay=YES, route=HERE),)}, "interface", "is an address of this host itself"),
        ({"reached": (replace(FINE, underlay_whole=NO, tunnel_whole=NO),)}, "mtu", "loses packets of 1500 bytes"),
        ({"reached": (replace(FINE, tunnel_whole=NO),)}, "mtu", "has an MTU of 1450 bytes"),
        ({"bad_checksums": 14}, "checksums", "14 UDP packets"),
        ({"dropped": {"strangers": 3}}, "strangers", "3 tunnel packets came from no peer"),
        ({"lookups": (TOLD, replace(TOLD, told=(), why="the answer was NXDOMAIN"))}, "names", "was NXDOMAIN"),
        ({"lookups": (replace(TOLD, told=("192.0.2.9",)),)}, "names", "it was told 192.0.2.9"),
        ({"conflicts": ("container x is there twice: disconnect it",)}, "conflict", "container x"),
        ({"garbage": ("endpoint 1",)}, "garbage", "endpoint 1"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_one_thing_wrong_is_one_finding_with_a_cure(change: dict[str, Any], check: str, says: str) -> None:
    [finding] = examine(replace(HEALTHY, **change))
    assert finding.check == check
    assert says in finding.says
    assert finding.cure


def test_what_follows_from_an_engine_or_a_store_that_is_away_is_not_told_again() -> None:
    gone = replace(HEALTHY, engine_error="gone", failing={"garbage": "gone", "conflicts": "gone"})
    assert [finding.check for finding in examine(gone)] == ["engine"]
    away = replace(HEALTHY, store_error="gone", failing={"beat": "Consul at consul://x cannot be reached: gone"})
    assert [finding.check for finding in examine(away)] == ["store"]


def test_the_cure_for_names_holds_beside_a_managed_plugin_too() -> None:
    [finding] = examine(replace(HEALTHY, lookups=(replace(TOLD, told=()),)))
    assert finding.cure.startswith('write "dns": ["169.254.53.53", ...] into /etc/docker/daemon.json')
    assert "`flannelpy install --docker-dns 169.254.53.53` does so where flannelpy is a systemd service" in finding.cure


def test_a_host_that_ignores_pings_but_carries_packets_is_well() -> None:
    assert examine(replace(HEALTHY, reached=(replace(FINE, underlay=NO, underlay_whole=NO),))) == ()


def test_a_host_of_several_networks_is_told_once_where_it_is_gone() -> None:
    gone = replace(FINE, underlay=NO, tunnel=NO)
    other = replace(gone, way=replace(gone.way, network=replace(NETWORK, pools=(ip_network("10.9.0.0/24"),))))
    assert len(examine(replace(HEALTHY, reached=(gone, other)))) == 1


def test_packets_that_leave_by_the_right_interface_are_not_astray() -> None:
    gone = examine(replace(HEALTHY, reached=(replace(MISLED, route=replace(AWAY, dev="eth0")), MISLED)))
    assert [finding.check for finding in gone] == ["underlay"]


def test_of_many_hosts_some_are_asked() -> None:
    remotes = tuple(Remote(f"h{number}", (THERE,), (BLOCK,)) for number in range(MOST_ASKED + 8))
    asked, left_out = ways(UNDERLAY, [(NETWORK, remotes)])
    assert (len(asked), left_out) == (MOST_ASKED, 8)
    assert ways(UNDERLAY, [(NETWORK, None)]) == ([], 0)


def test_nobody_is_asked_in_a_network_where_this_host_has_no_address() -> None:
    assert ways(UNDERLAY, [(replace(NETWORK, host_addresses=()), (REMOTE,))]) == ([], 0)


def test_the_cure_for_wrong_checksums_names_the_networks_own_option() -> None:
    [finding] = examine(replace(HEALTHY, bad_checksums=14))
    assert "-o checksum-offload=off" in finding.cure
