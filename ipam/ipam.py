"""The IPAM driver: what Docker's four calls mean.

It decides from this host's journal, and asks the cluster only for pools, blocks and borrowed addresses."""

import logging
import time
from collections.abc import Callable, Collection, Mapping
from ipaddress import ip_interface

from ipam import blocks
from ipam.book import REST
from ipam.commons import Commons
from ipam.errors import AddressTaken, BadRequest, PoolConflict, PoolExhausted, not_in_use
from ipam.holdings import Holdings
from ipam.journal import Held, Journal
from ipam.ledger import Ledger, each_by_itself
from ipam.lending import Lending
from ipam.loans import Loans
from ipam.model import AddressRequest, PoolId, PoolRequest
from ipam.options import block_option, refuse_odd_size
from ipam.pool_journal import BORROWED, ENDPOINT, HOST, LENT, RETURNING, Lease, PoolJournal
from ipam.pools import HeldElsewhere, Pools
from ipam.reservations import Reservations
from ipam.tenancy import Tenancy
from store.interface import Contended, StoreUnavailable
from store.ip import IPAddress, IPInterface, IPNetwork, host_prefix
from store.update import ATTEMPTS, pause_after

log = logging.getLogger(__name__)

LEAST_POOL_FOR_HOST_ADDRESS = 16  # addresses; in a smaller pool every one goes to containers


class Ipam:
    def __init__(
        self,
        journal: Journal,
        pools: Pools,
        commons: Commons,
        lending: Lending,
        tenancy: Tenancy,
        routed: Callable[[IPNetwork], bool],
        changed: Callable[[IPNetwork], None] = lambda _: None,
        clock: Callable[[], float] = time.time,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        """`routed` tells whether our own network driver has a network in a pool on this host; `changed` hears of
        every pool in which an address was given or came back."""
        self._journal, self._pools, self._tenancy = journal, pools, tenancy
        self._routed, self._changed, self._clock, self._pause = routed, changed, clock, pause
        self._ledger = Ledger(journal, tenancy)
        self._holdings = Holdings(self._ledger, pools, commons, lending)
        self._reservations = Reservations(self._ledger, commons, tenancy, clock, pause)
        self._loans = Loans(self._ledger, pools, commons, lending, tenancy)

    # pools

    def request_pool(self, request: PoolRequest) -> tuple[PoolId, IPNetwork]:
        block_prefix = block_option(request)
        self._tenancy.insist()
        self._tenancy.check_new()
        if request.pool is None:
            if request.range is not None:
                raise BadRequest(f"--ip-range {request.range} needs a --subnet that holds it")
            pool_id = self._hold_any(request.v6)
        else:
            refuse_odd_size(request.pool)
            pool_id = PoolId(request.pool, request.range)
            with self._ledger.lock(pool_id.pool):
                self._end_half_done_leave(pool_id.pool)
                self._refuse_dockers(pool_id.pool)
                self._pools.join(pool_id.pool, block_prefix, new=True)
                self._hold(pool_id)
        log.info("pool held", extra={"pool": pool_id})
        return pool_id, pool_id.pool

    def _hold_any(self, v6: bool) -> PoolId:
        """With the pool's lock from its making on: `settle` would leave a pool that is not held yet."""
        for attempt in range(ATTEMPTS):
            pool = self._pools.choose(v6)
            with self._ledger.lock(pool):
                self._end_half_done_leave(pool)
                if self._pools.create(pool):
                    self._hold(PoolId(pool))
                    return PoolId(pool)
            self._pause(pause_after(attempt))
        raise Contended("other hosts kept taking the pools that were free; try again")

    def _hold(self, pool_id: PoolId) -> None:
        self._holdings.need_block(pool_id)
        self._journal.hold(pool_id)

    def _refuse_dockers(self, pool: IPNetwork) -> None:
        """Two who give addresses out of one pool would give the same ones."""
        if self._journal.pool(pool).is_dockers:
            raise PoolConflict(f"pool {pool} belongs to Docker's own IPAM on this host; choose another --subnet")

    def release_pool(self, pool_id: PoolId) -> None:
        """One network less; an unknown pool is fine. What the store cannot be told now is told by `settle`."""
        with self._ledger.lock(pool_id.pool):
            if not self._journal.let_go(pool_id):
                log.warning("pool kept, as containers of another network seem to be in it", extra={"pool": pool_id})
                return
            try:
                self._leave_if_unused(pool_id.pool)
            except StoreUnavailable as error:
                log.warning("blocks are given back later", extra={"pool": pool_id.pool, "why": error})
        log.info("pool released", extra={"pool": pool_id})

    def adopt(self, pool: IPNetwork, gateway: IPAddress) -> str | None:
        """Hold a pool whose addresses Docker's own IPAM gives out, until `disown`; why not, if others use it."""
        self._tenancy.insist()
        self._tenancy.check_new()
        with self._ledger.lock(pool):
            self._end_half_done_leave(pool)
            try:
                self._holdings.adopt(pool, gateway)
            except PoolConflict as error:
                return str(error)
            if not self._journal.is_held(pool):
                self._journal.hold(PoolId(pool))
        log.info("pool of Docker's own adopted", extra={"pool": pool})
        return None

    def disown(self, pool: IPNetwork) -> None:
        self.release_pool(PoolId(pool))

    def insist(self, pool: IPNetwork) -> None:
        """Before a container has an address of a pool of Docker's own: refused like an address of ours."""
        self._tenancy.insist()
        self._ledger.refuse_if_not_ours(PoolId(pool))
        if not self.keeps(pool):
            raise PoolConflict(
                f"pool {pool} of Docker's own IPAM belongs to others by now; remove the network and create it again"
            )

    def keeps(self, pool: IPNetwork) -> bool:
        """Whether a pool of Docker's own is still this host's; others may have taken it after a lost lease."""
        return bool(self._journal.pool(pool).blocks)

    def free_pool(self) -> IPNetwork | None:
        """An IPv4 pool that a network could have now, to tell a person."""
        return self._pools.free_pool(v6=False)

    def _end_half_done_leave(self, pool: IPNetwork) -> None:
        """What an earlier network of this pool left in the journal may be another host's by now."""
        journal = self._journal.pool(pool)
        if journal.blocks or journal.leases or journal.gateway:
            self._leave_if_unused(pool)

    def holders(self, pool: IPNetwork) -> int:
        """How many Docker networks of this host have the pool: Docker holds it before it tells the network driver of
        the network, and lets it go when that is removed, or was refused."""
        return self._journal.holders(pool)

    def _leave_if_unused(self, pool: IPNetwork) -> None:
        if not self._journal.is_held(pool):
            self._tenancy.check()
            self._loans.give_up(pool)
            self._pools.leave(pool)
            self._journal.drop_pool(pool)

    # addresses

    def request_address(self, request: AddressRequest) -> IPInterface:
        pool_id, wanted = request.pool, request.address
        pool = pool_id.pool
        if not self._journal.uses(pool_id):
            raise not_in_use(pool_id)
        if wanted is not None and not blocks.is_usable(pool, wanted):
            raise BadRequest(f"address {wanted} cannot be used in pool {pool}")
        self._tenancy.insist()
        if request.gateway:
            with self._ledger.lock(pool):
                return _with_prefix(self._holdings.fix_gateway(pool, wanted), pool.prefixlen)
        if self._routed(pool):
            address = self._give_or_borrow(pool_id, wanted)
            return _with_prefix(address, host_prefix(address))
        return _with_prefix(self._give_or_reserve(pool_id, wanted), pool.prefixlen)

    def release_address(self, pool_id: PoolId, address: IPAddress, since: float | None = None) -> None:
        """The gateway and reserved addresses belong to the pool and go with it; anything unknown is fine. With `since`
        only what was given at that moment: given again, it is somebody else's. Then it is known that no network of
        Docker's here names the address, either: one that is borrowed goes back."""
        pool = pool_id.pool
        with self._ledger.lock(pool):
            journal = self._journal.pool(pool)
            if since not in (None, journal.given_since(address)):
                return
            if since is not None:
                journal.unreserve_borrowed(address)
            journal.take_back(address)
        self._loans.return_quietly(pool)
        self._changed(pool)

    def reserve(self, wanted: Mapping[IPNetwork, Collection[IPAddress]], as_of: float = float("inf")) -> None:
        self._reservations.reserve(wanted, as_of)

    def listed(self, networks: Mapping[PoolId, int], as_of: float) -> None:
        """In how many networks Docker had each pool, when it was asked at `as_of` (seconds since the epoch)."""
        self._reservations.listed(networks, as_of)

    def host_address(self, pool: IPNetwork) -> IPAddress | None:
        """An address in the pool for this host itself; None if the pool has none to spare."""
        with self._ledger.lock(pool):
            journal = self._journal.pool(pool)
            mine = [address for address, lease in journal.leases.items() if lease.kind == HOST]
            if mine or pool.num_addresses < LEAST_POOL_FOR_HOST_ADDRESS or not journal.blocks:
                return mine[0] if mine else None
            try:
                return self._give(PoolId(pool), None, HOST)
            except (PoolExhausted, StoreUnavailable):
                return None

    # choosing

    def _give_or_reserve(self, pool_id: PoolId, wanted: IPAddress | None) -> IPAddress:
        """Also where our network driver has no network yet, as during each create on this host."""
        if wanted is None:
            return self._give_or_borrow(pool_id, None)
        if self._reservations.grants(pool_id, wanted):
            return wanted
        try:
            return self._give_or_borrow(pool_id, wanted)
        except AddressTaken:
            if not self._reservations.comes_to_be_reserved(pool_id, wanted):
                raise
            return wanted

    def _give_or_borrow(self, pool_id: PoolId, wanted: IPAddress | None) -> IPAddress:
        address = self._given_or_borrowed(pool_id, wanted)
        self._changed(pool_id.pool)
        return address

    def _given_or_borrowed(self, pool_id: PoolId, wanted: IPAddress | None) -> IPAddress:
        try:
            with self._ledger.lock(pool_id.pool):
                return self._give(pool_id, wanted, ENDPOINT)
        except HeldElsewhere as elsewhere:
            return self._loans.borrow(pool_id, elsewhere)
        except PoolExhausted:
            return self._loans.borrow_any(pool_id)

    def _give(self, pool_id: PoolId, wanted: IPAddress | None, kind: str) -> IPAddress:
        self._ledger.refuse_if_not_ours(pool_id)
        journal = self._journal.pool(pool_id.pool)
        if journal.gateway is None:  # from Engine 29 on Docker asks for none for macvlan and ipvlan
            self._holdings.fix_gateway(pool_id.pool, None, besides=wanted)
        address = self._free_address(pool_id, journal) if wanted is None else self._wanted_address(pool_id, wanted)
        self._ledger.give(pool_id, address, BORROWED if journal.block_of(address) is None else kind)
        return address

    def _wanted_address(self, pool_id: PoolId, wanted: IPAddress) -> IPAddress:
        pool = pool_id.pool
        journal = self._journal.pool(pool)
        lease = journal.leases.get(wanted)
        if lease is not None and lease.kind == BORROWED and lease.released is not None:
            return wanted  # not returned yet: still ours
        if lease is not None and lease.kind == RETURNING and self._loans.have_again(pool, wanted):
            return wanted
        if journal.block_of(wanted) is None and not journal.is_reserved(wanted):
            self._holdings.take_block(pool_id, wanted)
            lease = journal.leases.get(wanted)
        if lease is not None and lease.kind == LENT:
            self._loans.look_after(pool, wanted)
        if journal.is_reserved(wanted):
            raise AddressTaken(f"address {wanted} is reserved in pool {pool}; choose another")
        if journal.is_given(wanted):
            raise AddressTaken(
                f"address {wanted} is already in use on {self._loans.user_of(pool, wanted)}; choose another"
            )
        return wanted

    def _free_address(self, pool_id: PoolId, journal: PoolJournal) -> IPAddress:
        address = journal.choose(self._clock(), REST, pool_id.range)
        if address is not None:
            return address
        try:
            self._holdings.take_block(pool_id)
        except (PoolExhausted, StoreUnavailable) as error:
            if isinstance(error, PoolExhausted):
                self._loans.look_after_all(pool_id.pool)
            # Better an address that has not rested than a container that does not start.
            address = journal.choose(self._clock(), 0, pool_id.range)
            if address is None:
                raise
            return address
        return self._free_address(pool_id, journal)

    # beside the requests

    def answer_wishes(self, pool: IPNetwork) -> None:
        self._loans.answer_wishes(pool)

    def settle(self, joined: Collection[IPNetwork], with_loans: Collection[IPNetwork] | None = None) -> None:
        """Leave pools that no network of this host uses, and put loans in order, both ways.

        `joined` are the pools in which the store has this host as a holder: a crash may have left more of them
        there than the journal knows. `with_loans` are those in which the store has a loan or a wish, None if that is
        not known: the others need not be asked for, while requests wait."""
        pools = {*self._journal.pools(), *joined}
        if pools:
            self._tenancy.check()  # what stands under this host's name may be another machine's
        self._reservations.settle()
        each_by_itself(
            pools, lambda pool: self._settle_pool(pool, may_have_loans=with_loans is None or pool in with_loans)
        )

    def _settle_pool(self, pool: IPNetwork, *, may_have_loans: bool) -> None:
        with self._ledger.lock(pool):
            if not self._journal.is_held(pool):
                self._leave_if_unused(pool)
                return
            self._holdings.verify_doubtful(pool)
            if may_have_loans or self._loans.knows_any(pool):
                self._loans.settle(pool)

    def keep_in_hand(self) -> None:
        self._holdings.keep_in_hand()

    def verify(self) -> None:
        self._holdings.verify()

    def leases(self) -> dict[IPNetwork, dict[IPAddress, Lease]]:
        """Every lease of this host, by pool."""
        found = {}
        for pool in self._journal.pools():
            with self._ledger.lock(pool):
                found[pool] = dict(self._journal.pool(pool).leases)
        return found

    def held(self) -> dict[PoolId, Held]:
        """For how many Docker networks each pool is held."""
        return self._journal.held()

    def given(self, pool: IPNetwork) -> dict[IPNetwork, tuple[IPAddress, ...]]:
        """The addresses in use, by block of ours."""
        with self._ledger.lock(pool):
            return {book.block: book.given for book in self._journal.pool(pool).books()}


def _with_prefix(address: IPAddress, length: int) -> IPInterface:
    return ip_interface((address, length))
