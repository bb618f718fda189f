"""This host's own record of one pool: its blocks and addresses, durable before Docker hears the answer.

Everything an address request needs is here, so that requests are answered without asking the cluster."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from heapq import merge
from ipaddress import ip_address, ip_network
from itertools import chain

from ipam import blocks
from ipam.book import REST, BlockBook
from ipam.model import PoolId
from store.interface import Store
from store.ip import IPAddress, IPNetwork
from store.local import LocalRecords

ENDPOINT = "endpoint"  # a container's
HOST = "host"  # this host's own
LENT = "lent"  # in a block of ours, but another host has it
BORROWED = "borrowed"  # a container's, in a block of another host
RETURNING = "returning"  # was borrowed, and is perhaps the other host's again
LOST = "lost"  # a container's, though another host may have it, too: its block or loan was lost for a while
CONTAINERS = (ENDPOINT, BORROWED, LOST)


@dataclass(frozen=True, slots=True)
class HeldBlock:
    """A block of ours; `reserved` are the addresses in it that nobody may be given."""

    reserved: tuple[IPAddress, ...] = ()
    dockers: bool = False  # Docker's own IPAM gives its addresses out


@dataclass(frozen=True, slots=True)
class Gateway:
    address: IPAddress
    dockers: bool = False  # Docker's own IPAM gives the pool's addresses out, though others have the pool by now


@dataclass(frozen=True, slots=True)
class Doubt:
    """Why it is not known whether what this host holds in a pool is still its own."""

    why: str


@dataclass(frozen=True, slots=True)
class Lease:
    """One address: under which pool id and to what it went, and when it came back if it rests."""

    pool_id: str
    kind: str
    released: float | None = None  # seconds since the epoch
    since: float = 0.0  # when it was given, likewise
    reserved: bool = False  # borrowed for all hosts: nobody's any more, until this host leaves the pool


class PoolJournal:
    """Blocks and addresses of one pool. Callers hold the pool's lock."""

    def __init__(
        self, store: Store, pool: IPNetwork, clock: Callable[[], float], left: Mapping[IPAddress, float] = {}
    ) -> None:
        """`left` are addresses that rest from the time before this host last left the pool, by their release."""
        self._pool, self._clock, self._left = pool, clock, left
        self._blocks = LocalRecords(store, f"blocks/{pool} ", HeldBlock, ip_network)
        self._leases = LocalRecords(store, f"addresses/{pool} ", Lease, ip_address)
        self._gateway = LocalRecords(store, f"gateways/{pool}", Gateway, str)
        self._doubt = LocalRecords(store, f"doubts/{pool}", Doubt, str)
        self.blocks = self._blocks.records
        self.leases = self._leases.records
        self._books = {block: self._book(block) for block in sorted(self.blocks, key=_first)}

    def _book(self, block: IPNetwork) -> BlockBook:
        here = self._in(block)
        given = [address for address, lease in here.items() if lease.released is None]
        released = {a: moment for a, moment in self._left.items() if a in block and a not in here}
        released |= {a: lease.released for a, lease in here.items() if lease.released is not None}
        # Docker's own IPAM may have a pool of millions: nothing of it is ours to give.
        usable = () if self.blocks[block].dockers else blocks.usable(self._pool, block)
        return BlockBook(block, usable, given, released)

    # the gateway

    @property
    def gateway(self) -> IPAddress | None:
        known = self._gateway.records.get("")
        return known.address if known else None

    def learn_gateway(self, gateway: IPAddress) -> None:
        if gateway != self.gateway:
            self._gateway.put("", Gateway(gateway))

    # the fence of this pool alone

    @property
    def doubt(self) -> str | None:
        doubt = self._doubt.records.get("")
        return doubt.why if doubt else None

    def note_doubt(self, why: str | None) -> None:
        """Nothing is given out while there is one, also after a crash."""
        if why is None:
            self._doubt.remove("")
        elif why != self.doubt:
            self._doubt.put("", Doubt(why))

    # blocks

    def add_block(
        self,
        block: IPNetwork,
        reserved: tuple[IPAddress, ...],
        lent: Collection[IPAddress],
        back: Collection[IPAddress] = (),
        *,
        dockers: bool = False,
    ) -> list[IPAddress]:
        """`lent` are those that other hosts have, `back` those that this host has borrowed until now, or that a crash
        left so. They come first: after a crash between the two, the block is not ours yet and is looked at again.

        Returns which of `lent` are in use here, too; they belong to the other hosts from now on, whatever we knew. But
        those that containers here have stay theirs, too: what the other host gives back is not free."""
        doubly = []
        for address in lent:
            lease = self.leases.get(address)
            if lease is not None and _is_worn(lease):
                self._leases.put(address, replace(lease, kind=LOST))
            elif lease is None or lease.kind != LENT or lease.released is not None:
                self._leases.put(address, Lease("", LENT))
            if lease is not None and lease.kind in (HOST, *CONTAINERS) and lease.released is None:
                doubly.append(address)
        for address in back:
            if address not in self.leases or self.leases[address].kind == RETURNING:
                self._leases.put(address, Lease("", LENT))
        self._blocks.put(block, HeldBlock(reserved, dockers))
        self._books = dict(sorted({**self._books, block: self._book(block)}.items(), key=lambda item: _first(item[0])))
        return doubly

    def drop_block(self, block: IPNetwork) -> dict[IPAddress, Lease]:
        """Forget a block; returns the leases in it that are still in use. What containers have stays theirs here: were
        the block ours again, or one of its addresses borrowed, nobody else may be given them."""
        here = self._in(block)
        worn = [address for address, lease in here.items() if _is_worn(lease)]
        for address in worn:
            self.lose(address)
        if self.gateway is not None and self.blocks[block].dockers:
            self._gateway.put("", Gateway(self.gateway, dockers=True))
        self._leases.remove(*(here.keys() - {*worn}))
        self._blocks.remove(block)
        self._books.pop(block, None)
        return {address: lease for address, lease in here.items() if lease.released is None}

    def _in(self, block: IPNetwork) -> dict[IPAddress, Lease]:
        return {address: lease for address, lease in self.leases.items() if address in block}

    def lose(self, address: IPAddress) -> None:
        """It may be another host's by now; if a container here has it, it is given all the same."""
        lease = self.leases[address]
        if _is_worn(lease):
            self._leases.put(address, replace(lease, kind=LOST))
        else:
            self._leases.remove(address)

    @property
    def is_dockers(self) -> bool:
        """Whether Docker's own IPAM gives the pool's addresses out. It goes on with that when the pool is lost."""
        known = self._gateway.records.get("")
        return any(held.dockers for held in self.blocks.values()) or (known is not None and known.dockers)

    def block_of(self, address: IPAddress) -> IPNetwork | None:
        return next((block for block in self.blocks if address in block), None)

    def books(self) -> Iterable[BlockBook]:
        return self._books.values()

    def reserve(self, address: IPAddress) -> None:
        """Give this address, ours or borrowed, to nobody any more. One that was lost is its container's until that
        ends."""
        block = self.block_of(address)
        if block is None:
            self._leases.put(address, replace(self.leases[address], reserved=True))
            return
        held = self.blocks[block]
        if address not in held.reserved:
            self._blocks.put(block, replace(held, reserved=(*held.reserved, address)))
        if address in self.leases and self.leases[address].kind != LOST:
            self.forget(address)

    def unreserve(self, address: IPAddress) -> None:
        for block, held in list(self.blocks.items()):
            if address in held.reserved:
                self._blocks.put(block, replace(held, reserved=tuple(a for a in held.reserved if a != address)))
        self.unreserve_borrowed(address)

    def unreserve_borrowed(self, address: IPAddress) -> None:
        """It goes back, and its holder keeps it back if the cluster does: so no container may have it unasked."""
        lease = self.leases.get(address)
        if lease is None or not lease.reserved:
            return
        if self.block_of(address) is None:
            self._leases.put(address, replace(lease, kind=RETURNING, reserved=False, released=self._clock()))
        else:
            self.forget(address)

    def kept_back(self) -> set[IPAddress]:
        """All that are reserved, of ours and of what we borrowed."""
        borrowed = {address for address, lease in self.leases.items() if lease.reserved}
        return borrowed.union(*(held.reserved for held in self.blocks.values()))

    # addresses

    def is_reserved(self, address: IPAddress) -> bool:
        lease = self.leases.get(address)
        kept_back = lease is not None and lease.reserved
        return kept_back or address == self.gateway or any(address in held.reserved for held in self.blocks.values())

    def is_given(self, address: IPAddress) -> bool:
        lease = self.leases.get(address)
        return lease is not None and lease.released is None

    def given_since(self, address: IPAddress) -> float | None:
        return self.leases[address].since if self.is_given(address) else None

    @property
    def lent(self) -> list[IPAddress]:
        """The addresses of ours that other hosts have, or may have."""
        given = [address for address, lease in self.leases.items() if lease.released is None]
        return [a for a in given if self.leases[a].kind == LENT or self._is_lost_in_ours(a)]

    def _is_lost_in_ours(self, address: IPAddress) -> bool:
        return self.leases[address].kind == LOST and self.block_of(address) is not None

    def choose(self, now: float, rest: float, within: IPNetwork | None) -> IPAddress | None:
        """The lowest address of our blocks that was never used, else the one that has rested longest."""
        fresh = (address for book in self.books() for address in book.fresh())
        rested = (address for _, address in merge(*(book.rested(now, rest) for book in self.books())))
        fits = (a for a in chain(fresh, rested) if not self.is_reserved(a) and (within is None or a in within))
        return next(fits, None)

    def give(self, pool_id: PoolId, address: IPAddress, kind: str) -> None:
        self._leases.put(address, Lease(str(pool_id), kind, since=self._clock()))
        if book := self._book_of(address):
            book.give(address)

    def take_back(self, address: IPAddress) -> None:
        """What a container here had: free again, after a rest; where it was lost, the other host's alone from now on.

        Anything else stays as it is. Docker may say a release once more, or let a network's --aux-address go: by then
        another host may have borrowed the address."""
        lease = self.leases.get(address)
        if lease is None or not _is_worn(lease):
            return
        if lease.kind != LOST:
            self.free(address)
        elif self._is_lost_in_ours(address):
            self._leases.put(address, Lease("", LENT))
        else:
            self.forget(address)

    def free(self, address: IPAddress) -> None:
        """Nobody has it any more: it rests from now on, if it does not yet."""
        lease = self.leases[address]
        if lease.released is None:
            moment = self._clock()
            self._leases.put(address, replace(lease, released=moment))
            if book := self._book_of(address):
                book.take_back(address, moment)

    def come_back(self, address: IPAddress) -> None:
        """No other host has this address of ours any more: it is free, or its container here is in the right again."""
        lease = self.leases[address]
        if lease.kind == LOST:
            self._leases.put(address, replace(lease, kind=ENDPOINT))
        else:
            self.free(address)

    def note_returning(self, address: IPAddress) -> None:
        """A borrowed address that came back is for whoever wants it: from now on it is not ours to give, and lent where
        its block became ours meanwhile."""
        if self.block_of(address) is None:
            self._leases.put(address, replace(self.leases[address], kind=RETURNING))
        else:
            self.give(PoolId(self._pool), address, LENT)

    def has_rested(self, address: IPAddress, seconds: float) -> bool:
        """Whether an address that came back did so long ago."""
        return self._clock() - (self.leases[address].released or 0.0) > seconds

    def forget(self, address: IPAddress) -> None:
        """As if nobody ever had it: for one that goes back to another host, or that is reserved."""
        self._leases.remove(address)
        if (book := self._book_of(address)) is not None:
            self._books[book.block] = self._book(book.block)

    def _book_of(self, address: IPAddress) -> BlockBook | None:
        return next((book for block, book in self._books.items() if address in block), None)

    def worn_of(self, pool_id: PoolId) -> list[IPAddress]:
        """The addresses that containers have by this pool id."""
        return [a for a, lease in self.leases.items() if lease.pool_id == str(pool_id) and _is_worn(lease)]

    def release_all_of(self, pool_id: PoolId) -> None:
        for address in self.worn_of(pool_id):
            self.take_back(address)

    def resting(self, now: float) -> dict[IPAddress, float]:
        """The release of each address that has not rested yet, if this host leaves the pool at this moment."""
        known = {a: now if lease.released is None else lease.released for a, lease in self.leases.items()}
        return {a: moment for a, moment in {**self._left, **known}.items() if 0 <= now - moment < REST}

    def drop_all(self) -> None:
        """The blocks last, and before them the gateway, since all blocks may be lost: as long as one of these is
        known, so is the pool, and a crash halfway is found."""
        self._doubt.remove("")
        self._leases.remove(*self.leases)
        self._gateway.remove("")
        self._blocks.remove(*self.blocks)
        self._books.clear()


def _is_worn(lease: Lease) -> bool:
    """Whether a container here has the address."""
    return lease.released is None and not lease.reserved and lease.kind in CONTAINERS


def _first(block: IPNetwork) -> int:
    return int(block.network_address)
