"""One address type for both families: every layer speaks of these and never asks which version it holds."""

from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_network,
)

IPAddress = IPv4Address | IPv6Address
IPInterface = IPv4Interface | IPv6Interface
IPNetwork = IPv4Network | IPv6Network


def host_prefix(address: IPAddress) -> int:
    """The prefix length that covers one address alone: 32 or 128."""
    return address.max_prefixlen


def overlap(a: IPNetwork, b: IPNetwork) -> bool:
    """Whether two prefixes share an address; prefixes of different families never do."""
    return a.version == b.version and a.overlaps(b)


def contains(outer: IPNetwork, inner: IPNetwork) -> bool:
    return outer.version == inner.version and inner.subnet_of(outer)  # type: ignore[arg-type]


def parse_network(text: str) -> IPNetwork:
    """A prefix without host bits; ValueError otherwise, with a sentence."""
    return ip_network(text, strict=True)
