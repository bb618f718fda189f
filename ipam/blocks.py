"""Arithmetic of pools, blocks and addresses: no I/O, no state, both families alike."""

import hashlib
from collections.abc import Collection, Iterator
from itertools import chain

from store.ip import IPAddress, IPNetwork, overlap


def block_prefix(pool: IPNetwork, most_host_bits: int) -> int:
    """The prefix length of the pool's blocks: `most_host_bits` per block, but never more than half of the pool's,
    so that a small pool still serves several hosts (a /24 is cut into sixteen /28, a /18 into /26)."""
    host_bits = min(most_host_bits, (pool.max_prefixlen - pool.prefixlen) // 2)
    return pool.max_prefixlen - host_bits


def block_holding(pool: IPNetwork, prefix: int, address: IPAddress) -> IPNetwork:
    size = 1 << (pool.max_prefixlen - prefix)
    return _block_at(pool, prefix, (int(address) - int(pool.network_address)) // size)


def free_block(
    pool: IPNetwork, prefix: int, taken: Collection[IPNetwork], host: str, within: IPNetwork | None = None
) -> IPNetwork | None:
    """A block that nobody holds and that has an address of `within`. Hosts start their search at different places,
    so that many at once rarely want the same one."""
    first, count = _blocks_of(pool, prefix, within or pool)
    held = set(taken)
    start = int.from_bytes(hashlib.sha256(host.encode()).digest()[:8]) % count
    for index in chain(range(start, count), range(start)):
        block = _block_at(pool, prefix, first + index)
        if block not in held and any(usable(pool, block)):
            return block
    return None


def _blocks_of(pool: IPNetwork, prefix: int, within: IPNetwork) -> tuple[int, int]:
    size = 1 << (pool.max_prefixlen - prefix)
    base = int(pool.network_address)
    first = (int(within.network_address) - base) // size
    last = (int(within.broadcast_address) - base) // size
    return first, last - first + 1


def _block_at(pool: IPNetwork, prefix: int, index: int) -> IPNetwork:
    size = 1 << (pool.max_prefixlen - prefix)
    return type(pool)((int(pool.network_address) + index * size, prefix))


def usable(pool: IPNetwork, part: IPNetwork) -> Iterator[IPAddress]:
    """The addresses of `part` that a host of `pool` may have: not the pool's first, and for IPv4 not its last."""
    for number in range(int(part.network_address), int(part.broadcast_address) + 1):
        address = type(pool.network_address)(number)
        if _is_host_address(pool, address):
            yield address


def _is_host_address(pool: IPNetwork, address: IPAddress) -> bool:
    if pool.prefixlen >= pool.max_prefixlen - 1:
        return address in pool
    last = pool.broadcast_address if pool.version == 4 else None
    return address in pool and address not in (pool.network_address, last)


def is_usable(pool: IPNetwork, address: IPAddress) -> bool:
    return _is_host_address(pool, address)


def free_pool(ranges: Collection[tuple[IPNetwork, int]], occupied: Collection[IPNetwork]) -> IPNetwork | None:
    """The first prefix of the wanted length, in the order of `ranges`, that overlaps nothing occupied."""
    found = (_first_gap(outer, length, occupied) for outer, length in ranges)
    return next((pool for pool in found if pool is not None), None)


def _first_gap(outer: IPNetwork, length: int, occupied: Collection[IPNetwork]) -> IPNetwork | None:
    """From one occupied prefix to the next: a /8 has a million candidates."""
    size, start = 1 << (outer.max_prefixlen - length), int(outer.network_address)
    within = [other for other in occupied if overlap(outer, other)]
    for other in sorted(within, key=lambda other: int(other.network_address)):
        if int(other.network_address) >= start + size:
            break
        start = max(start, -(-(int(other.broadcast_address) + 1) // size) * size)  # the next that begins behind it
    return type(outer)((start, length)) if start <= int(outer.broadcast_address) else None
