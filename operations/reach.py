"""Whether other hosts answer: in the underlay, through the tunnel, and with packets of full size."""

import random
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_network

from driver.backends.interface import Remote, Underlay
from driver.goal import mtu_of
from driver.kernel.look import Look
from driver.kernel.look import Way as Route
from driver.model import Network
from driver.probe import Answer, Echo, ping
from store.ip import IPAddress, IPNetwork

PATIENCE = 0.9  # seconds for an answer; packets of full size are asked for after the others
MOST_ASKED = 32  # hosts; of more, so many by chance
GIVEN = 4  # addresses of a host that are asked through its tunnel


@dataclass(frozen=True, slots=True)
class Way:
    """One network's way to one other host."""

    network: Network
    remote: Remote
    address: IPAddress  # of the host in the underlay


@dataclass(frozen=True, slots=True)
class Reached:
    way: Way
    mtu: int  # the largest packet of the network
    underlay: Answer
    underlay_mtu: int
    underlay_whole: Answer  # to a packet as large as the underlay's interface allows
    tunnel: Answer
    tunnel_whole: Answer | None  # None: not asked, the tunnel answers nothing
    link: str = ""  # of this host, to which the others send
    route: Route | None = None  # of this host to the other's address; not asked for where anything comes through

    @property
    def astray(self) -> bool:
        """One of the two hosts publishes an address of the wrong interface, and nothing comes through."""
        return self.route is not None and (self.route.ends_here or self.route.dev != self.link)


def ways(underlay: Underlay, networks: Sequence[tuple[Network, tuple[Remote, ...] | None]]) -> tuple[list[Way], int]:
    """Those to ask, and how many hosts are left out. Without an address of its own in a network, as where the pool is
    full, this host cannot ask anybody there: others drop what does not come from within."""
    networks = [(network, remotes) for network, remotes in networks if network.host_addresses]
    hosts = sorted({remote.host for _, remotes in networks for remote in remotes or ()})
    asked = set(random.sample(hosts, MOST_ASKED) if len(hosts) > MOST_ASKED else hosts)
    found = []
    for network, remotes in networks:
        for remote in remotes or ():
            address = _address(underlay, remote)
            if remote.host in asked and address is not None:
                found.append(Way(network, remote, address))
    return found, len(hosts) - len(asked)


def reach(underlay: Underlay, asked: Sequence[Way], given: Mapping[str, Collection[IPAddress]]) -> list[Reached]:
    """`given`: the addresses that hosts have given out, as far as they told. OSError without the right to probe."""
    first: dict[tuple[str, int], Sequence[Echo]] = {}
    for number, way in enumerate(asked):
        source = underlay.address(way.address.version)
        first["underlay", number] = [Echo(way.address, source)]
        first["whole", number] = [Echo(way.address, source, size=underlay.mtu)]
        first["tunnel", number] = list(_tunnel(way, given.get(way.remote.host, ())))
    heard = ping(first, PATIENCE)
    second = {
        number: [Echo(to.by, size=mtu_of(way.network, underlay), within=_over_there(way))]
        for number, way in enumerate(asked)
        if (to := heard["tunnel", number]).by is not None
    }
    whole = ping(second, PATIENCE)
    come_through = {way.address for number, way in enumerate(asked) if heard["tunnel", number]}
    routes = _routes({way.address for way in asked} - come_through)
    return [
        Reached(
            way,
            mtu_of(way.network, underlay),
            heard["underlay", number],
            underlay.mtu,
            heard["whole", number],
            heard["tunnel", number],
            whole.get(number),
            underlay.dev,
            routes.get(way.address),
        )
        for number, way in enumerate(asked)
    ]


def _routes(addresses: Collection[IPAddress]) -> dict[IPAddress, Route]:
    with Look() as look:
        found = {address: look.way(address) for address in addresses}
    return {address: way for address, way in found.items() if not isinstance(way, str)}


def _address(underlay: Underlay, remote: Remote) -> IPAddress | None:
    """By the family of the tunnel, else by one that both have."""
    versions = [address.version for address in underlay.addresses]
    return next((address for version in versions if (address := remote.address(version))), None)


def _tunnel(way: Way, given: Collection[IPAddress]) -> Iterator[Echo]:
    """Whoever answers, the tunnel has carried it: a container, the host itself at its own address, or the host saying
    that an address is nobody's, as the first one of a block may be."""
    blocks = way.remote.blocks
    mine = sorted(
        (address for address in given if any(address in block for block in blocks)), key=lambda a: (a.version, a)
    )
    for address in dict.fromkeys([*mine[:GIVEN], *(block.network_address for block in blocks[:2])]):
        yield Echo(address, within=_over_there(way))


def _over_there(way: Way) -> tuple[IPNetwork, ...]:
    """The other host: it refuses for a container that is gone, or whose own MTU is smaller than the network's."""
    return (*way.remote.blocks, *(ip_network(address) for address in way.remote.addresses))
