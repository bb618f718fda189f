"""udp: a TUN device and a process that carries its packets in UDP, for hosts whose kernels have no VXLAN.

A packet for a remote container meets the route of its block, onto the TUN device. The forwarder (driver/forwarder/)
reads it there, up to 64 KiB of a TCP stream at once, finds the peer that has the destination, and sends it in UDP. The
peer's forwarder takes packets from its peers alone, and from each only those whose source is in that peer's blocks."""

from collections.abc import Callable, Collection, Iterator
from functools import lru_cache

from driver.backends.interface import NETWORKS, REMEMBERED, Guard, Remote, Underlay, no_common_family
from driver.entries import Route, UdpPeer
from driver.forwarder.underlay import segments_in_one_call
from driver.forwarder.wire import OVERHEAD as HEADER
from driver.model import Network
from driver.state import Forwarder, Object, TunLink
from store.ip import IPAddress

OVERHEAD = {4: 20 + 8 + HEADER, 6: 40 + 8 + HEADER}  # outer IP, UDP, our own


class Udp:
    port = 8478  # beside our VXLAN; 8285 is flannel's udp, 4789 and 8472 are VXLAN's
    guard = Guard.SOURCE
    encrypts = False

    def devices(self, network: Network) -> tuple[str, ...]:
        return (network.device,)

    def overhead(self, underlay: Underlay) -> int:
        return OVERHEAD[underlay.local.version]

    def objects(self, network: Network, host: str, underlay: Underlay, others: Collection[Remote]) -> Iterator[Object]:
        dev = network.device
        yield TunLink(dev)
        yield Forwarder(dev, network.vni, network.port, underlay.local)
        reaching = _reaching(dev, network.port, network.host_addresses, underlay.local.version)
        for other in others:
            yield from reaching(other)

    def most_segments(self, mtu: int) -> int | None:
        """What a forwarder sends in one call, and its peer most likely receives in one."""
        return segments_in_one_call(HEADER + mtu)

    def entrances(self, network: Network, underlay: Underlay) -> tuple[str, ...]:
        return ()

    def refusal(self, underlay: Underlay, other: Remote) -> str | None:
        return no_common_family(underlay, other)


@lru_cache(NETWORKS)
def _reaching(
    dev: str, port: int, sources: tuple[IPAddress, ...], version: int
) -> Callable[[Remote], tuple[UdpPeer | Route, ...]]:
    """What leads to another host; `version` is that of the tunnel."""
    source = {address.version: address for address in sources}

    @lru_cache(REMEMBERED)
    def objects(other: Remote) -> tuple[UdpPeer | Route, ...]:
        remote = other.address(version)
        if remote is None:
            return ()
        blocks = tuple(sorted(other.blocks, key=lambda block: (block.version, block)))
        senders = tuple(address for address in other.sources if address.version == version)
        peer = UdpPeer(dev, other.host, remote, port, blocks, senders)
        return (peer, *(Route(dev, block, None, source.get(block.version)) for block in blocks))

    return objects
