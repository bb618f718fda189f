"""VXLAN: one route and neighbour per remote block, one FDB entry per remote host; the kernel never asks us anything.

A packet for a remote container meets the route of its block, whose next hop is the block's own first address, `onlink`
on the VXLAN device. The permanent neighbour entry turns that next hop into the remote host's VTEP MAC, the FDB entry
turns the MAC into the remote host's underlay address. The next hop is only a name for the VTEP: no packet carries it,
so a container may have that address. A block of one address, as a borrowed one is, may be the first of a larger block
that another host holds; so its next hop is an address that no pool has. Learning is off and nothing is ever flooded.

With direct routing, the blocks of a host on the same link have plain routes through its address. Both hosts must find
the other on their link, each by what the other publishes: were one to answer through the tunnel what came without it,
strict reverse-path filters on the way would drop it."""

from collections.abc import Callable, Collection, Iterator
from functools import lru_cache
from ipaddress import ip_network

from driver.backends.interface import NETWORKS, REMEMBERED, Guard, Remote, Underlay, no_common_family
from driver.entries import Fdb, Neighbour, Route
from driver.model import Network, mac_of
from driver.state import NoChecksumOffload, Object, VxlanLink
from store.ip import IPAddress, IPNetwork

OVERHEAD = {4: 50, 6: 70}  # outer IP 20/40, UDP 8, VXLAN 8, inner Ethernet 14
# Where the next hops to single addresses are: as far from each other as these, but for the first bits.
APART = {4: ip_network("240.0.0.0/4"), 6: ip_network("fe80::/10")}


class Vxlan:
    # Not 4789, where Docker's overlay listens, nor 8472, where flannel and Cilium do: two VXLAN devices with
    # the same VNI and port cannot live on one host.
    port = 8479
    guard = Guard.VNI
    encrypts = False

    def devices(self, network: Network) -> tuple[str, ...]:
        return (network.device,)

    def overhead(self, underlay: Underlay) -> int:
        return OVERHEAD[underlay.local.version]

    def objects(self, network: Network, host: str, underlay: Underlay, others: Collection[Remote]) -> Iterator[Object]:
        dev, local = network.device, underlay.local
        yield VxlanLink(dev, network.vni, local, network.port, vtep_mac(host, network.vni))
        if network.checksum_offload == "off" or (network.checksum_offload == "auto" and underlay.broken_offload):
            yield NoChecksumOffload(dev)
        direct = underlay if network.direct_routing else None
        reaching = _reaching(dev, network.vni, network.host_addresses, local.version, direct)
        for other in others:
            yield from reaching(other)

    def most_segments(self, mtu: int) -> int | None:
        return None

    def entrances(self, network: Network, underlay: Underlay) -> tuple[str, ...]:
        if not network.direct_routing:
            return (network.device,)
        return (network.device, underlay.dev) if underlay.ethernet else ()

    def refusal(self, underlay: Underlay, other: Remote) -> str | None:
        return no_common_family(underlay, other)


@lru_cache(NETWORKS)
def _reaching(
    dev: str, vni: int, sources: tuple[IPAddress, ...], version: int, direct: Underlay | None
) -> Callable[[Remote], tuple[Fdb | Neighbour | Route, ...]]:
    """What leads to another host; `version` is that of the tunnel, `direct` the underlay where it can be sent to
    without one."""
    source = {address.version: address for address in sources}

    @lru_cache(REMEMBERED)
    def objects(other: Remote) -> tuple[Fdb | Neighbour | Route, ...]:
        found: list[Fdb | Neighbour | Route] = []
        tunnelled = other.blocks
        if direct is not None:
            hops = _direct(direct, other)
            tunnelled = tuple(block for block in other.blocks if block.version not in hops)
            for block in other.blocks:
                if block.version in hops:
                    found.append(Route(direct.dev, block, hops[block.version], source.get(block.version)))
        remote = other.address(version)
        if remote is None or not tunnelled:
            return tuple(found)
        mac = vtep_mac(other.host, vni)
        found.append(Fdb(dev, mac, remote))
        for block in tunnelled:
            hop = _next_hop(block)
            found.append(Neighbour(dev, hop, mac))
            found.append(Route(dev, block, hop, source.get(block.version), onlink=True))
        return tuple(found)

    return objects


def _next_hop(block: IPNetwork) -> IPAddress:
    first = block.network_address
    if block.prefixlen < block.max_prefixlen:
        return first
    apart = APART[block.version]
    return apart[int(first) % apart.num_addresses]


def _direct(underlay: Underlay, other: Remote) -> dict[int, IPAddress]:
    """The other host's address, by family, where each of the two has the other on its link."""
    ours = [address for address in underlay.advertised if any(address in prefix for prefix in other.link)]
    return {
        theirs.version: theirs
        for theirs in other.addresses
        if any(theirs in prefix for prefix in underlay.link) and any(a.version == theirs.version for a in ours)
    }


def vtep_mac(host: str, vni: int) -> str:
    return mac_of(host, vni)
