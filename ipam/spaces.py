"""Name spaces of pools: the one of our own driver's networks, and one for each `--ipam-opt network=NAME`.

Each space has an address manager of its own, so that two LANs may use the same prefix. All share the host's lease."""

import re
import threading
from collections.abc import Callable, Collection, Mapping
from contextlib import nullcontext
from dataclasses import replace

from ipam.errors import BadRequest, PoolConflict, not_in_use
from ipam.ipam import Ipam
from ipam.journal import Held
from ipam.ledger import each_by_itself
from ipam.model import AddressRequest, PoolId, PoolRequest
from ipam.pool_journal import Lease
from store.ip import IPAddress, IPInterface, IPNetwork

OPTION = "network"
NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,62}", re.ASCII)

SpacedPool = tuple[str, IPNetwork]


class Spaces:
    """The IPAM driver for all spaces. Safe for many threads."""

    def __init__(
        self,
        default: Ipam,
        known: Collection[str],
        make: Callable[[str], Ipam],
        routed: Callable[[IPNetwork], bool] = lambda _: False,
    ) -> None:
        """`known` are the spaces of which this host's journal tells; `make` builds the manager of one; `routed` tells
        whether our own network driver has a network in a pool on this host."""
        self._make, self._routed = make, routed
        self._lock, self._choosing = threading.Lock(), threading.Lock()
        self._managers = {"": default, **{name: make(name) for name in known}}

    def _manager(self, space: str) -> Ipam:
        with self._lock:
            if space not in self._managers:
                self._managers[space] = self._make(space)
            return self._managers[space]

    def _all(self) -> list[tuple[str, Ipam]]:
        with self._lock:
            return list(self._managers.items())

    # what Docker asks

    def request_pool(self, request: PoolRequest) -> tuple[PoolId, IPNetwork]:
        space = request.options.get(OPTION, "")
        if OPTION in request.options and not NAME.fullmatch(space):
            raise BadRequest(
                f"--ipam-opt {OPTION}={space[:80]}: must be 1 to 63 letters, digits and ._-, beginning with a letter "
                "or digit"
            )
        if space and request.pool is not None and self._routed(request.pool):
            raise PoolConflict(
                f"pool {request.pool} is a network of flannelpy's own driver on this host, for which --ipam-opt "
                f"{OPTION}= is not; leave it out, or choose another --subnet"
            )
        rest = {name: value for name, value in request.options.items() if name != OPTION}
        # One after the other: two spaces must not choose the same pool on one host.
        with self._choosing if request.pool is None else nullcontext():
            pool_id, pool = self._manager(space).request_pool(replace(request, options=rest))
        return replace(pool_id, space=space), pool

    def release_pool(self, pool_id: PoolId) -> None:
        self._manager(pool_id.space).release_pool(pool_id.within_space())

    def request_address(self, request: AddressRequest) -> IPInterface:
        space = request.pool.space
        if space not in dict(self._all()):
            raise not_in_use(request.pool)
        return self._manager(space).request_address(replace(request, pool=request.pool.within_space()))

    def release_address(self, pool_id: PoolId, address: IPAddress, since: float | None = None) -> None:
        self._manager(pool_id.space).release_address(pool_id.within_space(), address, since)

    # what happens beside the requests

    def reserve(self, space: str, wanted: Mapping[IPNetwork, Collection[IPAddress]], as_of: float) -> None:
        if space in dict(self._all()):
            self._manager(space).reserve(wanted, as_of)

    def listed(self, networks: Mapping[PoolId, int], as_of: float) -> None:
        for space, manager in self._all():
            within = {pool_id.within_space(): many for pool_id, many in networks.items() if pool_id.space == space}
            manager.listed(within, as_of)

    def answer_wishes(self, where: SpacedPool) -> None:
        space, pool = where
        if space in dict(self._all()):
            self._manager(space).answer_wishes(pool)

    def settle(self, joined: Collection[SpacedPool], with_loans: Collection[SpacedPool] | None = None) -> None:
        """`joined` are the pools in which the store has this host as a holder, `with_loans` those in which it has a
        loan or a wish, None if that is not known."""

        def within(space: str, pools: Collection[SpacedPool]) -> list[IPNetwork]:
            return [pool for name, pool in pools if name == space]

        def settle(space: str) -> None:
            loans = None if with_loans is None else within(space, with_loans)
            self._manager(space).settle(within(space, joined), loans)

        each_by_itself({name for name, _ in self._all()} | {name for name, _ in joined}, settle)

    def keep_in_hand(self) -> None:
        each_by_itself(self._all(), lambda named: named[1].keep_in_hand())

    def verify(self) -> None:
        for _, manager in self._all():
            manager.verify()

    def given(self, where: SpacedPool) -> dict[IPNetwork, tuple[IPAddress, ...]]:
        return self._manager(where[0]).given(where[1])

    def leases(self) -> dict[SpacedPool, dict[IPAddress, Lease]]:
        """Every lease of this host, by pool."""
        return {(space, pool): leases for space, manager in self._all() for pool, leases in manager.leases().items()}

    def blocks(self) -> dict[SpacedPool, tuple[IPNetwork, ...]]:
        """The blocks of this host, by pool."""
        return {where: tuple(self.given(where)) for where in self.leases()}

    def pools(self) -> set[IPNetwork]:
        """Of all spaces."""
        return {pool_id.pool for pool_id in self.held()}

    def held(self) -> dict[PoolId, Held]:
        """For how many Docker networks each pool is held."""
        return {
            replace(pool_id, space=space): held
            for space, manager in self._all()
            for pool_id, held in manager.held().items()
        }
