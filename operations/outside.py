"""From a container to an address that is in no network of flannelpy's, as far as this host sees: by its default route
to this host (docker_gwbridge, or our own gateway with -o gateway=direct), and from here like any packet."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from driver import nft, sysctl
from driver.errors import KernelError
from driver.host_network import LinkSeen
from driver.kernel.look import Look, Way
from driver.model import Endpoint, Network
from driver.probe import Answer, Echo, ping_one
from driver.verdict import FORWARD, Drop, Packet, drops
from operations.model import OK, UNKNOWN, WRONG, Hop
from operations.visit import Visit
from store.ip import IPAddress


@dataclass(frozen=True, slots=True)
class Outward:
    """What was found on the way out."""

    container: str
    network: Network
    to: IPAddress
    visit: Visit
    gate: LinkSeen | None  # the link of this host to which the container sends; None: none that is known
    forwards: bool
    way: Way | str  # of this host, for what comes in there
    drops: tuple[Drop, ...]  # by others' rules
    from_host: Answer


def look_out(container: str, network: Network, endpoint: Endpoint, to: IPAddress, visit: Visit) -> Outward:
    inner = visit.inside.way if visit.inside else None
    with Look() as look:
        gate = _gate(look, endpoint, visit)
        source = (inner.source or _own_source(gate, endpoint, to)) if inner else None
        way = look.way(to, source, gate.index) if gate and source else look.way(to)
    onward = way.dev if isinstance(way, Way) and not way.ends_here else None
    packet = Packet(source, to, gate.name, onward) if gate and source and onward else None
    found = tuple(drops(_rules(), FORWARD, packet)) if packet else ()
    forwards = gate is None or to.version == 6 or sysctl.read(f"ipv4/conf/{gate.name}/forwarding") != "0"
    return Outward(container, network, to, visit, gate, forwards, way, found, ping_one(Echo(to)))


def _gate(look: Look, endpoint: Endpoint, visit: Visit) -> LinkSeen | None:
    """Several links have our gateway's address; a container's own is told by its other end."""
    seen = visit.inside
    if seen is None or seen.way is None:
        return None
    links = {link.index: link for link in look.links()}
    if seen.way.dev == seen.link.name:
        return next((link for link in links.values() if link.name == endpoint.host_link), None)
    return next((links.get(index) for index, each in look.addresses() if each.ip == seen.way.via), None)


def _own_source(gate: LinkSeen | None, endpoint: Endpoint, to: IPAddress) -> IPAddress | None:
    """Of what comes in by the endpoint's own link."""
    if gate is None or gate.name != endpoint.host_link:
        return None
    return next((address for address in endpoint.addresses if address.version == to.version), None)


def _rules() -> dict[str, object]:
    try:
        return dict(nft.read_ruleset())
    except KernelError:
        return {}


def hops(found: Outward) -> Sequence[Hop]:
    """Pure, as all below."""
    return [_network(found), *_container(found), _route(found), _policy(found), _end_to_end(found)]


def _network(found: Outward) -> Hop:
    return Hop("network", OK, f"{found.to} is in no network of flannelpy's: {found.container} reaches it like any host")


def _container(found: Outward) -> Iterator[Hop]:
    seen, name = found.visit.inside, "container"
    if seen is None:
        yield Hop(name, UNKNOWN, f"{found.container} was not looked at from inside: {found.visit.unseen}")
        return
    if seen.way is None:
        says = f"{found.container} has no route to {found.to}: the kernel says {seen.no_way}"
        yield Hop(name, WRONG, says, _cure(found))
        return
    yield Hop(name, OK, f"{found.container} sends by {seen.way}")
    yield _gateway(found, seen.way)


def _cure(found: Outward) -> str:
    if found.network.internal:
        return "its network is --internal; connect it to another one, too: `docker network connect`"
    return f"its default route was removed: docker restart {found.container}"


def _gateway(found: Outward, way: Way) -> Hop:
    name, gate = "gateway", found.gate
    if gate is None:
        return Hop(name, UNKNOWN, f"{found.container} does not send it to this host, but by {way}: follow it there")
    if not gate.up:
        return Hop(name, WRONG, f"{gate.name} of this host is down", f"ip link set {gate.name} up")
    if not found.forwards:
        says = f"net.ipv4.conf.{gate.name}.forwarding is 0: what comes in there is not forwarded"
        return Hop(name, WRONG, says, f"sysctl -w net.ipv4.conf.{gate.name}.forwarding=1, and see who turned it off")
    return Hop(name, OK, f"it comes to {gate.name} of this host, which is up and forwards")


def _route(found: Outward) -> Hop:
    if isinstance(found.way, str):
        says = f"this host has no route to {found.to}: the kernel says {found.way}"
        return Hop("route", WRONG, says, "see `ip route` and `ip rule`; is the host's default route there?")
    return Hop("route", OK, f"this host sends it by {found.way}")


def _policy(found: Outward) -> Hop:
    for drop in found.drops:
        if drop.certain:
            cure = f"remove it, or accept these packets before it: `nft -a list chain {drop.chain}`"
            return Hop("policy", WRONG, f"{drop} on this host drops packets to {found.to}", cure)
    return Hop("policy", OK, f"no rule that is understood here drops packets to {found.to}")


def _end_to_end(found: Outward) -> Hop:
    name, answer = "end to end", found.visit.end_to_end
    if answer is None:
        return Hop(name, UNKNOWN, f"not tried from inside {found.container}: {found.visit.unseen}")
    if answer.reply:
        return Hop(name, OK, f"{found.to} answers {found.container}")
    if found.from_host.reply:
        cure = (
            "what comes back is lost: see that its packets leave with this host's address, by Docker's masquerading "
            "(`iptables -t nat -S POSTROUTING`), or ours with -o gateway=direct (`nft list table inet flannelpy`)"
        )
        return Hop(name, WRONG, f"{found.to} answers this host, but not {found.container}", cure)
    return Hop(name, UNKNOWN, f"{found.to} answers neither {found.container} nor this host: it may not answer pings")
