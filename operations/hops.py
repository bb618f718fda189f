"""What a trace says about each hop between two containers: pure functions over what was found."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from driver.backends import BACKENDS
from driver.backends.interface import Remote
from driver.kernel.look import Way
from driver.probe import Answer
from driver.state import Object
from driver.verdict import Drop
from operations.checks.peers import misled, too_large, unheard, unreached
from operations.end import End, container_hop, veth_hop
from operations.lookup import explain, full_name
from operations.model import OK, UNKNOWN, WRONG, Hop
from operations.reach import Reached
from store.ip import IPAddress, IPNetwork

NOT_ASKED = (
    "the other host was not asked: this host has no right to send pings, or no address of its own in the network"
)


@dataclass(frozen=True, slots=True)
class Holder:
    """Who has an address, by the records."""

    host: str | None  # None: nobody
    block: IPNetwork | None
    given: bool | None  # whether the holder has told that it gave the address out; None: not known now
    silent_for: float | None = None  # seconds without a sign of life


@dataclass(frozen=True, slots=True)
class Found:
    """All that was found on the way; what does not apply is None or empty."""

    host: str
    source: End
    to: IPAddress
    name: str  # of B, its address if it has none
    holder: Holder
    target: End | None  # B on this host
    remote: Remote | None  # the other host
    drops: tuple[Drop, ...]  # by others' rules on this host
    own_drops: Mapping[str, int]  # by our own, while this probed
    way: Way | str | None  # from A's link
    missing: tuple[Object, ...]  # entries of the kernel that should be there
    refusal: str | None  # why the backend cannot reach that host
    reached: Reached | None
    from_host: Answer | None

    @property
    def end_to_end(self) -> Answer | None:
        """None: could not be asked."""
        return self.source.visit.end_to_end


def hops(found: Found) -> tuple[Hop, ...]:
    source, target = found.source, found.target
    told = [network(found), holder(found), container_hop(source, found.to), veth_hop(source)]
    if target is not None:
        told += [policy(found), _of(target, veth_hop(target)), _of(target, container_hop(target, source.address))]
    elif found.remote is not None:
        told += [policy(found), route(found, found.remote), entries(found, found.remote)]
        told += over_there(found)
    return (*told, end_to_end(found), *named(found))


def network(found: Found) -> Hop:
    net = found.source.network
    says = f"{found.source.address} and {found.to} are in network {net.pools[0]} ({net.backend})"
    return Hop("network", OK, says)


def holder(found: Found) -> Hop:
    name, who, works = "holder", found.holder, bool(found.end_to_end)
    block = f"block {who.block}" if who.block else "its block"
    if who.host is None:
        says = f"nobody has {found.to}: no host holds a block with it"
        return Hop(name, WRONG, says, "look for the right address: `flannelpy addresses`")
    if who.given is False and not works and not _silent(found):
        says = f"nobody has {found.to}: {block} is held by host {who.host}, which has not given the address to anybody"
        return Hop(name, WRONG, says, "look for the right address: `flannelpy addresses`")
    if who.given is None:
        return Hop(name, UNKNOWN, f"{block} is held by host {who.host}; the store does not say if {found.to} is given")
    silent = f", silent for {who.silent_for:.0f} s" if who.silent_for else ""
    return Hop(name, OK, f"host {who.host} holds {found.to} ({block}){silent}")


def _silent(found: Found) -> bool:
    """Not even the host there says anything: then that nobody has the address is not what hinders."""
    return found.reached is not None and not found.reached.tunnel


def policy(found: Found) -> Hop:
    name, certain = "policy", [drop for drop in found.drops if drop.certain]
    for drop in certain:
        cure = f"remove it, or accept these packets before it: `nft -a list chain {drop.chain}`"
        return Hop(name, WRONG, f"{drop} on this host drops packets between the two", cure)
    dropped = {reason: count for reason, count in found.own_drops.items() if count}
    works = bool(found.end_to_end)
    if dropped and not works:
        what = ", ".join(f"{count} as {reason}" for reason, count in dropped.items())
        cure = "see docs/troubleshooting.md for what they mean"
        return Hop(name, UNKNOWN, f"flannelpy's own rules dropped packets meanwhile: {what}", cure)
    if found.drops and not works and found.from_host:
        drop = found.drops[0]
        return Hop(name, UNKNOWN, f"{drop} on this host may drop packets between the two", "see whether it does")
    return Hop(name, OK, "no rule on this host drops packets between the two")


def route(found: Found, remote: Remote) -> Hop:
    name, way, devices = "route", found.way, BACKENDS[found.source.network.backend].devices(found.source.network)
    if found.refusal is not None:
        return Hop(name, WRONG, found.refusal, "see there")
    if way is None or isinstance(way, str):
        says = f"this host does not forward to {found.to}: the kernel says {way}"
        return Hop(name, WRONG, says, "see `flannelpy doctor`; `ip route get` and `ip rule` show why")
    if not way.ours:
        says = f"a route that is not of flannelpy takes packets for {found.to}: {way}"
        return Hop(name, WRONG, says, f"remove it: ip route del {way.destination} dev {way.dev}")
    if way.destination not in remote.blocks:
        says = f"packets for {found.to} take {way}, which is no block of host {remote.host}"
        return Hop(name, WRONG, says, "see the log of flannelpy")
    by = "" if way.dev in devices else " (no tunnel)"
    return Hop(name, OK, f"{way} leads to host {remote.host}{by}")


def entries(found: Found, remote: Remote) -> Hop:
    if found.missing:
        says = f"the kernel lacks: {'; '.join(map(str, found.missing))}"
        return Hop("entries", WRONG, says, "flannelpy repairs that within 10 s; if not, see its log")
    says = f"the kernel's entries for host {remote.host} at {', '.join(map(str, remote.addresses))} are right"
    return Hop("entries", OK, says)


def over_there(found: Found) -> Iterator[Hop]:
    reached = found.reached
    if reached is None:
        yield Hop("underlay", UNKNOWN, NOT_ASKED)
        return
    host, address = reached.way.remote.host, reached.way.address
    if reached.astray:
        yield Hop("underlay", WRONG, *misled(reached))
    elif not reached.underlay and not reached.tunnel:
        yield Hop("underlay", WRONG, *unreached(reached))
    elif not reached.underlay:
        yield Hop("underlay", UNKNOWN, f"host {host} does not answer pings at {address}, but its tunnel works")
    else:
        yield Hop("underlay", OK, f"host {host} answers at {address}")
    if not reached.tunnel:
        yield Hop("tunnel", WRONG, *unheard(reached))
        return
    yield Hop("tunnel", OK, f"host {host} answers through the tunnel ({reached.tunnel.by})")
    if reached.tunnel_whole:
        yield Hop("mtu", OK, f"packets of {reached.mtu} bytes pass")
    else:
        yield Hop("mtu", WRONG, *too_large(reached))
    yield _target(found, host)


def _target(found: Found, host: str) -> Hop:
    answer, there = found.from_host, f"`flannelpy trace {found.to} {found.source.address}` on host {host}"
    if answer is not None and answer.reply:
        return Hop("target", OK, f"{found.name} answers this host")
    if answer:
        says = f"host {host} says that {found.to} cannot be reached there: no container has it, or its link is gone"
        return Hop("target", WRONG, says, f"see `flannelpy addresses {found.to}` and `docker ps` on host {host}")
    says = f"host {host} answers, but {found.name} on it does not: its link, address or route, or a rule there"
    return Hop("target", WRONG, says, f"type {there}")


def end_to_end(found: Found) -> Hop:
    name, pair = "end to end", f"{found.source.container} and {found.name}"
    if found.end_to_end is None:
        return Hop(name, UNKNOWN, f"not tried from inside {found.source.container}: {found.source.visit.unseen}")
    if found.end_to_end.reply:
        whole = found.source.visit.whole
        if whole is not None and not whole:
            says = f"small packets pass between {pair}, those of {found.source.largest} bytes do not"
            return Hop(name, WRONG, says, "see the MTU of the interface in the other container")
        return Hop(name, OK, f"{found.name} answers {found.source.container}")
    refused = f": {found.end_to_end.refused}" if found.end_to_end.refused else ""
    cure = "see the first hop that is wrong"
    if found.from_host:
        there = found.holder.host
        says = f"{found.name} answers this host, but not {found.source.container}{refused}"
        cure = f"what comes back is lost: type `flannelpy trace {found.to} {found.source.address}` on host {there}"
        return Hop(name, WRONG, says, cure)
    return Hop(name, WRONG, f"{found.name} does not answer {found.source.container}{refused}", cure)


def named(found: Found) -> Iterator[Hop]:
    lookup = found.source.visit.lookup
    if lookup is not None and not lookup.right:
        yield Hop("name", WRONG, *explain(lookup))
    elif lookup is not None:
        yield Hop("name", OK, f"{found.source.container} is told {found.to} for {full_name(lookup.question)}")


def _of(end: End, hop: Hop) -> Hop:
    return Hop(f"{hop.hop} of {end.container}", hop.state, hop.says, hop.cure)
