"""What this host's kernel must hold, computed from its records and the view of the others: pure functions."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from ipaddress import ip_interface, ip_network

from driver.backends import BACKENDS
from driver.backends.interface import Remote, Underlay
from driver.entries import AllowedIp, Key, Local, Route, Unreachable
from driver.fast_path.wanted import of_links
from driver.model import ENDPOINT_LINK, NETWORK_LINK, Endpoint, Network
from driver.state import Address, EndpointLink, FastPath, LinkState, LinkSwitches, Object, State, state_of
from store.ip import IPAddress, IPInterface, IPNetwork, contains

LEAST_MTU = {4: 68, 6: 1280}  # with which Linux lets a link have an address, by IP version


@dataclass(frozen=True, slots=True)
class LocalNetwork:
    """A network, its endpoints on this host, and the other hosts (None: not known now)."""

    network: Network
    endpoints: tuple[Endpoint, ...]
    remotes: tuple[Remote, ...] | None


def goal(
    host: str,
    underlay: Underlay | None,
    networks: Collection[LocalNetwork],
    actual: State,
    resolvers: Iterable[IPAddress] = (),
    *,
    fast: bool = False,
) -> State:
    """The desired state; `resolvers` are where containers ask for names, `fast` whether the kernel has a fast path.
    Where the underlay or the other hosts are not known, what is there stays as it is."""
    desired: dict[Key, Object] = {}
    # Also while no network is there: containers that Docker sends here must hear a no, and not wait for one.
    desired |= state_of(Local(ip_network(alone(resolver))) for resolver in resolvers)
    for local in networks:  # first: what is known of another network on the same device counts for more
        if underlay is None or local.remotes is None:
            desired |= state_of(_kept(local.network, actual))
    for local in networks:
        network = local.network
        if underlay is not None:
            # The device is there in any case: a network just made, or a host just started, may know no others yet.
            desired |= state_of(BACKENDS[network.backend].objects(network, host, underlay, local.remotes or ()))
            desired |= state_of(network_objects(network, underlay))
            for end in map(Unreachable, network.pools):
                desired.setdefault(end.key, end)  # a pool of one block leads to the host that holds it
        for endpoint in local.endpoints:
            link = EndpointLink(endpoint.host_link)
            if link.key in actual:
                desired |= state_of([link, *endpoint_objects(network, endpoint, _mtu_of_pair(endpoint, actual))])
    if fast:
        desired |= state_of(o for o in _fast_paths(underlay, networks, actual) if _has_link(o.dev, desired))
    return desired


def _fast_paths(underlay: Underlay | None, networks: Collection[LocalNetwork], actual: State) -> Iterable[FastPath]:
    if underlay is None:
        return (o for o in actual.values() if isinstance(o, FastPath))
    return of_links(underlay, ((local.network, local.endpoints) for local in networks))


def _has_link(dev: str, desired: State) -> bool:
    """Those of containers that are on their way are not there, and those of others are not kept here."""
    return not dev.startswith((NETWORK_LINK, ENDPOINT_LINK)) or ("link", dev) in desired


def network_objects(network: Network, underlay: Underlay) -> Iterator[Object]:
    yield LinkState(network.device, mtu_of(network, underlay))
    for address in network.host_addresses:
        yield Address(network.device, alone(address))


def endpoint_objects(network: Network, endpoint: Endpoint, mtu: int) -> Iterator[Object]:
    """The host's side of an endpoint: the gateway's address, and the way to the container."""
    dev = endpoint.host_link
    yield LinkState(dev, mtu)
    yield LinkSwitches(dev, proxy_arp=network.adopted, leads_out=network.leads_out)
    for address in endpoint.addresses:
        yield Address(dev, alone(gateway_of(network, address)))
        yield Route(dev, ip_network(alone(address)))


def gateway_of(network: Network, address: IPAddress) -> IPAddress:
    """The gateway of the pool that holds the address."""
    return next(gateway for pool, gateway in zip(network.pools, network.gateways, strict=True) if address in pool)


def pool_of(network: Network, address: IPAddress) -> IPNetwork | None:
    return next((pool for pool in network.pools if address in pool), None)


def mtu_of(network: Network, underlay: Underlay) -> int:
    """The largest packet a container may send: what was asked for, else what fits the underlay."""
    return network.mtu or underlay.mtu - BACKENDS[network.backend].overhead(underlay)


def too_narrow(network: Network, underlay: Underlay) -> str | None:
    """Why the kernel would refuse the network's addresses, as a sentence; None if it would not."""
    version = max(pool.version for pool in network.pools)
    fits = mtu_of(network, underlay)
    if fits >= LEAST_MTU[version]:
        return None
    return (
        f"the MTU of {underlay.dev} is {underlay.mtu}, which leaves {fits} to containers with backend "
        f"{network.backend}, and IPv{version} needs {LEAST_MTU[version]}; give {underlay.dev} a larger MTU"
    )


def alone(address: IPAddress) -> IPInterface:
    """The address with the prefix that covers it alone."""
    return ip_interface(address)


def _mtu_of_pair(endpoint: Endpoint, actual: State) -> int:
    """That of the container's end, which is out of reach here. Were the host's end to follow the underlay alone, the
    kernel would drop without a word what is too large for the narrower end; so it tells the sender, like a router."""
    found = actual.get(("state", endpoint.host_link))
    return endpoint.mtu or (found.mtu if isinstance(found, LinkState) else 1280)


def _kept(network: Network, actual: State) -> Iterator[Object]:
    devices = BACKENDS[network.backend].devices(network)
    for o in actual.values():
        if isinstance(o, Route | Unreachable | AllowedIp):
            if any(contains(pool, o.destination) for pool in network.pools) and not _is_endpoint_route(o, actual):
                yield o
        elif o.dev in devices:
            yield o


def _is_endpoint_route(o: Object, actual: State) -> bool:
    return isinstance(actual.get(("link", o.dev)), EndpointLink)
