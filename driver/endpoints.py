"""Veth pairs: the imperative part, one pair per container, made by Join and removed after DeleteEndpoint.

The container's end is handed to libnetwork, which moves and names it; the host's end gets the gateway's address and a
route to the container, and is kept so by the reconciler."""

from collections.abc import Collection, Iterable
from ipaddress import ip_interface, ip_network

from driver import sysctl
from driver.backends import BACKENDS
from driver.entries import Route
from driver.goal import alone, endpoint_objects, gateway_of
from driver.kernel import Kernel
from driver.model import Endpoint, JoinAnswer, Network, StaticRoute
from driver.state import Address
from store.ip import IPAddress, IPNetwork

WIDEST = 9  # prefixes, down to /24, in which nothing but the resolver is


def attach(kernel: Kernel, network: Network, endpoint: Endpoint, mtu: int) -> None:
    """Make the pair anew and program the host's end.

    In one message, for each waits until the kernel is done with the links of all other containers."""
    segments = BACKENDS[network.backend].most_segments(mtu)
    objects = [o for o in endpoint_objects(network, endpoint, mtu) if isinstance(o, Address | Route)]
    objects.sort(key=lambda o: o.rank)
    kernel.add_veth(endpoint.host_link, endpoint.container_link, mtu, objects, segments)  # up, and of that MTU
    sysctl.guard_endpoint(endpoint.host_link, proxy_arp=network.adopted, leads_out=network.leads_out)


def resolver_route(
    resolvers: Iterable[IPAddress], endpoint: Endpoint, others: Collection[Endpoint]
) -> IPNetwork | None:
    """The prefix by which this endpoint leads to the resolver, to the first of its addresses that is of a family of the
    endpoint's: one that no other endpoint of the container has.

    A container in several networks has a route through each, for the kernel refuses a second one to the same prefix,
    and the first network may be disconnected. The longest prefix is used. None if all prefixes are taken."""
    speaks = {address.version for address in endpoint.addresses}
    resolver = next((each for each in resolvers if each.version in speaks), None)
    if resolver is None:
        return None
    same = [other for other in others if other.sandbox == endpoint.sandbox and other.id != endpoint.id]
    taken = {other.resolver for other in same if endpoint.sandbox}
    candidates = (ip_interface(f"{resolver}/{resolver.max_prefixlen - wider}").network for wider in range(WIDEST))
    return next((prefix for prefix in candidates if prefix not in taken), None)


def join_answer(network: Network, endpoint: Endpoint) -> JoinAnswer:
    """What libnetwork does in the container: the gateway is on the link, the pool is behind the gateway.

    Without a default gateway in the answer Docker adds docker_gwbridge for the world outside and for `-p`."""
    routes: list[StaticRoute] = []
    for address in () if network.adopted else endpoint.addresses:  # Docker's own addresses bring a route to the pool
        gateway = gateway_of(network, address)
        routes.append(StaticRoute(ip_network(alone(gateway)), None))
        routes += [StaticRoute(pool, gateway) for pool in network.pools if pool.version == address.version]
    if endpoint.resolver is not None:
        asking = next(address for address in endpoint.addresses if address.version == endpoint.resolver.version)
        routes.append(StaticRoute(endpoint.resolver, gateway_of(network, asking)))
    gateways = tuple(gateway_of(network, address) for address in endpoint.addresses) if network.leads_out else ()
    return JoinAnswer(endpoint.container_link, "eth", tuple(routes), gateways)
