"""Text to addresses, strictly: one spelling, one meaning. Each ValueError ends a sentence that begins with the text."""

import re
from ipaddress import (
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_address,
    ip_interface,
    ip_network,
)

from store.ip import IPAddress, IPInterface, IPNetwork, overlap

_WITH_LENGTH = re.compile(r"(?P<address>[^/]+)/(?P<length>0|[1-9][0-9]{0,2})", re.ASCII)

_SPECIAL: dict[IPNetwork, str] = {
    IPv4Network("0.0.0.0/8"): "which mean this host",
    IPv4Network("127.0.0.0/8"): "which are loopback addresses",
    IPv4Network("169.254.0.0/16"): "which are link-local",
    IPv4Network("224.0.0.0/4"): "which are multicast groups",
    IPv4Network("255.255.255.255/32"): "which is broadcast",
    IPv6Network("::/127"): "which are unspecified and loopback",
    IPv6Network("fe80::/10"): "which are link-local",
    IPv6Network("ff00::/8"): "which are multicast groups",
}


def address(text: str) -> IPAddress:
    """An address alone. Zones (`%eth0`) and IPv4 in IPv6 form are refused: other hosts would read them otherwise."""
    if "%" in text:
        raise ValueError("has a zone, which means nothing to another host")
    try:
        found = ip_address(text)
    except ValueError:
        raise ValueError("is not an IP address such as 10.1.0.5 or fd00::5") from None
    if isinstance(found, IPv6Address) and found.ipv4_mapped:
        raise ValueError(f"is an IPv4 address in IPv6 form: write {found.ipv4_mapped}")
    return found


def interface(text: str) -> IPInterface:
    """An address with its prefix length. `ipaddress` alone would also take netmasks, `/08`, and no length at all."""
    split = _WITH_LENGTH.fullmatch(text)
    if not split:
        raise ValueError("is not an address with a prefix length, like 10.1.0.5/24")
    found, length = address(split["address"]), int(split["length"])
    if length > found.max_prefixlen:
        raise ValueError(f"has a prefix length over {found.max_prefixlen}")
    return ip_interface((found, length))


def network(text: str) -> IPNetwork:
    """A prefix without host bits."""
    try:
        found = interface(text)
    except ValueError as error:
        if _WITH_LENGTH.fullmatch(text):
            raise
        raise ValueError("is not a prefix such as 10.1.0.0/16 or fd00::/64") from error
    if found.ip != found.network.network_address:
        raise ValueError(f"has bits set beyond its prefix length: {found.network} may be meant")
    return found.network


def refuse_special(where: IPAddress | IPInterface | IPNetwork) -> None:
    """Containers cannot use addresses with a meaning of their own, nor prefixes that reach into them."""
    prefix = ip_network(where.ip if isinstance(where, IPv4Interface | IPv6Interface) else where)
    for special, meaning in _SPECIAL.items():
        if overlap(prefix, special):
            raise ValueError(f"reaches into {special}, {meaning}")
