"""What is said about packets and the rules of others, with listings as nft gives them."""

from ipaddress import ip_address
from typing import Any

import pytest

from driver.verdict import FORWARD, Packet, drops

A, B = ip_address("10.240.1.5"), ip_address("10.240.2.9")
PACKET = Packet(A, B, "flv1", "fl.7")
Part = dict[str, Any]


def listing(*rules: Part, policy: str = "accept", family: str = "ip", chain: str = "FORWARD") -> Part:
    base = {"family": family, "table": "filter", "name": "FORWARD", "hook": "forward", "policy": policy}
    return {"nftables": [{"metainfo": {}}, {"chain": base}, *rules]}


def rule(*expr: Part, chain: str = "FORWARD", family: str = "ip") -> Part:
    return {"rule": {"family": family, "table": "filter", "chain": chain, "expr": list(expr)}}


def match(left: Part, right: Any, op: str = "==") -> Part:
    return {"match": {"op": op, "left": left, "right": right}}


def field(name: str) -> Part:
    return {"payload": {"protocol": "ip", "field": name}}


def link(name: str) -> Part:
    return {"meta": {"key": name}}


DROP: Part = {"drop": None}
ACCEPT: Part = {"accept": None}
UNKNOWN: Part = {"xt": {"type": "match", "name": "conntrack"}}
COMMENT: Part = {"xt": {"type": "match", "name": "comment"}}


@pytest.mark.parametrize(
    ("condition", "certain"),
    [
        (match(field("daddr"), str(B)), [True]),
        (match(field("daddr"), str(A)), []),
        (match(field("daddr"), {"prefix": {"addr": "10.240.2.0", "len": 24}}), [True]),
        (match(field("saddr"), {"set": ["192.0.2.1", {"prefix": {"addr": "10.240.0.0", "len": 18}}]}), [True]),
        (match(field("saddr"), str(A), "!="), []),
        (match(field("saddr"), "@allowed"), [False]),
        (match(link("iifname"), "flv*"), [True]),
        (match(link("oifname"), "docker0", "!="), [True]),
        (match({"payload": {"protocol": "ip6", "field": "daddr"}}, "fd77::1"), []),
        (match({"payload": {"protocol": "udp", "field": "dport"}}, 53), []),
        (UNKNOWN, [False]),
    ],
)
def test_a_rule_drops_what_its_conditions_cover(condition: Part, certain: list[bool]) -> None:
    assert [drop.certain for drop in drops(listing(rule(condition, DROP)), FORWARD, PACKET)] == certain


def test_an_accept_before_it_saves_from_the_policy() -> None:
    jump = rule({"jump": {"target": "DOCKER-USER"}})
    accept = rule(match(link("iifname"), "flv*"), COMMENT, ACCEPT, chain="DOCKER-USER")
    assert drops(listing(jump, accept, policy="drop"), FORWARD, PACKET) == []
    [policy] = drops(listing(jump, policy="drop"), FORWARD, PACKET)
    assert (str(policy), policy.certain) == ("the policy drop in chain ip filter FORWARD", True)


def test_an_accept_that_may_hold_leaves_a_doubt() -> None:
    [policy] = drops(listing(rule(UNKNOWN, ACCEPT), policy="drop"), FORWARD, PACKET)
    assert not policy.certain


def test_our_own_table_and_other_hooks_are_left_out() -> None:
    ours = {"family": "inet", "table": "flannelpy", "name": "isolation", "hook": "forward", "policy": "drop"}
    assert drops({"nftables": [{"chain": ours}]}, FORWARD, PACKET) == []
    assert drops(listing(rule(DROP)), "input", PACKET) == []
    assert drops(listing(rule(DROP), family="ip6"), FORWARD, PACKET) == []


def test_a_drop_is_told_in_words() -> None:
    [found] = drops(listing(rule(match(field("daddr"), str(B)), DROP)), FORWARD, PACKET)
    assert str(found) == f"the rule `daddr {B} drop` in chain ip filter FORWARD"
