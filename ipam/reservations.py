"""Reserved addresses (--aux-address) on this host: which of them its journal keeps back, and who may ask for one.

Docker asks for an --aux-address like for a container's address, on every host, each time a network is made that names
it. What it was is known when the network is there: our network driver hears of it, and of other drivers' networks the
Engine's list tells. Until then it is leased like a container's. From then on it is the cluster's, and is granted again
only while another network is being made (docs/adr/0029)."""

import logging
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack

from ipam.commons import Commons
from ipam.creating import Creating
from ipam.errors import AddressTaken
from ipam.ledger import Ledger
from ipam.model import PoolId
from ipam.pool_journal import BORROWED, ENDPOINT
from ipam.tenancy import Tenancy
from store.ip import IPAddress, IPNetwork

log = logging.getLogger(__name__)

LOOKS, LOOK_PERIOD = 20, 0.1  # seconds in which another host, which makes such a network now, has it


class Reservations:
    def __init__(
        self,
        ledger: Ledger,
        commons: Commons,
        tenancy: Tenancy,
        clock: Callable[[], float],
        pause: Callable[[float], None],
    ) -> None:
        self._ledger, self._commons, self._tenancy, self._pause = ledger, commons, tenancy, pause
        self._creating = Creating(ledger.journal, clock)
        # Where the journal may keep back what the cluster does not: a crash, or a lost answer, came between.
        self._in_doubt = {pool for pool in ledger.pools() if ledger.of(pool).kept_back()}

    def reserve(self, wanted: Mapping[IPNetwork, Collection[IPAddress]], as_of: float = float("inf")) -> None:
        """Keep these addresses of these pools from every host: all, or none and AddressTaken. Pools that no network
        of this host uses are passed over. An address that was given later than `as_of` is a container's."""
        with ExitStack() as locks:
            for pool in sorted(wanted, key=str):
                locks.enter_context(self._ledger.lock(pool))
            held = {pool: addresses for pool, addresses in wanted.items() if self._ledger.journal.is_held(pool)}
            try:
                self._commons.reserve(held, lambda pool, addresses: self._keep_back(pool, addresses, as_of))
            except BaseException:
                self._in_doubt |= {pool for pool in held if self._ledger.of(pool).kept_back()}
                raise

    def _keep_back(self, pool: IPNetwork, addresses: Collection[IPAddress], as_of: float) -> IPAddress | None:
        """In our journal before the cluster is told: a crash between the two leaves an unused address, never a
        doubly used one. Returns one that somebody has, if there is one, and then keeps none."""
        journal = self._ledger.of(pool)
        for address in addresses:
            lease = journal.leases.get(address)
            asked_for = lease is not None and lease.kind in (ENDPOINT, BORROWED) and lease.since <= as_of
            free = journal.block_of(address) is not None and not journal.is_given(address)
            if not free and not (journal.is_given(address) and asked_for):
                return address
        for address in addresses:
            journal.reserve(address)  # one that is borrowed stays lent: its holder keeps it back, then and later
        return None

    def grants(self, pool_id: PoolId, address: IPAddress) -> bool:
        """Whether it is an --aux-address of a network that is being made, and the cluster's already. AddressTaken if
        it is the cluster's and a container asks."""
        if not self._is_reserved(pool_id.pool, address):
            return False
        if not self._creating.grants(pool_id, address):
            raise AddressTaken(f"address {address} is reserved in pool {pool_id.pool}; choose another")
        return True

    def _is_reserved(self, pool: IPNetwork, address: IPAddress) -> bool:
        """Known here, without the store, for addresses in blocks of ours, unless another host borrowed it."""
        with self._ledger.lock(pool):
            journal = self._ledger.of(pool)
            if journal.block_of(address) is not None and address not in journal.lent:
                return journal.is_reserved(address) and address != journal.gateway
        return address in self._commons.reserved(pool)

    def comes_to_be_reserved(self, pool_id: PoolId, address: IPAddress) -> bool:
        """Whether it is an --aux-address of a network that is being made here, and at this moment on another host,
        too, which was the first to ask for it."""
        if not self._creating.is_on(pool_id):
            return False
        for _ in range(LOOKS):
            if address in self._commons.reserved(pool_id.pool):
                return self._creating.grants(pool_id, address)
            self._pause(LOOK_PERIOD)
        return False

    def listed(self, networks: Mapping[PoolId, int], as_of: float) -> None:
        self._creating.listed(networks, as_of)

    def settle(self) -> None:
        """Give free what the journal keeps back for a network that never came to be."""
        if self._in_doubt:
            self._tenancy.beat()  # a reservation whose answer was lost has happened by now, or never will
        for pool in list(self._in_doubt):
            with self._ledger.lock(pool):
                self._settle_pool(pool)

    def _settle_pool(self, pool: IPNetwork) -> None:
        journal, known = self._ledger.of(pool), self._commons.reserved(pool)
        if not self._tenancy.trusts_store():
            return
        for address in journal.kept_back() - {*known}:
            journal.unreserve(address)
            log.info("reserved no more", extra={"address": address, "pool": pool})
        self._in_doubt.discard(pool)
