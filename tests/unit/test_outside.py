"""What a trace says about the way to an address that is in no network."""

from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

import pytest

from driver.host_network import LinkSeen
from driver.kernel.look import Way
from driver.model import Network
from driver.probe import Answer
from driver.verdict import Drop
from operations.outside import Outward, hops
from operations.visit import Inside, Visit

A, TO, GATE = ip_address("10.240.1.5"), ip_address("192.0.2.9"), ip_address("172.18.0.1")
NETWORK = Network("n1", (ip_network("10.240.0.0/18"),), (ip_address("10.240.0.1"),), "vxlan", 7, 8479, None, False, ())
DEFAULT = Way(ip_network("0.0.0.0/0"), "eth1", GATE, False, 254, ip_address("172.18.0.2"))
INSIDE = Inside(LinkSeen(8, "eth0", True, 1450, 9, "", "veth"), (ip_interface(f"{A}/32"),), DEFAULT, "")
YES, NO = Answer(TO, reply=True), Answer(None)
WELL = Outward(
    container="web",
    network=NETWORK,
    to=TO,
    visit=Visit(INSIDE, end_to_end=YES),
    gate=LinkSeen(3, "docker_gwbridge", True, 1500, None, "", "bridge"),
    forwards=True,
    way=Way(ip_network("0.0.0.0/0"), "eth0", ip_address("192.0.2.1"), False, 254),
    drops=(),
    from_host=YES,
)
LOST = Visit(replace(INSIDE, way=None, no_way="Network is unreachable (ENETUNREACH)"), end_to_end=NO)
SILENT = Visit(INSIDE, end_to_end=NO)


def test_where_all_is_well_every_hop_is_ok() -> None:
    told = hops(WELL)
    assert [hop.hop for hop in told] == ["network", "container", "gateway", "route", "policy", "end to end"]
    assert {hop.state for hop in told} == {"ok"}


@pytest.mark.parametrize(
    ("change", "hop", "state", "says"),
    [
        ({"visit": LOST}, "container", "wrong", "has no route to 192.0.2.9: the kernel says Network is unreachable"),
        ({"gate": replace(WELL.gate, up=False)}, "gateway", "wrong", "docker_gwbridge of this host is down"),  # type: ignore[type-var]
        ({"forwards": False}, "gateway", "wrong", "net.ipv4.conf.docker_gwbridge.forwarding is 0"),
        ({"gate": None}, "gateway", "cannot tell", "does not send it to this host"),
        ({"way": "No route to host (EHOSTUNREACH)"}, "route", "wrong", "this host has no route to 192.0.2.9"),
        ({"drops": (Drop("ip filter FORWARD", "the policy drop", True),)}, "policy", "wrong", "the policy drop"),
        ({"visit": SILENT}, "end to end", "wrong", "answers this host, but not web"),
        ({"visit": SILENT, "from_host": NO}, "end to end", "cannot tell", "it may not answer pings"),
        ({"visit": Visit(unseen="no right")}, "container", "cannot tell", "no right"),
    ],
)
def test_the_first_hop_that_is_not_ok_is_the_cause(change: dict[str, Any], hop: str, state: str, says: str) -> None:
    first = next(each for each in hops(replace(WELL, **change)) if each.state != "ok")
    assert (first.hop, first.state) == (hop, state)
    assert says in first.says
    assert first.cure or state != "wrong"


def test_a_container_of_an_internal_network_is_told_that_it_is_so_on_purpose() -> None:
    told = hops(replace(WELL, visit=LOST, network=replace(NETWORK, internal=True)))
    assert "its network is --internal" in next(each for each in told if each.state == "wrong").cure


def test_a_rule_that_is_not_understood_accuses_nobody() -> None:
    unsure = replace(WELL, drops=(Drop("ip filter FORWARD", "the rule `drop`", False),))
    assert {hop.state for hop in hops(unsure)} == {"ok"}
