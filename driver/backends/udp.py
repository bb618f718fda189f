"""udp: a TUN device and a process that carries its packets in UDP, for hosts whose kernels have no VXLAN.

A packet for a remote container meets the route of its block, onto the TUN device. The forwarder (driver/forwarder/)
reads it there, up to 64 KiB of a TCP stream at once, finds the peer that has the destination, and sends it in UDP. The
peer's forwarder takes packets from its peers alone, and from each only those whose source is in that peer's blocks."""

from collections.abc import Collection, Iterator

from driver.backends.interface import Guard, Remote, Underlay, no_common_family
from driver.entries import Route
from driver.forwarder.underlay import segments_in_one_call
from driver.forwarder.wire import OVERHEAD as HEADER
from driver.model import Network
from driver.state import Forwarder, Object, TunLink, UdpPeer

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
        dev, source = network.device, {address.version: address for address in network.host_addresses}
        yield TunLink(dev)
        yield Forwarder(dev, network.vni, network.port, underlay.local)
        for other in others:
            remote = other.address(underlay.local.version)
            if remote is None:
                continue
            blocks = tuple(sorted(other.blocks, key=lambda block: (block.version, block)))
            sources = tuple(address for address in other.sources if address.version == remote.version)
            yield UdpPeer(dev, other.host, remote, network.port, blocks, sources)
            for block in blocks:
                yield Route(dev, block, None, source.get(block.version))

    def most_segments(self, mtu: int) -> int | None:
        """What a forwarder sends in one call, and its peer most likely receives in one."""
        return segments_in_one_call(HEADER + mtu)

    def entrances(self, network: Network, underlay: Underlay) -> tuple[str, ...]:
        return ()

    def refusal(self, underlay: Underlay, other: Remote) -> str | None:
        return no_common_family(underlay, other)
