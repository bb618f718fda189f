"""The network driver: what Docker's calls mean. Every create may run twice, every delete accepts "already gone"."""

import logging
import shlex
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Protocol

from driver import endpoints, options
from driver.agreement import network_of, spec_of
from driver.backends import BACKENDS
from driver.backends.interface import Underlay
from driver.errors import BadRequest, DriverError, KernelError, NetworkConflict
from driver.goal import mtu_of, pool_of, too_narrow
from driver.journal import Journal
from driver.kernel import Kernel
from driver.membership import Membership
from driver.model import (
    Endpoint,
    EndpointRequest,
    JoinAnswer,
    Network,
    NetworkRequest,
    PoolData,
    mac_of,
)
from driver.options import Options
from driver.plan import Put
from driver.ports import Ports
from driver.publishing import Publishing
from driver.reconciler import Reconciler
from driver.remover import Remover
from driver.state import FastPath
from store import records
from store.codec import BadRecord
from store.interface import Contended, StoreUnavailable
from store.ip import IPAddress, IPNetwork

log = logging.getLogger(__name__)

ADDRESS_SPACE = "flannelpy"
COMMAND = "docker network create -d flannelpy --ipam-driver flannelpy NAME"


class Addresses(Protocol):
    """What the driver needs of the IPAM beside it."""

    def reserve(self, wanted: Mapping[IPNetwork, Collection[IPAddress]]) -> None: ...

    def host_address(self, pool: IPNetwork) -> IPAddress | None: ...

    def adopt(self, pool: IPNetwork, gateway: IPAddress) -> str | None:
        """Take a pool of Docker's own IPAM for this host alone; why not, if that cannot be."""

    def disown(self, pool: IPNetwork) -> None: ...

    def insist(self, pool: IPNetwork) -> None:
        """Refuse a container in a pool of Docker's own that may be others' by now."""

    def keeps(self, pool: IPNetwork) -> bool:
        """Whether a pool of Docker's own is still this host's."""

    def free_pool(self) -> IPNetwork | None:
        """A pool that a network could have now."""

    def holders(self, pool: IPNetwork) -> int: ...


class NetworkDriver:
    def __init__(
        self,
        journal: Journal,
        membership: Membership,
        addresses: Addresses,
        reconciler: Reconciler,
        ports: Ports,
        remover: Remover,
        open_kernel: Callable[[], AbstractContextManager[Kernel]] = Kernel,
        resolvers: Sequence[IPAddress] = (),
    ) -> None:
        """`resolvers` are where containers ask for names."""
        self._journal, self._membership, self._addresses = journal, membership, addresses
        self._reconciler, self._ports, self._remover, self._open_kernel = reconciler, ports, remover, open_kernel
        self._resolvers = resolvers
        publishing = Publishing(journal, ports, reconciler, open_kernel, self.delete_endpoint)
        self.publish_ports, self.withdraw_ports = publishing.publish, publishing.withdraw
        self._networks_lock = threading.Lock()

    # networks

    def create_network(self, request: NetworkRequest) -> None:
        # Docker's CLI shuffles several --subnet; all hosts must take the same one for the network's name.
        request = replace(request, pools=tuple(sorted(request.pools, key=_order)))
        with self._networks_lock:
            if any(network.id == request.id for network in self._journal.networks()):
                return
            if not request.pools:
                raise BadRequest(f"the network has no pool; type: {_command(request)}")
            for data in request.pools:
                self._refuse_other_space(data)
                self._refuse_second_use(data)
            wanted = options.parse(request.options, any(data.pool.version == 6 for data in request.pools))
            adopted = self._adopted(request)
            try:
                network = self._joined(request, wanted, adopted is not None)
            except Exception:
                self._disown(adopted)
                raise
            try:
                self._set_up(network, request)
            except Exception:
                self._tear_down(network)
                raise
        log.info("network created", extra={"network": network.id[:12], "pool": network.pools[0], "vni": network.vni})

    def _adopted(self, request: NetworkRequest) -> IPNetwork | None:
        """The pool that Docker's own IPAM chose, taken for this host alone; None if the addresses are ours."""
        foreign = [data for data in request.pools if data.address_space != ADDRESS_SPACE]
        if not foreign:
            return None
        if len(request.pools) > 1 or foreign[0].pool.version == 6:
            raise BadRequest(f"with Docker's own IPAM a network has one IPv4 pool; for more, type: {_command(request)}")
        why_not = self._addresses.adopt(foreign[0].pool, _gateway(foreign[0]))
        if why_not is not None:
            free = self._addresses.free_pool()
            command = _command(request, *(["--subnet", str(free)] if free else []))
            raise NetworkConflict(f"{why_not}, so Docker's own IPAM cannot have it here; type: {command}")
        return foreign[0].pool

    def _disown(self, pool: IPNetwork | None) -> None:
        if pool is not None:
            self._addresses.disown(pool)

    def _joined(self, request: NetworkRequest, wanted: Options, adopted: bool) -> Network:
        gateways = tuple(_gateway(data) for data in request.pools)
        underlay = self._reconciler.underlay()
        for data in request.pools:
            _refuse_own_addresses(data.pool, underlay)
        with self._open_kernel() as kernel:
            tunnels = kernel.foreign_tunnels()
        spec = self._membership.join(request, wanted, gateways, underlay, tunnels)
        try:
            self._refuse_unreachable(spec, underlay)
            fits = mtu_of(network_of(request.id, spec, mtu=None), underlay)
            if spec.mtu is not None and spec.mtu > fits:
                raise BadRequest(
                    f"-o mtu={spec.mtu}: {underlay.dev} carries at most {fits} with backend {spec.backend}"
                )
            _refuse_narrow(network_of(request.id, spec, spec.mtu), underlay)
        except Exception:
            self._membership.leave(spec.pools[0])
            raise
        return replace(network_of(request.id, spec, spec.mtu), adopted=adopted)

    def _refuse_unreachable(self, spec: records.NetworkSpec, underlay: Underlay) -> None:
        for other in self._membership.peers(spec):
            if refusal := BACKENDS[spec.backend].refusal(underlay, other):
                gone = f"if that host is gone for good, type: flannelpy leave --host {other.host}"
                raise NetworkConflict(f"{refusal}; {gone}")

    def _set_up(self, network: Network, request: NetworkRequest) -> None:
        if not network.adopted:
            network = replace(network, host_addresses=self._host_addresses(network))
        self._journal.put_network(network)
        self._reconciler.settle(BACKENDS[network.backend].devices(network))
        if not network.adopted:  # the last of all: what the cluster keeps back is not taken back from it
            self._addresses.reserve({data.pool: data.reserved for data in request.pools})

    def _tear_down(self, network: Network) -> None:
        self._journal.remove_network(network.id)
        try:
            self._membership.leave(network.pools[0])
        except StoreUnavailable as error:
            log.warning("leaving the network later", extra={"pool": network.pools[0], "why": error})
        if network.adopted:
            self._addresses.disown(network.pools[0])
        self._reconciler.poke()

    def _refuse_other_space(self, data: PoolData) -> None:
        """Docker holds a pool before it names it here, in whichever name space; this driver looks into one alone."""
        if data.address_space == ADDRESS_SPACE and not self._addresses.holders(data.pool):
            raise BadRequest(
                f"pool {data.pool} was taken with --ipam-opt network=, which is for networks of other drivers; leave "
                "it out"
            )

    def _refuse_second_use(self, data: PoolData) -> None:
        """A pool of ours is held for the new network by now. One of Docker's own is held by the network that has it,
        and Docker gives it to one at a time."""
        other = self._journal.network_in(data.pool)
        if other is None:
            return
        spoken_for = other.adopted or data.address_space == ADDRESS_SPACE
        if self._addresses.holders(data.pool) > spoken_for:
            raise NetworkConflict(f"pool {data.pool} is already used by network {other.id[:12]} on this host")
        self._delete(other)  # nobody holds the pool for this one any more: it is what a crash left

    def delete_network(self, network_id: str) -> None:
        with self._networks_lock:
            for network in self._journal.networks():
                if network.id == network_id:
                    self._delete(network)

    def _delete(self, network: Network) -> None:
        for endpoint in self._journal.endpoints(network.id):
            self.delete_endpoint(network.id, endpoint.id)
        self._tear_down(network)
        self._reconciler.settle(BACKENDS[network.backend].devices(network))
        log.info("network deleted", extra={"network": network.id[:12], "pool": network.pools[0]})

    def drop_released(self) -> None:
        """Delete the networks whose pools Docker has given back: it removed or never finished them, and does not
        repeat a call that got lost."""

        def drop(network: Network) -> None:
            if not all(map(self._addresses.holders, network.pools)):
                self._delete(network)

        self._each(drop)

    def renew_host_addresses(self) -> None:
        """This host's own address in a pool may be another one after a lost lease, or come late to a full pool."""

        def renew(network: Network) -> None:
            own = network.host_addresses if network.adopted else self._host_addresses(network)
            if own != network.host_addresses:
                self._journal.put_network(replace(network, host_addresses=own))
                log.warning("own address changed", extra={"pool": network.pools[0], "now": ", ".join(map(str, own))})
                self._reconciler.poke()

        self._each(renew)

    def _each(self, act: Callable[[Network], None]) -> None:
        """For each network that is still as it was. What is wrong with one of them, as a damaged record, keeps none of
        the others back; a store that is away does."""
        failures = []
        for network in self._journal.networks():
            with self._networks_lock:
                if self._journal.has(network):
                    try:
                        act(network)
                    except (DriverError, BadRecord, Contended) as error:
                        failures.append(error)
        if failures:
            raise failures[0]

    def _host_addresses(self, network: Network) -> tuple[IPAddress, ...]:
        return tuple(a for pool in network.pools if (a := self._addresses.host_address(pool)) is not None)

    def publish(self) -> None:
        """Tell the other hosts of every network where this one is reached now."""
        if not self._journal.networks():
            return
        underlay = self._reconciler.underlay()

        def publish(network: Network) -> None:
            if network.adopted and not self._addresses.keeps(network.pools[0]):
                raise NetworkConflict(
                    f"network {network.id[:12]} has pool {network.pools[0]} of Docker's own IPAM, which belongs to "
                    "others by now; remove it here and create it again"
                )
            self._membership.publish(spec_of(network), underlay)

        self._each(publish)

    def forget_published(self) -> None:
        """What `publish` told may be gone, whatever is known of the store."""
        self._membership.forget()

    def leave_unused(self, pools: Sequence[IPNetwork]) -> None:
        """Of the networks in which this host is a peer, leave those that it no longer has: they were deleted here
        while the store was away."""
        here = {pool for network in self._journal.networks() for pool in network.pools}
        for pool in [pool for pool in pools if pool not in here]:
            with self._networks_lock:
                if self._journal.network_in(pool) is None:
                    self._membership.leave(pool)
                    log.info("network left", extra={"pool": pool})

    # endpoints

    def create_endpoint(self, request: EndpointRequest) -> str:
        """Returns the endpoint's MAC: the one asked for, else one derived from its address."""
        network = self._journal.network(request.network_id)
        if network.adopted:
            self._addresses.insist(network.pools[0])
        addresses = tuple(interface.ip for interface in request.addresses)
        if not addresses:
            raise BadRequest(f"endpoint {request.id[:12]} has no address; create the network anew: {COMMAND}")
        for address in addresses:
            if pool_of(network, address) is None:
                pools = " and ".join(map(str, network.pools))
                raise BadRequest(f"address {address} is not in {pools}, the pools of network {network.id[:12]}")
        mtu = network.mtu or mtu_of(network, self._reconciler.underlay())
        endpoint = Endpoint(request.id, network.id, addresses, request.mac or mac_of(addresses[0]), mtu=mtu)
        self._evict(endpoint)
        self._journal.put_endpoint(endpoint)
        return endpoint.mac

    def _evict(self, newcomer: Endpoint) -> None:
        """Whoever had one of these addresses is gone: dockerd does not tell of endpoints that it lost in a crash."""
        for old in self._journal.endpoints(newcomer.network_id):
            if old.id != newcomer.id and set(old.addresses) & set(newcomer.addresses):
                log.warning("endpoint left behind", extra={"endpoint": old.id[:12], "address": old.addresses[0]})
                self.delete_endpoint(old.network_id, old.id)

    def join(self, network_id: str, endpoint_id: str, sandbox: str) -> JoinAnswer:
        """`sandbox` is the same for all endpoints of one container. Docker joins a container's one after the other."""
        network = self._journal.network(network_id)
        endpoint = replace(self._journal.endpoint(network_id, endpoint_id), sandbox=sandbox)
        route = endpoints.resolver_route(self._resolvers, endpoint, self._journal.all_endpoints())
        endpoint = replace(endpoint, resolver=route)
        self._journal.put_endpoint(endpoint)
        underlay = self._reconciler.underlay()
        _refuse_narrow(network, underlay)
        mtu = endpoint.mtu or mtu_of(network, underlay)
        with self._open_kernel() as kernel:
            endpoints.attach(kernel, network, endpoint, mtu)
            if (fast_path := self._reconciler.fast_path(endpoint)) is not None:
                _put_if_possible(kernel, fast_path)
        return endpoints.join_answer(network, endpoint)

    def leave(self, network_id: str, endpoint_id: str) -> None:
        """libnetwork now moves the link back, and DeleteEndpoint follows. A dockerd that was restarted meanwhile does
        not withdraw the ports before."""
        self.withdraw_ports(network_id, endpoint_id)

    def delete_endpoint(self, network_id: str, endpoint_id: str) -> None:
        known = [endpoint for endpoint in self._journal.endpoints(network_id) if endpoint.id == endpoint_id]
        for endpoint in known:
            self._journal.remove_endpoint(endpoint_id)
            self._remover.remove(endpoint.host_link)
            self._ports.release(endpoint_id)
            if endpoint.published:
                self._reconciler.poke()


def _refuse_own_addresses(pool: IPNetwork, underlay: Underlay) -> None:
    """Else what hosts send each other, and to all in their own network, would go into the tunnels, on every host."""
    own = next((address for address in (*underlay.addresses, *underlay.advertised) if address in pool), None)
    if own is not None:
        raise BadRequest(
            f"pool {pool} holds {own}, by which the other hosts reach this one: the hosts' own network cannot be a "
            "network of containers; choose another --subnet"
        )


def _refuse_narrow(network: Network, underlay: Underlay) -> None:
    if why := too_narrow(network, underlay):
        raise BadRequest(f"network {network.pools[0]}: {why}")


def _put_if_possible(kernel: Kernel, fast_path: FastPath) -> None:
    """Now, so that the container's first packets take the same way as the next ones."""
    try:
        kernel.apply(Put(fast_path))
    except KernelError as error:
        log.info("left to the reconciler", extra={"why": error})


def _order(data: PoolData) -> tuple[int, int]:
    return data.pool.version, int(data.pool.network_address)


def _command(request: NetworkRequest, *more: str) -> str:
    """What to type for such a network with our IPAM. Of its name and labels Docker does not tell."""
    said = [word for name, value in sorted(request.options.items()) for word in ("-o", f"{name}={value}")]
    return COMMAND.replace("NAME", shlex.join([*said, *(["--internal"] if request.internal else []), *more, "NAME"]))


def _gateway(data: PoolData) -> IPAddress:
    if data.gateway is None:
        raise BadRequest(f"pool {data.pool} has no gateway; type: {COMMAND}")
    return data.gateway.ip
