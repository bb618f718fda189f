"""host-gw: one route per remote block, through the remote host's own address; nothing is added to a packet.

Every host must be on the link of every other. The fastest there is, where the network between the hosts lets packets
with container addresses pass (a switch does; most clouds need their source check turned off)."""

from collections.abc import Callable, Collection, Iterator
from functools import lru_cache

from driver.backends.interface import NETWORKS, REMEMBERED, Guard, Remote, Underlay
from driver.entries import Route
from driver.model import Network, mac_of
from driver.state import BridgeLink, Object
from store.ip import IPAddress, IPNetwork


class HostGw:
    port = 0
    guard = Guard.NONE
    encrypts = False

    def devices(self, network: Network) -> tuple[str, ...]:
        return (network.device,)

    def overhead(self, underlay: Underlay) -> int:
        return 0

    def objects(self, network: Network, host: str, underlay: Underlay, others: Collection[Remote]) -> Iterator[Object]:
        yield BridgeLink(network.device, mac_of(host, network.vni))
        reaching = _reaching(underlay.dev, underlay.on_link, network.host_addresses)
        for other in others:
            yield from reaching(other)

    def most_segments(self, mtu: int) -> int | None:
        return None

    def entrances(self, network: Network, underlay: Underlay) -> tuple[str, ...]:
        return (underlay.dev,) if underlay.ethernet else ()

    def refusal(self, underlay: Underlay, other: Remote) -> str | None:
        for version in {block.version for block in other.blocks}:
            if _next_hop(underlay.on_link, other, version) is None:
                theirs = other.address(version) or f"no IPv{version} address"
                return (
                    f"host {other.host} ({theirs}) is not on the link of {underlay.dev} for IPv{version}, "
                    "so host-gw cannot reach it; use -o backend=vxlan"
                )
        return None


@lru_cache(NETWORKS)
def _reaching(
    dev: str, on_link: tuple[IPNetwork, ...], sources: tuple[IPAddress, ...]
) -> Callable[[Remote], tuple[Route, ...]]:
    """What leads to another host."""
    source = {address.version: address for address in sources}

    @lru_cache(REMEMBERED)
    def routes(other: Remote) -> tuple[Route, ...]:
        hops = {block: _next_hop(on_link, other, block.version) for block in other.blocks}
        return tuple(Route(dev, block, via, source.get(block.version)) for block, via in hops.items() if via)

    return routes


def _next_hop(on_link: tuple[IPNetwork, ...], other: Remote, version: int) -> IPAddress | None:
    address = other.address(version)
    return address if address and any(address in prefix for prefix in on_link) else None
