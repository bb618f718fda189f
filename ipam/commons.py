"""Addresses that belong to the pool, not to a host, as the cluster knows them: its gateway, and those that are reserved
(--aux-address). Both stand in the pool's record."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

from ipam import blocks
from ipam.errors import AddressTaken, PoolConflict
from ipam.pools import Pools, shared
from ipam.tenancy import Tenancy
from store import records
from store.codec import decode, encode
from store.interface import ABSENT, Change, Check, Contended, Entry, Put, Store
from store.ip import IPAddress, IPNetwork
from store.shared import read_open
from store.update import ATTEMPTS

Fix = Callable[[IPNetwork, Collection[IPAddress]], IPAddress | None]


class Commons:
    def __init__(self, store: Store, pools: Pools, tenancy: Tenancy) -> None:
        self._store, self._pools, self._tenancy = store, pools, tenancy

    def fix_gateway(self, pool: IPNetwork, wanted: IPAddress | None, besides: IPAddress | None = None) -> IPAddress:
        """The pool's gateway, chosen by whoever comes first; the same on every host. It is not chosen to be `besides`.

        It may lie in anybody's block: no host gives out an address of the pool before it knows the gateway."""
        for _ in range(ATTEMPTS):
            opened = self._pools.opened(pool)
            hearsay = self._tenancy.is_hearsay(None)  # the pool of a backup may be an older one of that prefix
            gateway = wanted if wanted and hearsay else _gateway(pool, opened.record, wanted, besides)
            record = replace(opened.record, gateway=gateway)
            put = Put(records.pool_key(pool), encode(record), opened.version)
            if record == opened.record or self._store.commit(put):
                return gateway
        raise Contended(f"pool {pool}: other hosts kept changing it; try again")

    def reserved(self, pool: IPNetwork) -> tuple[IPAddress, ...]:
        opened = read_open(self._store, shared(pool))
        return opened.record.reserved if opened else ()

    def reserve(self, wanted: Mapping[IPNetwork, Collection[IPAddress]], fix: Fix) -> None:
        """Keep these addresses of these pools from every host: all, or none and AddressTaken. Doing so twice is fine.

        `fix` reserves those in blocks of ours, or lent to us, in this host's journal, or returns one that somebody
        has. This host's record is checked, too: after its next beat, none of this can happen any more."""
        for _ in range(ATTEMPTS):
            changes = [c for pool, addresses in wanted.items() for c in self._reserving(pool, addresses, fix)]
            if not changes:
                return
            in_nobodys_block = any(isinstance(change, Check) and change.expect == ABSENT for change in changes)
            checks = self._tenancy.check_new() if in_nobodys_block else (self._tenancy.check(),)
            if self._store.commit(*changes, *checks):
                return
        raise Contended(f"{', '.join(map(str, wanted))}: other hosts kept changing the pool; try again")

    def _reserving(self, pool: IPNetwork, addresses: Collection[IPAddress], fix: Fix) -> list[Change]:
        """Insists that no other host has, or takes, the blocks of these addresses, but for those that it lent us."""
        opened = self._pools.opened(pool)
        missing = [address for address in addresses if address not in opened.record.reserved]
        if not missing:
            return []
        block_of = {address: blocks.block_holding(pool, opened.record.block_prefix, address) for address in missing}
        entries = {block: self._store.get(records.block_key(pool, block)) for block in block_of.values()}
        owners = {block: decode(records.Block, entry.value).host for block, entry in entries.items() if entry}
        theirs = [a for a, block in block_of.items() if owners.get(block, self._pools.host) != self._pools.host]
        loans = {a: self._store.get(records.borrowed_key(pool, a)) for a in theirs}
        not_lent = next((a for a, loan in loans.items() if not self._is_ours(loan)), None)
        taken = not_lent or fix(pool, [a for a, block in block_of.items() if block in owners])
        if taken is not None:
            owner = owners[block_of[taken]]
            raise AddressTaken(f"address {taken} is in a block that host {owner} already uses; choose another")
        record = replace(opened.record, reserved=(*opened.record.reserved, *missing))
        checks = [Check(records.block_key(pool, b), entry.version if entry else ABSENT) for b, entry in entries.items()]
        checks += [Check(records.borrowed_key(pool, a), loan.version) for a, loan in loans.items() if loan]
        return [Put(records.pool_key(pool), encode(record), opened.version), *checks]

    def _is_ours(self, loan: Entry | None) -> bool:
        return loan is not None and decode(records.Borrowed, loan.value).host == self._pools.host


def _gateway(pool: IPNetwork, record: records.Pool, wanted: IPAddress | None, besides: IPAddress | None) -> IPAddress:
    if record.gateway is None:
        spoken_for = (*record.reserved, besides)
        return wanted or next(address for address in blocks.usable(pool, pool) if address not in spoken_for)
    if wanted not in (None, record.gateway):
        raise PoolConflict(
            f"pool {pool} has gateway {record.gateway} in the cluster, not {wanted}; use --gateway {record.gateway}"
        )
    return record.gateway
