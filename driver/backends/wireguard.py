"""WireGuard: one encrypted device for all networks of a port, one peer per remote host, one allowed prefix and one
route per remote block.

A packet for a remote container meets the route of its block, which ends at the device. There the longest allowed
prefix names the peer, whose key encrypts it and whose endpoint it is sent to. On the way in the same table is asked
again: a packet is dropped unless its source is in a block of the host whose key decrypted it.

The device is shared because peers are hosts, not networks: one port to open, one session to keep, one place to follow
a host that moves. Pools never overlap, so prefixes of several networks do not meet. Each network has a bridge without
ports besides, which holds the host's own address."""

import re
from collections.abc import Callable, Collection, Iterator
from functools import lru_cache
from typing import TypeGuard

from driver.backends.interface import NETWORKS, REMEMBERED, Guard, Remote, Underlay
from driver.entries import AllowedIp, Route, WireguardPeer
from driver.model import Network, mac_of
from driver.state import BridgeLink, LinkState, Object, WireguardDevice, WireguardLink
from store.ip import IPAddress

# Outer IPv6 40, UDP 8, WireGuard 32. Also where the underlay has only IPv4 now: a peer may come back by the other
# family, and no one device can have two MTUs.
OVERHEAD = 80
KEEPALIVE = 25  # seconds; address translators forget a silent UDP flow after 30 at the least
_PUBLIC_KEY = re.compile(r"[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=")  # 32 bytes in base64


class Wireguard:
    # Below the ports that Linux gives to clients, one of which might otherwise be holding it; not 51820 and 51821
    # (wg-quick, flannel, Calico), nor 51871 (Cilium).
    port = 8481
    guard = Guard.NONE  # only who has a peer's key is heard, from wherever he sends
    encrypts = True

    def devices(self, network: Network) -> tuple[str, ...]:
        return network.device, tunnel(network)

    def overhead(self, underlay: Underlay) -> int:
        return OVERHEAD

    def objects(self, network: Network, host: str, underlay: Underlay, others: Collection[Remote]) -> Iterator[Object]:
        dev = tunnel(network)
        yield BridgeLink(network.device, mac_of(host, network.vni))
        yield WireguardLink(dev)
        yield WireguardDevice(dev, network.port)
        yield LinkState(dev, underlay.mtu - OVERHEAD)
        reaching = _reaching(dev, network.port, network.host_addresses, _families(underlay), _keepalive(underlay))
        for other in others:
            yield from reaching(other)

    def most_segments(self, mtu: int) -> int | None:
        return None

    def entrances(self, network: Network, underlay: Underlay) -> tuple[str, ...]:
        return ()

    def refusal(self, underlay: Underlay, other: Remote) -> str | None:
        if not _is_key(other.public_key):
            return f"host {other.host} has published no WireGuard key, so nothing is sent to it; see its log"
        if _reached_at(_families(underlay), other) is None:
            ours = " and ".join(str(address) for address in underlay.addresses)
            theirs = " and ".join(str(address) for address in other.addresses)
            return f"host {other.host} has only {theirs} and this host only {ours}: give both an address of one family"
        return None


def tunnel(network: Network) -> str:
    return f"fl.wg{network.port}"


@lru_cache(NETWORKS)
def _reaching(
    dev: str, port: int, sources: tuple[IPAddress, ...], families: tuple[int, ...], keepalive: int
) -> Callable[[Remote], tuple[WireguardPeer | AllowedIp | Route, ...]]:
    """What leads to another host."""
    source = {address.version: address for address in sources}

    @lru_cache(REMEMBERED)
    def objects(other: Remote) -> tuple[WireguardPeer | AllowedIp | Route, ...]:
        key, address = other.public_key, _reached_at(families, other)
        if address is None or not _is_key(key):
            return ()
        found: list[WireguardPeer | AllowedIp | Route] = [WireguardPeer(dev, key, _endpoint(address, port), keepalive)]
        for block in other.blocks:
            found += (AllowedIp(dev, block, key), Route(dev, block, None, source.get(block.version)))
        return tuple(found)

    return objects


def _families(underlay: Underlay) -> tuple[int, ...]:
    """In an order that is the same on both sides."""
    return tuple(version for version in (4, 6) if underlay.address(version))


def _reached_at(families: tuple[int, ...], other: Remote) -> IPAddress | None:
    """By the first family that both have."""
    found = map(other.address, families)
    return next((address for address in found if address), None)


def _keepalive(underlay: Underlay) -> int:
    """A host that is reached at an address it does not have is behind an address translator: it keeps its way open."""
    return 0 if set(underlay.advertised) <= set(underlay.addresses) else KEEPALIVE


def _endpoint(address: IPAddress, port: int) -> str:
    return f"{address}:{port}" if address.version == 4 else f"[{address}]:{port}"


def _is_key(text: str | None) -> TypeGuard[str]:
    return text is not None and _PUBLIC_KEY.fullmatch(text) is not None
