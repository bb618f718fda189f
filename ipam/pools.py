"""What the cluster knows of pools and blocks: taking them and giving them back, each by check-and-set.

A block belongs to exactly one host because its key is only ever created, in a transaction that also checks the
pool's record and this host's lease. So whoever holds a block knows which of its addresses were reserved when it was
taken, and nobody else reserves one in it afterwards."""

import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from ipam import blocks
from ipam.errors import BadRequest, PoolConflict, PoolExhausted
from ipam.model import PoolId
from ipam.tenancy import Tenancy
from store import records
from store.codec import decode, encode
from store.feed import MAX_CHANGES
from store.interface import ABSENT, Change, Check, Contended, Delete, Entry, Put, Store
from store.ip import IPAddress, IPNetwork, overlap
from store.shared import Opened, Shared, close_if_empty, create, read_open
from store.update import ATTEMPTS, pause_after

BATCH = MAX_CHANGES - 1  # changes beside the check of the lease


@dataclass(frozen=True, slots=True)
class Plan:
    """How this cluster cuts addresses: where pools come from when none is named, and how large blocks are."""

    pool_ranges: tuple[tuple[IPNetwork, int], ...]  # (from, prefix length of each pool)
    block_host_bits: int


@dataclass(frozen=True, slots=True)
class Claim:
    """A block of this host, and the addresses in it that nobody may be given."""

    block: IPNetwork
    reserved: tuple[IPAddress, ...]


@dataclass(frozen=True, slots=True)
class Joined:
    """A pool of which this host is a holder: the two as a transaction can insist on them."""

    opened: Opened[records.Pool]
    member: Check


class OtherGateway(Contended):
    """The pool has another gateway than this host knows, or none: it was lost, and made anew."""


class Pools:
    def __init__(
        self, store: Store, host: str, plan: Plan, tenancy: Tenancy, occupied: Callable[[], Collection[IPNetwork]]
    ) -> None:
        """`occupied` tells the prefixes that this host already uses: routes, interfaces, name servers."""
        self._store, self.host, self._plan = store, host, plan
        self._tenancy, self._occupied = tenancy, occupied

    # pools

    def join(self, pool: IPNetwork, block_prefix: int | None = None, *, new: bool = False) -> records.Pool:
        """Make this host a holder of the pool, which is made known to the cluster if it is new there.

        `new` if this host has not held it before: StoreForgot while the store may hide that others do."""
        for attempt in range(ATTEMPTS):
            opened = read_open(self._store, shared(pool))
            if opened is None:
                record = self._new(pool, block_prefix)
                if self._create(pool, record, *self._checks(new), self._member(pool)):
                    return record
                time.sleep(pause_after(attempt))
                continue
            self._refuse_dockers(pool, opened.record)
            _refuse_other_block_size(pool, opened.record, block_prefix)
            member = self._member(pool)
            if isinstance(member, Check) or self._store.commit(opened.check(shared(pool)), *self._checks(new), member):
                return opened.record
        raise Contended(f"pool {pool}: other hosts kept changing it; try again")

    def _checks(self, new: bool) -> Sequence[Check]:
        return self._tenancy.check_new() if new else [self._tenancy.check()]

    def _member(self, pool: IPNetwork) -> Change:
        key = records.holder_key(pool, self.host)
        entry = self._store.get(key)
        return Check(key, entry.version) if entry else Put(key, b"{}", ABSENT)

    def choose(self, v6: bool) -> IPNetwork:
        """A pool that overlaps no other and nothing this host uses."""
        pool = self.free_pool(v6)
        if pool is None:
            raise self._no_pool(v6)
        return pool

    def create(self, pool: IPNetwork) -> bool:
        """Make a new pool known, with this host as a holder. False if another host was faster."""
        try:
            return self._create(pool, self._new(pool, None), *self._checks(new=True), self._member(pool))
        except PoolConflict:
            return False

    def free_pool(self, v6: bool) -> IPNetwork | None:
        return blocks.free_pool(self._ranges(v6), [*self._index()[0].pools, *self._occupied()])

    def _ranges(self, v6: bool) -> list[tuple[IPNetwork, int]]:
        return [(outer, length) for outer, length in self._plan.pool_ranges if (outer.version == 6) == v6]

    def _no_pool(self, v6: bool) -> Exception:
        where = ", ".join(str(outer) for outer, _ in self._ranges(v6))
        if where:
            return PoolExhausted(f"no free pool is left in {where}; give the network a --subnet")
        return BadRequest(f"FLANNELPY_POOLS names no {'IPv6' if v6 else 'IPv4'} range; give the network a --subnet")

    def adopt(self, pool: IPNetwork, gateway: IPAddress, *, new: bool = False) -> None:
        """Make known a pool whose addresses Docker's own IPAM on this host gives out: all of it is one block of ours.

        PoolConflict if anybody else uses any of it. Doing so twice is fine. `new`: see `join`."""
        record = records.Pool(pool.prefixlen, gateway, docker_host=self.host)
        block = Put(records.block_key(pool, pool), self._claimed_block(), ABSENT)
        for _ in range(ATTEMPTS):
            opened = read_open(self._store, shared(pool))
            if opened is not None:
                if opened.record.docker_host == self.host:
                    return
                raise PoolConflict(f"pool {pool} is already used in the cluster")
            if self._create(pool, record, *self._checks(new), self._member(pool), block):
                return
        raise Contended(f"pool {pool}: other hosts kept changing the list of pools; try again")

    def _refuse_dockers(self, pool: IPNetwork, record: records.Pool) -> None:
        if record.docker_host not in (None, self.host):
            raise PoolConflict(
                f"pool {pool} belongs to Docker's own IPAM on host {record.docker_host}; choose another --subnet"
            )

    def leave(self, pool: IPNetwork) -> None:
        """Hand back every block and the membership; the last one out takes the pool's record along.

        Each step insists on this host's lease: what stands under its name may be another machine's."""
        for _ in range(ATTEMPTS):
            rest = self._mine(pool)
            for start in range(0, len(rest), BATCH):
                if not self._store.commit(self._tenancy.check(), *rest[start : start + BATCH]):
                    break
            else:
                return close_pool(self._store, pool)
        raise Contended(f"pool {pool}: somebody else kept writing what this host holds there")

    def _mine(self, pool: IPNetwork) -> list[Delete]:
        """All that says that this host uses the pool; the membership last, by which a crash halfway is found."""
        entries = self._store.read(records.blocks_prefix(pool)).entries
        blocks_of_mine = [
            Delete(key, entry.version)
            for key, entry in records.sound(entries)
            if decode(records.Block, entry.value).host == self.host
        ]
        others = [records.leases_key(pool, records.block_of_key(change.key)) for change in blocks_of_mine]
        others.append(records.holder_key(pool, self.host))
        standing = [(key, self._store.get(key)) for key in others]
        return [*blocks_of_mine, *(Delete(key, entry.version) for key, entry in standing if entry is not None)]

    def _new(self, pool: IPNetwork, block_prefix: int | None) -> records.Pool:
        return records.Pool(block_prefix or blocks.block_prefix(pool, self._plan.block_host_bits))

    def _create(self, pool: IPNetwork, record: records.Pool, *also: Change) -> bool:
        index, version = self._index()
        for other in index.pools:
            if other != pool and overlap(other, pool):
                raise PoolConflict(f"pool {pool} overlaps {other}, which the cluster already uses")
        wider = records.Index(tuple(sorted({*index.pools, pool}, key=_order)))
        return self._store.commit(Put(records.INDEX, encode(wider), version), create(shared(pool), record), *also)

    def _index(self) -> tuple[records.Index, int]:
        return read_index(self._store)

    # blocks

    def take_block(
        self,
        pool_id: PoolId,
        held: Collection[IPNetwork],
        wanted: IPAddress | None = None,
        gateway: IPAddress | None = None,
    ) -> Claim:
        """A block for this host; the one that holds `wanted` if that is given. OtherGateway if the pool has not the
        one that this host knows.

        One that is ours in the store but not in `held` comes first: a crash between the two leaves such a block.

        A container's start waits for this, and for each question to the store: so nothing is read twice. What was read
        may be otherwise by the time of the claim, which insists on all of it."""
        pool = pool_id.pool
        for _ in range(ATTEMPTS):
            joined, checks, standing = self._joined(pool), self._tenancy.check_new(), self._standing(pool)
            record = joined.opened.record
            if gateway not in (None, record.gateway):
                raise OtherGateway(f"pool {pool}: other hosts kept changing its gateway; try again")
            block = self._choose(pool_id, record, _owners(standing), held, wanted)
            if self._claim(pool, joined, block, standing.get(block), *checks):
                return _claimed(record, block)
        raise Contended(f"pool {pool}: other hosts kept taking the blocks that were free; try again")

    def retake_block(self, pool: IPNetwork, block: IPNetwork) -> Claim | None:
        """After a lost lease: the block, if it is still, or again, ours."""
        for _ in range(ATTEMPTS):
            joined = self._joined(pool)
            entry = self._store.get(records.block_key(pool, block))
            standing = decode(records.Block, entry.value) if entry else None
            if standing and standing.host != self.host and not self._tenancy.is_hearsay(standing):
                return None
            if self._claim(pool, joined, block, entry, self._tenancy.check()):
                return _claimed(joined.opened.record, block)
        raise Contended(f"pool {pool}: other hosts kept changing block {block}")

    def owners(self, pool: IPNetwork) -> dict[IPNetwork, str]:
        return _owners(self._standing(pool))

    def _standing(self, pool: IPNetwork) -> dict[IPNetwork, Entry]:
        """The blocks that somebody has."""
        entries = self._store.read(records.blocks_prefix(pool)).entries
        return {records.block_of_key(key): entry for key, entry in records.sound(entries)}

    def _claim(self, pool: IPNetwork, joined: Joined, block: IPNetwork, entry: Entry | None, *checks: Check) -> bool:
        """Take a free block, or make sure of one that is ours already; `entry` is what stands there.

        As a member: a claim that arrives late, when this host has left the pool, must not leave a block behind."""
        ours = self._ours_or_free(pool, block, entry)
        return self._store.commit(joined.opened.check(shared(pool)), *checks, joined.member, ours)

    def _ours_or_free(self, pool: IPNetwork, block: IPNetwork, entry: Entry | None) -> Change:
        key, mine = records.block_key(pool, block), self._claimed_block()
        if entry is None or entry.value == mine:
            return Check(key, entry.version) if entry else Put(key, mine, ABSENT)
        standing = decode(records.Block, entry.value)
        replaced = standing.host == self.host or self._tenancy.is_hearsay(standing)
        return Put(key, mine, entry.version if replaced else ABSENT)

    def _claimed_block(self) -> bytes:
        return encode(records.Block(self.host, self._tenancy.epoch))

    def _choose(
        self,
        pool_id: PoolId,
        record: records.Pool,
        owners: dict[IPNetwork, str],
        held: Collection[IPNetwork],
        wanted: IPAddress | None,
    ) -> IPNetwork:
        pool, prefix = pool_id.pool, record.block_prefix
        if wanted is not None:
            block = blocks.block_holding(pool, prefix, wanted)
            if owners.get(block, self.host) != self.host:
                raise HeldElsewhere(pool, wanted, block, owners[block])
            return block
        for block, owner in owners.items():
            ours = owner == self.host and block not in held and block.prefixlen == prefix
            if ours and overlap(block, pool_id.range or pool):
                return block
        found = blocks.free_block(pool, prefix, owners, self.host, pool_id.range)
        if found is None:
            raise PoolExhausted(exhausted(pool_id, owners))
        return found

    def opened(self, pool: IPNetwork) -> Opened[records.Pool]:
        return self._joined(pool).opened

    def _joined(self, pool: IPNetwork) -> Joined:
        """Joined now, where this host was not, or the store has forgotten it. The record is read after the membership,
        with which it stays."""
        for _ in range(ATTEMPTS):
            member = self._member(pool)
            opened = read_open(self._store, shared(pool)) if isinstance(member, Check) else None
            if opened is not None and isinstance(member, Check):
                self._refuse_dockers(pool, opened.record)
                return Joined(opened, member)
            self.join(pool)
        raise Contended(f"pool {pool}: another host removed it meanwhile; try again")


class HeldElsewhere(Exception):
    """The wanted address is in another host's block: it can only be borrowed."""

    def __init__(self, pool: IPNetwork, address: IPAddress, block: IPNetwork, holder: str) -> None:
        super().__init__(f"address {address} is in block {block}, which host {holder} holds")
        self.pool, self.address, self.block, self.holder = pool, address, block, holder


def shared(pool: IPNetwork) -> Shared[records.Pool]:
    return Shared(records.Pool, records.pool_key(pool), records.holders_prefix(pool))


def read_index(store: Store) -> tuple[records.Index, int]:
    entry = store.get(records.INDEX)
    return (decode(records.Index, entry.value), entry.version) if entry else (records.Index(), ABSENT)


def close_pool(store: Store, pool: IPNetwork) -> None:
    """Forget the pool if no host uses it any more."""

    def without(_: records.Pool) -> Sequence[Change]:
        index, version = read_index(store)
        rest = tuple(other for other in index.pools if other != pool)
        return [Put(records.INDEX, encode(records.Index(rest)), version) if rest else Delete(records.INDEX, version)]

    close_if_empty(store, shared(pool), without)


def exhausted(pool_id: PoolId, owners: dict[IPNetwork, str]) -> str:
    counts = Counter(owners.values()).most_common(3)
    biggest = ", ".join(f"{host} {count}" for host, count in counts)
    return f"{_sized(pool_id)} has no free address left; most blocks: {biggest or 'none'}"


def unanswered(pool_id: PoolId, silent: Counter[str]) -> str:
    """`silent` says how many addresses these hosts have free there."""
    hosts = ", ".join(f"{host} {count}" for host, count in silent.most_common(3))
    return (
        f"{_sized(pool_id)} has free addresses on hosts alone that do not answer: {hosts}; see whether flannelpy runs "
        "there"
    )


def _sized(pool_id: PoolId) -> str:
    where = f"--ip-range {pool_id.range} of pool {pool_id.pool}" if pool_id.range else f"pool {pool_id.pool}"
    return f"{where} ({pool_id.pool.num_addresses} addresses)"


def _claimed(record: records.Pool, block: IPNetwork) -> Claim:
    return Claim(block, tuple(address for address in record.reserved if address in block))


def _owners(standing: Mapping[IPNetwork, Entry]) -> dict[IPNetwork, str]:
    return {block: decode(records.Block, entry.value).host for block, entry in standing.items()}


def _refuse_other_block_size(pool: IPNetwork, record: records.Pool, wanted: int | None) -> None:
    if wanted not in (None, record.block_prefix):
        raise PoolConflict(f"pool {pool} has blocks of /{record.block_prefix} in the cluster, not /{wanted}")


def _order(pool: IPNetwork) -> tuple[int, int, int]:
    return pool.version, int(pool.network_address), pool.prefixlen
