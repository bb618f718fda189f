"""One address of another host's block: asked for by the borrower, lent by the holder, each by check-and-set.

The holder gives its addresses out without asking anybody, so nobody can take one from it: it must agree. The borrower
writes a wish; the holder, which watches the pool, notes in its own journal that the address is lent, and then turns
the wish into the borrower's key in one transaction. All hosts route a borrowed address to the borrower.

Once its container is gone the key stays for a while, marked as idle. Whoever wants the address first, the borrower once
more (after a reboot), another host or the holder, writes the key anew or removes it: nobody has to answer."""

import random
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

from ipam import blocks
from ipam.errors import AddressTaken
from ipam.pools import HeldElsewhere
from ipam.tenancy import Tenancy
from store import records
from store.codec import decode, encode
from store.interface import ABSENT, Check, Contended, Delete, Entry, Put, Store
from store.ip import IPAddress, IPNetwork
from store.shared import remove_member
from store.update import ATTEMPTS

PATIENCE = 3.0  # seconds to wait for a holder's answer
HEARSAY = 0.5  # seconds after which everybody has told which addresses came back


class NoAnswer(AddressTaken):
    """The holder of the address does not answer."""


@dataclass(frozen=True, slots=True)
class Spare:
    """A free address of another host's block, and how many that has, as far as the host has told."""

    address: IPAddress
    block: IPNetwork
    holder: str
    free: int


class Lending:
    def __init__(
        self,
        store: Store,
        host: str,
        tenancy: Tenancy,
        patience: float = PATIENCE,
        clock: Callable[[], float] = time.monotonic,
        hearsay: float = HEARSAY,
    ) -> None:
        self.hearsay, self.patience, self.clock = hearsay, patience, clock
        self._store, self._host, self._tenancy = store, host, tenancy

    # the borrower's side

    def borrow(self, asked: HeldElsewhere, patience: float) -> None:
        """Make the address this host's, or AddressTaken with the holder's sentence. Waits for at most `patience`
        seconds, so hold no lock."""
        loan = self._loan(asked.pool, asked.address)
        if loan is None:
            self._wish(asked)
            self._await_answer(asked, patience)
        elif not self.take_over(asked.pool, asked.address):
            raise AddressTaken(
                f"address {asked.address} is in use on host {loan[0].host}, which borrowed it; choose another"
            )

    def take_over(self, pool: IPNetwork, address: IPAddress) -> bool:
        """Have an address that is lent and idle. One of another epoch is left alone: whether it is still lent, nobody
        has told the store. One that a crash left with this host becomes idle first: written as it stands, Consul would
        not count it as written, and what was sent before could still come true."""
        self.offer(pool, address)
        key = records.borrowed_key(pool, address)
        for _ in range(ATTEMPTS):
            loan = self._loan(pool, address)
            if loan is None or not loan[0].idle or loan[0].epoch != self._tenancy.epoch:
                return False
            mine = encode(records.Borrowed(self._host, self._tenancy.epoch))
            if self._store.commit(*self._tenancy.check_new(), Put(key, mine, loan[1])):
                return True
        raise Contended(f"{key}: other hosts kept writing it; try again")

    def _wish(self, asked: HeldElsewhere) -> None:
        key, block_key = records.wanted_key(asked.pool, asked.address), records.block_key(asked.pool, asked.block)
        wish = Put(key, encode(records.Wanted(self._host)), ABSENT)
        for _ in range(ATTEMPTS):
            block = self._store.get(block_key)
            if block is None or decode(records.Block, block.value).host != asked.holder:
                raise AddressTaken(f"the block of address {asked.address} has just changed hands; try again")
            holder = Check(block_key, block.version)
            if self._store.commit(holder, self._tenancy.check(), wish) or self._is_wished(asked):
                return
        raise Contended(f"{key}: other hosts kept writing it; try again")

    def _is_wished(self, asked: HeldElsewhere) -> bool:
        """Whether this host's wish stands, as a crash may leave it; AddressTaken if another host's does."""
        standing = self._wanted(asked.pool, asked.address)
        if standing is not None and standing[0].host != self._host:
            raise AddressTaken(f"another host is asking for address {asked.address}, too; try again or choose another")
        return standing is not None

    def _await_answer(self, asked: HeldElsewhere, patience: float) -> None:
        key, seen = records.wanted_key(asked.pool, asked.address), 0
        deadline = self.clock() + patience
        while True:
            standing = self._wanted(asked.pool, asked.address)
            if self.borrower(asked.pool, asked.address) == self._host:
                remove_member(self._store, key)
                return
            if standing is None:
                raise AddressTaken(f"the wish for address {asked.address} was lost; try again")
            wish, version = standing
            if wish.refused is not None:
                self._store.commit(Delete(key, version))
                raise AddressTaken(wish.refused)
            left = deadline - self.clock()
            if left <= 0 and self._store.commit(Delete(key, version)):
                raise NoAnswer(f"{asked}; that host did not answer in {patience:.0f} s, so it cannot lend the address")
            seen = self._store.wait(key, seen, max(left, 0)).version

    def offer(self, pool: IPNetwork, address: IPAddress) -> None:
        """A borrowed address that no container has any more is for whoever wants it first. One that is not ours is left
        alone."""
        loan = self._loan(pool, address)
        if loan is None or loan[0].host != self._host:
            return
        if loan[0].epoch != self._tenancy.epoch:
            self.give_back(pool, address)  # nobody could take it over
        elif not loan[0].idle:
            self._store.commit(Put(records.borrowed_key(pool, address), encode(replace(loan[0], idle=True)), loan[1]))

    def give_back(self, pool: IPNetwork, address: IPAddress) -> None:
        """A borrowed address belongs to its block's holder again. One that is not ours is left alone."""
        loan = self._loan(pool, address)
        if loan is not None and loan[0].host == self._host:  # an idle one may go to another host at any moment
            self._store.commit(Delete(records.borrowed_key(pool, address), loan[1]))

    def confirm(self, pool: IPNetwork, address: IPAddress) -> bool:
        """Whether a borrowed address is still this host's; a store that has forgotten the loan is told again."""
        key, mine = records.borrowed_key(pool, address), records.Borrowed(self._host, self._tenancy.epoch)
        for _ in range(ATTEMPTS):
            entry = self._store.get(key)
            loan = decode(records.Borrowed, entry.value) if entry else None
            if not (loan and loan.host == self._host) and not self._tenancy.is_hearsay(loan):
                return False
            if self._store.commit(self._tenancy.check(), Put(key, encode(mine), entry.version if entry else ABSENT)):
                return True
        raise Contended(f"{key}: other hosts kept writing it; try again")

    def strike_hearsay(self, pool: IPNetwork, held: Collection[IPNetwork], lent: Collection[IPAddress]) -> None:
        """Remove loans of addresses in these blocks of ours that only a backup tells of: all but of those `lent`."""
        for key, entry in self._store.read(records.borrowed_prefix(pool)).entries.items():
            address = records.address_of_key(key)
            ours = address not in lent and any(address in block for block in held)
            if ours and self._tenancy.is_hearsay(decode(records.Borrowed, entry.value)):
                self._store.commit(self._tenancy.check(), Delete(key, entry.version))

    def borrowed_by_me(self, pool: IPNetwork) -> set[IPAddress]:
        return {address for address, host in self.borrowed(pool).items() if host == self._host}

    def withdraw(self, pool: IPNetwork, besides: Collection[IPAddress]) -> None:
        """Take back wishes of ours that nobody waits for any more, all but `besides`."""
        for key, entry in records.sound(self._store.read(records.wanted_prefix(pool)).entries):
            mine = decode(records.Wanted, entry.value).host == self._host
            if mine and records.address_of_key(key) not in besides:
                self._store.commit(Delete(key, entry.version))

    # what stands in the store

    def borrower(self, pool: IPNetwork, address: IPAddress) -> str | None:
        loan = self._loan(pool, address)
        return loan[0].host if loan else None

    def _loan(self, pool: IPNetwork, address: IPAddress) -> tuple[records.Borrowed, int] | None:
        entry = self._store.get(records.borrowed_key(pool, address))
        return (decode(records.Borrowed, entry.value), entry.version) if entry else None

    def borrowed(self, pool: IPNetwork) -> dict[IPAddress, str]:
        return {address: loan.host for address, loan in self._loans(pool).items()}

    def used(self, pool: IPNetwork) -> set[IPAddress]:
        """Of the borrowed addresses, those that are not idle."""
        return {address for address, loan in self._loans(pool).items() if not loan.idle}

    def _loans(self, pool: IPNetwork) -> dict[IPAddress, records.Borrowed]:
        entries = self._store.read(records.borrowed_prefix(pool)).entries
        return {
            records.address_of_key(key): decode(records.Borrowed, entry.value) for key, entry in records.sound(entries)
        }

    def _wanted(self, pool: IPNetwork, address: IPAddress) -> tuple[records.Wanted, int] | None:
        entry: Entry | None = self._store.get(records.wanted_key(pool, address))
        return (decode(records.Wanted, entry.value), entry.version) if entry else None

    def likely_free(
        self, pool: IPNetwork, within: IPNetwork | None, besides: Collection[IPAddress | None]
    ) -> list[Spare]:
        """Addresses that other hosts do not use as far as they have told, one per block; the block with most first."""
        loans = self._loans(pool)
        idle = {address for address, loan in loans.items() if loan.idle}
        taken: set[IPAddress | None] = {*besides, *loans.keys() - idle}
        found = []
        leases = self._store.read(records.leases_prefix(pool)).entries
        for key, entry in records.sound(self._store.read(records.blocks_prefix(pool)).entries):
            block, holder = records.block_of_key(key), decode(records.Block, entry.value).host
            told = leases.get(records.leases_key(pool, block))
            given = set(decode(records.BlockLeases, told.value).given) - idle if told else set()
            free = [a for a in blocks.usable(pool, block) if a not in taken | given and (within is None or a in within)]
            if free and holder != self._host:
                found.append(Spare(random.choice(free), block, holder, len(free)))  # noqa: S311 - keeps borrowers apart
        return sorted(found, key=lambda spare: -spare.free)

    # the holder's side

    def wishes(self, pool: IPNetwork, held: Collection[IPNetwork]) -> list[IPAddress]:
        """The addresses in these blocks of ours that others wait for."""
        found, lent = [], self.borrowed(pool)
        for key, entry in records.sound(self._store.read(records.wanted_prefix(pool)).entries):
            wish, address = decode(records.Wanted, entry.value), records.address_of_key(key)
            open_wish = wish.is_open and wish.host != self._host and lent.get(address) != wish.host
            if open_wish and any(address in block for block in held):
                found.append(address)
        return found

    def lend(self, pool: IPNetwork, block: IPNetwork, address: IPAddress) -> bool:
        """Turn the wish for an address of ours into the other host's. False if nobody wants it any more, or the block
        is not ours any more."""
        key, block_key = records.borrowed_key(pool, address), records.block_key(pool, block)
        for _ in range(ATTEMPTS):
            standing, ours = self._wanted(pool, address), self._store.get(block_key)
            if standing is None or not standing[0].is_open or ours is None or not self._is_mine(ours):
                return False
            lent = Put(key, encode(records.Borrowed(standing[0].host, self._tenancy.epoch)), ABSENT)
            # The wish is answered, too: it is what the borrower watches.
            answer = encode(records.Wanted(standing[0].host, granted=True))
            wish = Put(records.wanted_key(pool, address), answer, standing[1])
            if self._store.commit(*self._tenancy.check_new(), Check(block_key, ours.version), wish, lent):
                return True
        raise Contended(f"{key}: other hosts kept writing it; try again")

    def _is_mine(self, block: Entry | None) -> bool:
        return block is not None and decode(records.Block, block.value).host == self._host

    def is_back(self, pool: IPNetwork, block: IPNetwork, address: IPAddress) -> bool:
        """Whether an address of ours that was to be lent is nobody's, and will not become anybody's; an idle loan ends.

        The wish is looked at first: while it stands, a transaction whose answer was lost may still turn it into a
        loan. A store that does not show our own block hides, or has lost, the loan as well; whether it forgot is
        looked at last, when the rest was read."""
        standing = self._wanted(pool, address)
        if standing is not None and standing[0].is_open:
            return False
        loan = self._loan(pool, address)
        if loan is not None and not loan[0].idle:
            return False
        if not (self._is_mine(self._store.get(records.block_key(pool, block))) and self._tenancy.trusts_store()):
            return False
        return loan is None or self._store.commit(Delete(records.borrowed_key(pool, address), loan[1]))

    def refuse(self, pool: IPNetwork, address: IPAddress, why: str) -> None:
        standing = self._wanted(pool, address)
        if standing is not None and standing[0].is_open:
            no = records.Wanted(standing[0].host, why)
            self._store.commit(Put(records.wanted_key(pool, address), encode(no), standing[1]))
