"""The blocks that this host holds: taking them, having the next one in hand, and looking again at all of them after a
lost lease, or in a store that has forgotten."""

import logging
from dataclasses import replace

from ipam.commons import Commons
from ipam.errors import IpamError, PoolConflict, PoolExhausted
from ipam.ledger import Ledger, each_by_itself
from ipam.lending import Lending
from ipam.model import PoolId
from ipam.pool_journal import BORROWED, HeldBlock, PoolJournal
from ipam.pools import Claim, OtherGateway, Pools
from store.codec import BadRecord
from store.ip import IPAddress, IPNetwork, contains, overlap

log = logging.getLogger(__name__)

LOW_WATER = 4  # the next block is taken when less than this part of one is free
DOUBLY_USED = "address in use here may be in use elsewhere, too"


class Holdings:
    def __init__(self, ledger: Ledger, pools: Pools, commons: Commons, lending: Lending) -> None:
        self._ledger, self._pools, self._commons, self._lending = ledger, pools, commons, lending

    def need_block(self, pool_id: PoolId) -> None:
        """A host may use a pool that has no block left: its addresses are borrowed one by one."""
        held = self._ledger.of(pool_id.pool).blocks
        if not any(overlap(block, pool_id.range or pool_id.pool) for block in held):
            try:
                self.take_block(pool_id)
            except PoolExhausted as error:
                log.warning("no block for this host", extra={"pool": pool_id, "why": error})

    def take_block(self, pool_id: PoolId, wanted: IPAddress | None = None) -> None:
        pool = pool_id.pool
        held, gateway = tuple(self._ledger.of(pool).blocks), self._ledger.of(pool).gateway
        try:
            claim = self._pools.take_block(pool_id, held, wanted, gateway)
        except OtherGateway:
            self._commons.fix_gateway(pool, gateway)
            claim = self._pools.take_block(pool_id, held, wanted, gateway)
        self._add_block(pool, claim)
        log.info("block taken", extra={"pool": pool, "block": claim.block})

    def _add_block(self, pool: IPNetwork, claim: Claim, *, dockers: bool = False) -> None:
        """Its loans are read after it became ours: from then on nobody else can grant one."""
        loans = {address: host for address, host in self._lending.borrowed(pool).items() if address in claim.block}
        lent = [address for address, host in loans.items() if host != self._pools.host]
        back = [address for address, host in loans.items() if host == self._pools.host]
        for address in self._ledger.of(pool).add_block(claim.block, claim.reserved, lent, back, dockers=dockers):
            log.error(DOUBLY_USED, extra={"address": address})

    def adopt(self, pool: IPNetwork, gateway: IPAddress) -> None:
        """Have a pool whose addresses Docker's own IPAM gives out: all of it, or PoolConflict."""
        self._pools.adopt(pool, gateway, new=True)
        journal = self._ledger.of(pool)
        journal.learn_gateway(gateway)
        journal.add_block(pool, (), (), dockers=True)

    def fix_gateway(self, pool: IPNetwork, wanted: IPAddress | None, besides: IPAddress | None = None) -> IPAddress:
        gateway = self._commons.fix_gateway(pool, wanted, besides)
        self._ledger.of(pool).learn_gateway(gateway)
        return gateway

    def keep_in_hand(self) -> None:
        """Take the next block before the last one is full, so that an outage of the store finds addresses at hand."""
        each_by_itself(self._ledger.journal.pool_ids(), self._keep_in_hand)

    def _keep_in_hand(self, pool_id: PoolId) -> None:
        if self._is_low(pool_id):
            self._pools.owners(pool_id.pool)  # a store that hangs is found out while nobody waits for the lock
            with self._ledger.lock(pool_id.pool):
                self._need_next_block(pool_id)

    def _is_low(self, pool_id: PoolId) -> bool:
        with self._ledger.lock(pool_id.pool):
            journal = self._ledger.of(pool_id.pool)
            books = [b for b in journal.books() if overlap(b.block, pool_id.range or b.block)]
            size = max((book.size_within(pool_id.range) for book in books), default=0)
            whole = pool_id.range is not None and any(contains(book.block, pool_id.range) for book in books)
            low = sum(book.free_within(pool_id.range) for book in books) < size // LOW_WATER
            return not books or (low and not whole and not journal.is_dockers)

    def _need_next_block(self, pool_id: PoolId) -> None:
        if not self._is_low(pool_id):
            return
        journal = self._ledger.of(pool_id.pool)
        try:
            if journal.gateway is not None and journal.is_dockers:
                self.adopt(pool_id.pool, journal.gateway)  # others have had it, and perhaps no more
            else:
                self.take_block(pool_id)
        except (PoolExhausted, PoolConflict) as error:
            log.debug("no next block", extra={"pool": pool_id, "why": error})

    # after a lost lease, and in a store that has forgotten

    def verify(self) -> None:
        """What is still ours, or free and ours again, stays; the rest is lost, and said so."""
        for pool in self._ledger.pools():
            with self._ledger.lock(pool):
                if self._ledger.journal.is_held(pool):
                    self._verify_or_doubt(pool)

    def verify_doubtful(self, pool: IPNetwork) -> None:
        """Again, where that failed. Callers hold the pool's lock."""
        if self._ledger.of(pool).doubt is not None:
            self._verify_or_doubt(pool)

    def _verify_or_doubt(self, pool: IPNetwork) -> None:
        """A pool whose records are damaged, or contradict ours, is fenced alone: other pools go on."""
        journal = self._ledger.of(pool)
        try:
            self._verify_pool(pool)
        except (BadRecord, IpamError) as error:
            if str(error) != journal.doubt:
                log.error("pool not compared with the store", extra={"pool": pool, "why": error})
            journal.note_doubt(str(error))
        else:
            journal.note_doubt(None)

    def _verify_pool(self, pool: IPNetwork) -> None:
        journal = self._ledger.of(pool)
        try:
            self._join_again(pool, journal)
        except PoolConflict as error:
            log.error("pool lost: the cluster has another use for it by now", extra={"pool": pool, "why": error})
            for block in list(journal.blocks):
                self._lose_block(pool, block)
        self._lending.strike_hearsay(pool, tuple(journal.blocks), tuple(journal.lent))
        for block, held in list(journal.blocks.items()):
            claim = self._pools.retake_block(pool, block)
            if claim is None:
                self._lose_block(pool, block)
            else:
                self._add_block(pool, self._reserved_again(pool, claim, held), dockers=held.dockers)
        borrowed = [address for address, lease in journal.leases.items() if lease.kind == BORROWED]
        for address in [a for a in borrowed if not self._lending.confirm(pool, a)]:
            journal.lose(address)
            log.error("borrowed address lost; if in use here, it may be in use elsewhere", extra={"address": address})

    def _reserved_again(self, pool: IPNetwork, claim: Claim, held: HeldBlock) -> Claim:
        """A store that has forgotten, or a pool that went and was made anew meanwhile, is told again what was reserved
        in a block of ours: networks here still name it."""
        missing = {*held.reserved} - {*claim.reserved}
        missing -= self._lending.borrowed(pool).keys() if missing else set()
        self._commons.reserve({pool: missing}, lambda *_: None)
        return replace(claim, reserved=(*claim.reserved, *missing))

    def _join_again(self, pool: IPNetwork, journal: PoolJournal) -> None:
        """With the properties that it had when our blocks were cut out of it."""
        gateway = journal.gateway
        if gateway is not None and journal.is_dockers:
            self._pools.adopt(pool, gateway)
            return
        self._pools.join(pool, next((block.prefixlen for block in journal.blocks), None))
        if gateway is not None:
            self._commons.fix_gateway(pool, gateway)

    def _lose_block(self, pool: IPNetwork, block: IPNetwork) -> None:
        lost = self._ledger.of(pool).drop_block(block)
        log.error("block lost to another host", extra={"pool": pool, "block": block})
        for address in lost:
            log.error(DOUBLY_USED, extra={"address": address})
