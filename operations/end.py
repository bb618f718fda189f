"""One end of a trace: a container of this host, seen from the host, and from inside as far as somebody looked."""

from dataclasses import dataclass

from driver import sysctl
from driver.goal import gateway_of
from driver.host_network import LinkSeen
from driver.kernel.look import Look, Way
from driver.model import Endpoint, Network
from operations.model import OK, UNKNOWN, WRONG, Hop
from operations.visit import Inside, Visit
from store.ip import IPAddress


@dataclass(frozen=True, slots=True)
class End:
    """What was found."""

    container: str  # its name, or its address where Docker does not say
    address: IPAddress
    network: Network
    endpoint: Endpoint
    mtu: int
    link: LinkSeen | None  # the host's end of its veth
    has_gateway: bool
    forwards: bool
    way: Way | str  # from this host to it
    pinned: str | None  # the MAC that somebody has written down for it
    visit: Visit

    @property
    def inside(self) -> Inside | None:
        return self.visit.inside

    @property
    def largest(self) -> int:
        """The largest packet that it sends: its MTU may be smaller than the network's on purpose."""
        return min(self.mtu, self.inside.link.mtu) if self.inside else self.mtu


def host_link(endpoint: Endpoint) -> LinkSeen | None:
    """The host's end of a container's veth."""
    with Look() as look:
        return _host_link(look, endpoint)


def _host_link(look: Look, endpoint: Endpoint) -> LinkSeen | None:
    return next((each for each in look.links() if each.name == endpoint.host_link), None)


def look_at(container: str, address: IPAddress, network: Network, endpoint: Endpoint, mtu: int, visit: Visit) -> End:
    with Look() as look:
        link = _host_link(look, endpoint)
        on_link = [each.ip for index, each in look.addresses() if link and index == link.index]
        return End(
            container,
            address,
            network,
            endpoint,
            mtu,
            link,
            gateway_of(network, address) in on_link,
            sysctl.read(f"ipv4/conf/{endpoint.host_link}/forwarding") != "0" or address.version == 6,
            look.way(address),
            look.permanent_neighbours(link.index).get(address) if link else None,
            visit,
        )


def container_hop(end: End, other: IPAddress) -> Hop:
    """Pure, as all below."""
    seen, name, again = end.inside, "container", f"docker restart {end.container}"
    if seen is None:
        return Hop(name, UNKNOWN, f"{end.container} was not looked at from inside: {end.visit.unseen}")
    dev = seen.link.name
    if not seen.link.up:
        return Hop(name, WRONG, f"{dev} of {end.container} is down", f"set it up inside the container, or {again}")
    if not seen.has(end.address):
        has = ", ".join(map(str, seen.addresses)) or "none"
        says = f"{dev} of {end.container} does not have the address {end.address} (it has {has})"
        return Hop(name, WRONG, says, f"somebody inside removed it: {again}")
    if seen.way is None:
        says = f"{end.container} has no route to {other}: the kernel says {seen.no_way}"
        return Hop(name, WRONG, says, f"its route to {_pool(end)} was removed: {again}")
    if seen.way.dev != dev:
        says = f"{end.container} sends packets for {other} the wrong way: {seen.way}, not by {dev}"
        return Hop(name, WRONG, says, f"its route to {_pool(end)} was removed or overruled: {again}")
    if end.link is not None and seen.link.mtu > end.link.mtu:  # what is larger is lost there without a word
        says = f"{dev} of {end.container} has an MTU of {seen.link.mtu}, its other end {end.link.mtu}"
        return Hop(name, WRONG, says, f"set it back inside the container, or {again}")
    return Hop(name, OK, f"{end.container} has {end.address} on {dev}, which is up, and sends by {seen.way}")


def veth_hop(end: End) -> Hop:
    """The host's end."""
    name, dev = "host link", end.endpoint.host_link
    again = f"docker network disconnect and connect {end.container}"
    if end.link is None:
        return Hop(name, WRONG, f"the link {dev} of {end.container} is gone", again)
    if not end.link.up:
        return Hop(name, WRONG, f"{dev} is down", "flannelpy sets it up within seconds; see its log")
    if not end.has_gateway:
        gateway = gateway_of(end.network, end.address)
        return Hop(name, WRONG, f"{dev} lacks the gateway's address {gateway}", "see the log of flannelpy")
    if not end.forwards:
        says = f"net.ipv4.conf.{dev}.forwarding is 0: what {end.container} sends is not forwarded"
        return Hop(name, WRONG, says, f"sysctl -w net.ipv4.conf.{dev}.forwarding=1, and see who turned it off")
    if isinstance(end.way, str) or end.way.dev != dev:
        says = f"this host sends packets for {end.address} not by {dev}, but: {end.way}"
        return Hop(name, WRONG, says, "remove that route (`ip route`, `ip rule`): it is not of flannelpy")
    if end.pinned is not None and end.inside is not None and end.pinned != end.inside.link.mac:
        says = f"{dev} has a fixed neighbour entry for {end.address} with {end.pinned}, not {end.inside.link.mac}"
        return Hop(name, WRONG, says, f"ip neigh del {end.address} dev {dev}")
    return Hop(name, OK, f"{dev} is up with MTU {end.link.mtu} and the gateway's address")


def _pool(end: End) -> str:
    return next(str(pool) for pool in end.network.pools if end.address in pool)
