"""Single addresses that go from one host's block to another host: this host's journal of them, kept true to the store,
on the borrower's side and on the holder's."""

import logging
import time
from collections import Counter
from collections.abc import Collection

from ipam.commons import Commons
from ipam.errors import AddressTaken, PoolExhausted
from ipam.ledger import Ledger
from ipam.lending import Lending, NoAnswer, Spare
from ipam.model import PoolId
from ipam.pool_journal import BORROWED, LENT, LOST, RETURNING
from ipam.pools import HeldElsewhere, Pools, exhausted, unanswered
from ipam.tenancy import Tenancy
from store.interface import StoreUnavailable
from store.ip import IPAddress, IPNetwork

log = logging.getLogger(__name__)

BORROW_TIME = 8.0  # seconds in which other hosts are asked for an address when no block is free
IDLE_TIME = 600.0  # seconds in which a borrowed address that came back can be had again: its host may be restarting
LEAST_PATIENCE = 0.5  # seconds: a host that lives answers in less


class Loans:
    def __init__(self, ledger: Ledger, pools: Pools, commons: Commons, lending: Lending, tenancy: Tenancy) -> None:
        self._ledger, self._pools, self._commons, self._lending = ledger, pools, commons, lending
        self._tenancy = tenancy
        self._borrowing: set[IPAddress] = set()
        self._silent: set[str] = set()  # hosts that did not answer when they were last asked

    # borrowing from other hosts; with no lock held while another host is asked, for that one may be asking us

    def borrow(self, pool_id: PoolId, elsewhere: HeldElsewhere, patience: float | None = None) -> IPAddress:
        """Have that one address, or AddressTaken with the holder's sentence."""
        pool, address = pool_id.pool, elsewhere.address
        with self._ledger.lock(pool):
            self._begin_to_borrow(pool, address)
        try:
            self._lend_from(elsewhere, self._lending.patience if patience is None else patience)
            with self._ledger.lock(pool):
                self._ledger.refuse_if_not_ours(pool_id)
                if self._lending.borrower(pool, address) != self._pools.host:
                    raise AddressTaken(f"the loan of address {address} was lost; try again")
                self._ledger.give(pool_id, address, BORROWED)
        finally:
            self._borrowing.discard(address)
        log.info("address borrowed", extra={"address": address, "from": elsewhere.holder})
        return address

    def _lend_from(self, elsewhere: HeldElsewhere, patience: float) -> None:
        self._silent.discard(elsewhere.holder)
        try:
            self._lending.borrow(elsewhere, patience)
        except NoAnswer:
            self._silent.add(elsewhere.holder)
            raise

    def _begin_to_borrow(self, pool: IPNetwork, address: IPAddress) -> None:
        if address in self._borrowing or self._ledger.of(pool).is_given(address):
            raise AddressTaken(f"address {address} is already in use on this host; choose another")
        self._borrowing.add(address)

    def borrow_any(self, pool_id: PoolId) -> IPAddress:
        """Any address that another host can spare, or PoolExhausted."""
        deadline, looked_again = self._lending.clock() + BORROW_TIME, False
        tried = {self._ledger.of(pool_id.pool).gateway, *self._commons.reserved(pool_id.pool)}
        silent = Counter[str]()
        while (left := deadline - self._lending.clock()) > 0:
            found = self._lending.likely_free(pool_id.pool, pool_id.range, tried)
            likely = [spare for spare in found if spare.holder not in silent]
            if likely:
                spare = min(likely, key=lambda spare: spare.holder in self._silent)  # those are asked last
                tried.add(spare.address)
                if self._ask_for(pool_id, spare, left / len({spare.holder for spare in likely})):
                    return spare.address
                if spare.holder in self._silent:
                    silent[spare.holder] = sum(other.free for other in likely if other.holder == spare.holder)
            elif looked_again:
                break
            else:  # what others have told is a moment old
                looked_again = True
                time.sleep(self._lending.hearsay)
        raise PoolExhausted(
            unanswered(pool_id, silent) if silent else exhausted(pool_id, self._pools.owners(pool_id.pool))
        )

    def _ask_for(self, pool_id: PoolId, spare: Spare, share: float) -> bool:
        """Whether its holder lent it, within its share of the time that is left for all."""
        asked = HeldElsewhere(pool_id.pool, spare.address, spare.block, spare.holder)
        try:
            self.borrow(pool_id, asked, min(self._lending.patience, max(share, LEAST_PATIENCE)))
        except AddressTaken as error:
            log.info("address not lent", extra={"address": spare.address, "why": error})
            return False
        return True

    def return_quietly(self, pool: IPNetwork) -> None:
        """`give_back`, or later if the store is away, or another machine lives as this host. With no lock held: whether
        a store hangs is found out while nobody waits."""
        with self._ledger.lock(pool):
            if not self._to_give_back(pool):
                return
        try:
            self._tenancy.check()
            with self._ledger.lock(pool):
                self.give_back(pool)
        except StoreUnavailable as error:
            log.debug("borrowed addresses go back later", extra={"pool": pool, "why": error})

    def give_back(self, pool: IPNetwork) -> None:
        """Leave borrowed addresses that came back to whoever wants them, and in the end to their holders; at once
        where one was reserved meanwhile.

        That it returns is noted first: another host may have it as soon as the store was told, whether or not we hear
        the answer. While the store is away nothing is noted, so that a container may have the address again."""
        journal = self._ledger.of(pool)
        for address in self._to_give_back(pool):
            self._lending.borrower(pool, address)
            journal.note_returning(address)
            if journal.block_of(address) is not None:
                self._lending.give_back(pool, address)
        returning = [address for address, lease in journal.leases.items() if lease.kind == RETURNING]
        reserved = self._commons.reserved(pool) if returning else ()
        for address in returning:
            if address in reserved or journal.has_rested(address, IDLE_TIME):
                self._lending.give_back(pool, address)
                journal.forget(address)
            else:
                self._lending.offer(pool, address)

    def have_again(self, pool: IPNetwork, address: IPAddress) -> bool:
        """Whether a borrowed address that came back is this host's once more; if not, it is like any other."""
        if address not in self._commons.reserved(pool) and self._lending.take_over(pool, address):
            return True
        self._lending.give_back(pool, address)
        self._ledger.of(pool).forget(address)
        return False

    def _to_give_back(self, pool: IPNetwork) -> list[IPAddress]:
        leases = self._ledger.of(pool).leases.items()
        return [address for address, lease in leases if lease.kind == BORROWED and lease.released is not None]

    def give_up(self, pool: IPNetwork) -> None:
        """Nothing of the pool is borrowed or asked for any more: this host leaves it."""
        for address in self._lending.borrowed_by_me(pool):
            self._lending.give_back(pool, address)
        self._lending.withdraw(pool, self._borrowing)

    # lending to other hosts

    def answer_wishes(self, pool: IPNetwork) -> None:
        """Lend what others ask for from blocks of ours, or say why not."""
        if pool not in self._ledger.pools():
            return
        for address in self._lending.wishes(pool, tuple(self._ledger.of(pool).blocks)):
            with self._ledger.lock(pool):
                self._answer_wish(pool, address)

    def _answer_wish(self, pool: IPNetwork, address: IPAddress) -> None:
        journal = self._ledger.of(pool)
        block, lease = journal.block_of(address), journal.leases.get(address)
        self._tenancy.refuse_if_fenced()
        if block is None:
            return
        half_lent = lease is not None and lease.kind == LENT and self._lending.borrower(pool, address) is None
        if journal.is_reserved(address) or (half_lent and address in self._commons.reserved(pool)):
            self._lending.refuse(pool, address, f"address {address} is reserved in pool {pool}; choose another")
        elif journal.is_given(address) and not half_lent:
            user = self.user_of(pool, address).replace("this host", f"host {self._pools.host}")
            self._lending.refuse(pool, address, f"address {address} is already in use on {user}; choose another")
        else:
            journal.give(PoolId(pool), address, LENT)
            if self._lending.lend(pool, block, address):
                log.info("address lent", extra={"address": address})
            else:
                self.look_after(pool, address)

    def user_of(self, pool: IPNetwork, address: IPAddress) -> str:
        lease = self._ledger.of(pool).leases.get(address)
        lent = self._lending.borrower(pool, address) if lease and lease.kind == LENT else None
        return f"host {lent}, which borrowed it" if lent else "this host"

    def look_after(self, pool: IPNetwork, address: IPAddress) -> None:
        """A lent address comes back once nobody has its key, unless the borrower made it a reserved one meanwhile.
        One without a block is what a crash left."""
        journal = self._ledger.of(pool)
        block = journal.block_of(address)
        if block is None:
            journal.forget(address)
        elif self._lending.is_back(pool, block, address):
            if address in self._commons.reserved(pool):
                journal.reserve(address)
            elif self._tenancy.trusts_store():  # that answered even now
                journal.come_back(address)

    def look_after_all(self, pool: IPNetwork) -> None:
        """Also those that are lent and idle: this host needs them."""
        self._look_after_besides(pool, self._lending.used(pool))

    def _look_after_besides(self, pool: IPNetwork, borrowed: Collection[IPAddress]) -> None:
        for address in self._ledger.of(pool).lent:
            if address not in borrowed:
                self.look_after(pool, address)

    # both

    def knows_any(self, pool: IPNetwork) -> bool:
        """Whether this host's journal has a loan in the pool, of either side, or one that nobody here heard of."""
        return any(lease.kind in (BORROWED, LENT, RETURNING, LOST) for lease in self._ledger.of(pool).leases.values())

    def settle(self, pool: IPNetwork) -> None:
        """Make true again what an outage or a crash left."""
        self.give_back(pool)
        self._lending.withdraw(pool, self._borrowing)
        borrowed = self._lending.borrowed(pool)
        for address, host in borrowed.items():
            if host == self._pools.host and not self._needs_loan(pool, address):
                self._lending.give_back(pool, address)
        self._look_after_besides(pool, borrowed)

    def _needs_loan(self, pool: IPNetwork, address: IPAddress) -> bool:
        """Not if it is over, or nobody here heard of it, or the block became ours and the address was given anew."""
        lease = self._ledger.of(pool).leases.get(address)
        return address in self._borrowing or (lease is not None and lease.kind in (BORROWED, RETURNING, LOST))
