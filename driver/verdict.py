"""What the rules of others do with a packet of ours: nftables' own listing, walked through as the kernel does. Pure.

iptables' rules stand in that listing too, where iptables writes to nftables. A condition that is not understood here
may hold or not: what follows from it is told as possible, not as certain. Shapes: libnftables-json(5)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from fnmatch import fnmatchcase
from ipaddress import ip_address, ip_network
from typing import Any

from driver.filter import TABLE
from store.ip import IPAddress

FORWARD, INPUT, PREROUTING = "forward", "input", "prerouting"
DEEPEST = 16  # jumps within jumps, as the kernel has it
DOUBTFUL = ("limit", "quota", "ct count", "vmap")  # statements that may end a rule
NETWORKS = {4: ("ip", "inet"), 6: ("ip6", "inet")}


@dataclass(frozen=True, slots=True)
class Packet:
    source: IPAddress
    to: IPAddress
    arriving: str  # the link it comes in on
    leaving: str = ""  # and goes out by, where it is forwarded
    udp_port: int | None = None  # its destination's; None: not UDP, or not known


@dataclass(frozen=True, slots=True)
class Drop:
    chain: str  # family, table and name, as nft has them
    rule: str  # in words
    certain: bool

    def __str__(self) -> str:
        return f"{self.rule} in chain {self.chain}"


class Holds(Enum):
    YES = "yes"
    NO = "no"
    MAYBE = "maybe"


class End(Enum):
    """Where the walk through a chain ends."""

    DECIDED = "decided"
    FELL_THROUGH = "fell through"


def drops(listing: Mapping[str, Any], hook: str, packet: Packet) -> list[Drop]:
    """What may drop the packet at a hook, in chains that are not ours; `listing` from `nft -j list ruleset`."""
    parts = [next(iter(part.items())) for part in listing.get("nftables", ())]
    rules: dict[str, list[Any]] = {}
    for kind, body in parts:
        if kind == "rule":
            rules.setdefault(f"{body['family']} {body['table']} {body['chain']}", []).append(body.get("expr", ()))
    found: list[Drop] = []
    for kind, body in parts:
        ours = f"{body.get('family')} {body.get('table')}" == TABLE
        if kind == "chain" and body.get("hook") == hook and not ours and body["family"] in NETWORKS[packet.to.version]:
            walk = _Walk(rules, packet, body["family"])
            name = f"{body['family']} {body['table']} {body['name']}"
            end = walk.through(name, certain=True)
            found += walk.found
            if end is End.FELL_THROUGH and body.get("policy") == "drop" and not any(d.certain for d in walk.found):
                found.append(Drop(name, "the policy drop", certain=not walk.doubtful))
    return found


class _Walk:
    def __init__(self, rules: Mapping[str, Sequence[Any]], packet: Packet, family: str) -> None:
        self._rules, self._packet, self._family = rules, packet, family
        self.found: list[Drop] = []
        self.doubtful = False  # an accept on the way may have held

    def through(self, chain: str, *, certain: bool, depth: int = 0) -> End:
        for rule in self._rules.get(chain, ()):
            holds = all_of(self._matches(rule))
            if holds is Holds.NO:
                continue
            sure = certain and holds is Holds.YES
            verdict, target = _verdict(rule)
            if verdict in ("drop", "reject"):
                self.found.append(Drop(chain, _words(rule, verdict), sure and not self.doubtful))
            elif verdict in ("jump", "goto") and depth < DEEPEST:
                where = f"{chain.rpartition(' ')[0]} {target}"
                end = self.through(where, certain=sure, depth=depth + 1)
                if end is End.DECIDED and sure:
                    return end
                if verdict == "goto" and sure:
                    return End.FELL_THROUGH
            elif verdict == "accept" and not sure:
                self.doubtful = True
            if sure and verdict in ("drop", "reject", "accept"):
                return End.DECIDED
            if sure and verdict == "return":
                return End.FELL_THROUGH
        return End.FELL_THROUGH

    def _matches(self, rule: Sequence[Any]) -> Iterator[Holds]:
        for statement in rule:
            kind, body = next(iter(statement.items()))
            if kind == "match":
                yield self._match(body)
            elif kind in DOUBTFUL or (kind == "xt" and body.get("type") == "match" and body.get("name") != "comment"):
                yield Holds.MAYBE

    def _match(self, match: Any) -> Holds:
        left, right, op = match.get("left"), match.get("right"), match.get("op")
        value = self._value(left)
        if value is None or op not in ("==", "!=", "in"):
            return Holds.MAYBE
        held = _covers(right, value)
        if held is Holds.MAYBE or op != "!=":
            return held
        return Holds.NO if held is Holds.YES else Holds.YES

    def _value(self, left: Any) -> Any:
        """What the packet has there; None if that is not known."""
        if not isinstance(left, dict):
            return None
        packet = self._packet
        if "meta" in left:
            key = left["meta"].get("key")
            names = {"iifname": packet.arriving, "oifname": packet.leaving, "iif": packet.arriving}
            return (names | {"oif": packet.leaving}).get(key)
        field = left.get("payload", {})
        version = {"ip": 4, "ip6": 6}.get(field.get("protocol", ""))
        if version is not None:
            if version != packet.to.version:
                return ""  # of the other family: nothing equals it
            return {"saddr": packet.source, "daddr": packet.to}.get(field.get("field"))
        if field == {"protocol": "udp", "field": "dport"}:
            return packet.udp_port if packet.udp_port is not None else ""
        if field.get("protocol") in ("tcp", "icmp", "icmpv6", "sctp"):
            return "" if packet.udp_port is not None else None
        return None


def all_of(parts: Iterator[Holds]) -> Holds:
    seen = set(parts)
    return Holds.NO if Holds.NO in seen else Holds.MAYBE if Holds.MAYBE in seen else Holds.YES


def _covers(right: Any, value: Any) -> Holds:
    """Whether a value is, or is among, what stands on the right of a condition."""
    if isinstance(right, dict):
        if "set" in right:
            each = {_covers(element, value) for element in right["set"]}
            return Holds.YES if Holds.YES in each else Holds.MAYBE if Holds.MAYBE in each else Holds.NO
        if "prefix" in right:
            prefix = ip_network(f"{right['prefix']['addr']}/{right['prefix']['len']}", strict=False)
            return _yes(not isinstance(value, str | int) and value in prefix)
        if "range" in right and isinstance(value, int):
            return _yes(right["range"][0] <= value <= right["range"][1])
        return Holds.MAYBE
    if isinstance(right, str) and isinstance(value, str):
        if right.startswith("@"):
            return Holds.MAYBE
        return _yes(fnmatchcase(value, right.replace("[", "[[]")))
    if isinstance(right, str) and right.startswith("@"):
        return Holds.MAYBE
    if isinstance(right, str) and not isinstance(value, int):
        try:
            return _yes(ip_address(right) == value)
        except ValueError:
            return Holds.MAYBE
    return _yes(right == value)


def _yes(holds: bool) -> Holds:
    return Holds.YES if holds else Holds.NO


def _verdict(rule: Sequence[Any]) -> tuple[str, str]:
    for statement in rule:
        kind, body = next(iter(statement.items()))
        if kind in ("drop", "accept", "return", "reject"):
            return kind, ""
        if kind in ("jump", "goto"):
            return kind, body["target"]
        if kind == "xt" and body.get("type") == "target" and body.get("name") == "REJECT":
            return "reject", ""
    return "", ""


def _words(rule: Sequence[Any], verdict: str) -> str:
    said = []
    for statement in rule:
        match = statement.get("match", {})
        left = match.get("left")
        if isinstance(left, dict):
            what = left.get("payload", {}).get("field") or left.get("meta", {}).get("key") or "..."
            op = "" if match.get("op") in ("==", "in") else f"{match.get('op')} "
            said.append(f"{what} {op}{_shown(match.get('right'))}")
    return f"the rule `{' '.join([*said, verdict])}`"


def _shown(right: Any) -> str:
    if isinstance(right, dict) and "prefix" in right:
        return f"{right['prefix']['addr']}/{right['prefix']['len']}"
    return str(right) if isinstance(right, str | int) else "{...}"
