"""What of a host's own network concerns us: the interface to the other hosts, and the prefixes that are in use.

From what driver/kernel has read."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from driver import offload
from driver.backends.interface import Underlay
from driver.errors import NoUnderlay
from store.ip import IPAddress, IPInterface, IPNetwork

DEPRECATED, TEMPORARY = 0x20, 0x01  # IFA_F_*
GLOBAL_SCOPE = 0
WORLD = 3  # the longest prefix that stands for all addresses, or a part of all: 2000::/3


@dataclass(frozen=True, slots=True)
class HostRoute:
    """A unicast route of the main table that is not ours, or one of several ways that a route has."""

    destination: IPNetwork
    index: int | None  # of its interface
    is_direct: bool  # no gateway in between
    metric: int


@dataclass(frozen=True, slots=True)
class LinkSeen:
    index: int
    name: str
    up: bool
    mtu: int
    other_end: int | None  # the index of a veth's other end, in the namespace where that is
    mac: str
    kind: str  # as `ip link add ... type KIND`; empty for one that is no device of software
    ethernet: bool = True
    ported: bool = False  # it is a port of a bridge, or of what is like one


@dataclass(frozen=True, slots=True)
class AddressSeen:
    index: int  # of its interface
    interface: IPInterface
    scope: int
    flags: int  # IFA_F_*


def underlay(
    links: Sequence[LinkSeen],
    addresses: Sequence[AddressSeen],
    routes: Iterable[HostRoute],
    dev: str | None,
    advertised: tuple[IPAddress, ...],
    kept: tuple[IPAddress, ...] = (),
) -> Underlay:
    """`kept` are the addresses in use: they stay so while they are there. One that is advertised may be another
    interface's, as a router's that is reached by several."""
    names, routes = {link.index: link.name for link in links}, list(routes)
    defaults = _default_devs(routes, names)
    found = dev or _dev_with(addresses, names, advertised) or next(iter(defaults), None)
    if found is None:
        raise NoUnderlay("this host has no default route; set FLANNELPY_IFACE to the interface to other hosts")
    link = next((link for link in links if link.name == found), None)
    if link is None:
        raise NoUnderlay(f"there is no interface {found}{', which FLANNELPY_IFACE names' if dev else ''}")
    own = [seen for seen in addresses if seen.index == link.index or seen.interface.ip in advertised]
    best = _best_addresses(own, (*advertised, *kept))
    if not best:
        raise NoUnderlay(f"interface {found} has no address; set FLANNELPY_IFACE to the interface to other hosts")
    broken = offload.known_broken(found)
    on_link = _on_link(routes, link.index)
    return Underlay(found, link.mtu, best, advertised or best, on_link, broken, defaults, link.ethernet)


def _dev_with(addresses: Iterable[AddressSeen], names: dict[int, str], advertised: tuple[IPAddress, ...]) -> str | None:
    """None also where an advertised address is not on this host, as behind NAT."""
    return next((names.get(seen.index) for seen in addresses if seen.interface.ip in advertised), None)


def _default_devs(routes: Iterable[HostRoute], names: dict[int, str]) -> tuple[str, ...]:
    """The links of default routes, IPv4's before IPv6's, the preferred first. One that is younger than `names` is left
    out: the kernel tells of it, and a look that knows it follows."""
    defaults = [route for route in routes if route.destination.prefixlen == 0]
    found = sorted(defaults, key=lambda route: (route.destination.version, route.metric))
    return tuple(dict.fromkeys(names[route.index] for route in found if route.index in names))


def _best_addresses(addresses: Iterable[AddressSeen], favoured: Sequence[IPAddress]) -> tuple[IPAddress, ...]:
    """At most one per family, IPv4 first: the first that is favoured; else one with other hosts in its prefix, since
    one alone may be somebody's that moves from host to host; else the oldest."""
    usable = [seen for seen in addresses if seen.scope == GLOBAL_SCOPE and not _is_fleeting(seen)]
    best: dict[int, IPAddress] = {}
    for seen in sorted(_oldest_first(usable), key=lambda seen: _order(seen.interface, favoured)):
        best.setdefault(seen.interface.version, seen.interface.ip)
    return tuple(best[version] for version in sorted(best))


def _is_fleeting(seen: AddressSeen) -> bool:
    return seen.interface.version == 6 and bool(seen.flags & (DEPRECATED | TEMPORARY))


def _oldest_first(addresses: Sequence[AddressSeen]) -> list[AddressSeen]:
    """The kernel names an interface's IPv4 addresses so, and its IPv6 addresses the other way round."""
    v6 = [seen for seen in addresses if seen.interface.version == 6]
    return [seen for seen in addresses if seen.interface.version == 4] + v6[::-1]


def _order(interface: IPInterface, favoured: Sequence[IPAddress]) -> tuple[int, bool]:
    place = favoured.index(interface.ip) if interface.ip in favoured else len(favoured)
    return place, interface.network.prefixlen == interface.max_prefixlen


def _on_link(routes: Iterable[HostRoute], index: int) -> tuple[IPNetwork, ...]:
    return tuple(r.destination for r in routes if r.index == index and r.is_direct and r.destination.prefixlen)


def prefixes_in_use(addresses: Iterable[AddressSeen], destinations: Iterable[IPNetwork]) -> list[IPNetwork]:
    """`destinations` of routes. A default route in parts, as VPNs make it (0.0.0.0/1 and 128.0.0.0/1), is one."""
    used = [seen.interface.network for seen in addresses]
    return [*used, *(to for to in destinations if to.prefixlen > WORLD)]
