"""What a trace says about what was found on the way."""

from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

import pytest

from driver.backends.interface import Remote
from driver.entries import Fdb
from driver.host_network import LinkSeen
from driver.kernel.look import Way
from driver.model import Endpoint, Network
from driver.probe import Answer
from driver.verdict import Drop
from operations.end import End
from operations.hops import Found, Holder, hops
from operations.lookup import Lookup, Question
from operations.reach import Reached
from operations.reach import Way as Wanted
from operations.visit import Inside, Visit

POOL, BLOCK, GATEWAY = ip_network("10.240.0.0/18"), ip_network("10.240.2.0/26"), ip_address("10.240.0.1")
A, B, THERE = ip_address("10.240.1.5"), ip_address("10.240.2.9"), ip_address("192.0.2.2")
NETWORK = Network("n1", (POOL,), (GATEWAY,), "vxlan", 7, 8479, None, False, ())
REMOTE = Remote("h2", (THERE,), (BLOCK,))
YES, NO = Answer(B, reply=True), Answer(None)
LINK = LinkSeen(9, "flve1", True, 1450, 8, "02:00:00:00:00:01", "veth")
INNER = Inside(
    LinkSeen(8, "eth0", True, 1450, 9, "02:00:00:00:00:02", "veth"),
    (ip_interface(f"{A}/32"),),
    Way(POOL, "eth0", GATEWAY, False, 254),
    "",
)
HERE = End(
    container="web",
    address=A,
    network=NETWORK,
    endpoint=Endpoint("e1", "n1", (A,), "02:00:00:00:00:02"),
    mtu=1450,
    link=LINK,
    has_gateway=True,
    forwards=True,
    way=Way(ip_network(f"{A}/32"), "flve1", None, True, 254),
    pinned=None,
    visit=Visit(INNER, end_to_end=YES, whole=YES),
)
ASKED = Question("web", 77, "db", B, ip_address("169.254.53.53"))
REACHED = Reached(Wanted(NETWORK, REMOTE, THERE), 1450, YES, 1500, YES, YES, YES)
WELL = Found(
    host="h1",
    source=HERE,
    to=B,
    name="db",
    holder=Holder("h2", BLOCK, True),
    target=None,
    remote=REMOTE,
    drops=(),
    own_drops={"crossed": 0},
    way=Way(BLOCK, "fl.7", BLOCK[0], True, 254),
    missing=(),
    refusal=None,
    reached=REACHED,
    from_host=YES,
)
SURE, PERHAPS = (Drop("ip filter FORWARD", "the rule `drop`", certain) for certain in (True, False))
FOREIGN = Way(ip_network(f"{B}/32"), "eth0", THERE, False, 254)
MISLED = replace(REACHED, underlay=NO, tunnel=NO, link="eth1", route=FOREIGN)
OUTSIDE = Way(POOL, "eth1", GATEWAY, False, 254)
NONE_THERE = {"reached": replace(REACHED, underlay=NO, tunnel=NO), "from_host": NO, "end_to_end": NO}


def changed(found: Found, **change: Any) -> Found:
    """What is seen from inside of the first container is changed like the rest."""
    own = {name: change.pop(name) for name in ("end_to_end", "whole", "lookup") if name in change}
    source = replace(found.source, visit=replace(found.source.visit, **own))
    return replace(found, **({"source": source} | change))


def test_where_all_is_well_every_hop_is_ok() -> None:
    told = hops(WELL)
    assert {hop.state for hop in told} == {"ok"}
    assert [hop.hop for hop in told] == [
        *("network", "holder", "container", "host link", "policy", "route", "entries"),
        *("underlay", "tunnel", "mtu", "target", "end to end"),
    ]


@pytest.mark.parametrize(
    ("change", "hop", "says"),
    [
        ({"holder": Holder(None, None, False), "end_to_end": NO}, "holder", "nobody has 10.240.2.9"),
        ({"holder": Holder("h2", BLOCK, False), "from_host": NO, "end_to_end": NO}, "holder", "has not given"),
        ({"way": FOREIGN}, "route", "not of flannelpy"),
        ({"way": "No route to host (EHOSTUNREACH)"}, "route", "No route to host"),
        ({"refusal": "host h2 has only IPv6"}, "route", "only IPv6"),
        ({"missing": (Fdb("fl.7", "02:00:00:00:00:03", THERE),)}, "entries", "the kernel lacks: fdb"),
        (NONE_THERE, "underlay", "h2 does not answer at 192.0.2.2"),
        (NONE_THERE | {"reached": MISLED}, "underlay", "packets to host h2 (192.0.2.2) leave by eth0"),
        (NONE_THERE | {"reached": replace(REACHED, tunnel=NO)}, "tunnel", "not through the tunnel"),
        ({"reached": replace(REACHED, tunnel_whole=NO)}, "mtu", "MTU of 1450 bytes"),
        ({"from_host": NO, "end_to_end": NO}, "target", "db on it does not"),
        ({"from_host": Answer(THERE), "end_to_end": NO}, "target", "cannot be reached there"),
        ({"end_to_end": NO}, "end to end", "answers this host, but not web"),
        (
            {"lookup": Lookup(ASKED, (), "the answer was NXDOMAIN")},
            "name",
            "db.flannelpy, which is 10.240.2.9",
        ),
        ({"whole": NO}, "end to end", "those of 1450 bytes do not"),
        ({"drops": (SURE,), "end_to_end": NO}, "policy", "the rule `drop` in chain ip filter FORWARD"),
    ],
)
def test_the_first_hop_that_is_wrong_is_the_cause(change: dict[str, Any], hop: str, says: str) -> None:
    first = next(told for told in hops(changed(WELL, **change)) if told.state == "wrong")
    assert first.hop == hop
    assert says in first.says
    assert first.cure


@pytest.mark.parametrize(
    ("change", "hop", "says"),
    [
        ({"link": None}, "host link", "is gone"),
        ({"has_gateway": False}, "host link", "lacks the gateway's address 10.240.0.1"),
        ({"forwards": False}, "host link", "forwarding is 0"),
        ({"way": FOREIGN}, "host link", "not by flve1"),
        ({"pinned": "02:00:00:00:00:99"}, "host link", "02:00:00:00:00:99"),
        ({"inside": replace(INNER, link=replace(INNER.link, up=False))}, "container", "eth0 of web is down"),
        ({"inside": replace(INNER, addresses=())}, "container", "does not have the address 10.240.1.5 (it has none)"),
        ({"inside": replace(INNER, way=OUTSIDE)}, "container", "the wrong way"),
        ({"inside": replace(INNER, way=None, no_way="Network is unreachable")}, "container", "has no route"),
        (
            {"inside": replace(INNER, link=replace(INNER.link, mtu=9000))},
            "container",
            "MTU of 9000, its other end 1450",
        ),
    ],
)
def test_an_end_that_is_wrong(change: dict[str, Any], hop: str, says: str) -> None:
    seen = replace(HERE.visit, inside=change.pop("inside", INNER))
    broken = replace(HERE, visit=seen, **change)
    first = next(told for told in hops(replace(WELL, source=broken)) if told.state == "wrong")
    assert first.hop == hop
    assert says in first.says
    other = replace(WELL, target=replace(broken, container="db"), remote=None, reached=None)
    first = next(told for told in hops(other) if told.state == "wrong")
    assert first.hop == f"{hop} of db"


def test_what_is_not_known_is_not_called_wrong() -> None:
    unseen = replace(HERE, visit=Visit(unseen="Docker does not tell its process"))
    dark = replace(WELL, source=unseen, reached=None, holder=Holder("h2", BLOCK, None), drops=(PERHAPS,))
    told = {hop.hop: hop.state for hop in hops(replace(dark, from_host=NO))}
    assert "wrong" not in told.values()
    assert [told[name] for name in ("holder", "container", "underlay", "end to end")] == ["cannot tell"] * 4


def test_a_rule_that_may_drop_is_told_only_where_nothing_passes() -> None:
    state = {
        bool(works): next(
            hop.state for hop in hops(changed(WELL, drops=(PERHAPS,), end_to_end=works)) if hop.hop == "policy"
        )
        for works in (YES, NO)
    }
    assert state == {True: "ok", False: "cannot tell"}


def test_a_name_is_a_hop_where_it_was_asked_for() -> None:
    told = hops(changed(WELL, lookup=Lookup(ASKED, (str(B),), "")))
    assert (told[-1].hop, told[-1].state) == ("name", "ok")
