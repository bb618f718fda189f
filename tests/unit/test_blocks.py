"""Arithmetic of pools and blocks."""

import time
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipam import blocks
from store.ip import IPNetwork


@pytest.mark.parametrize(
    ("pool", "prefix"),
    [
        ("10.0.0.0/8", 26),
        ("10.240.0.0/18", 26),
        ("10.240.0.0/20", 26),
        ("10.240.0.0/22", 27),
        ("10.240.0.0/24", 28),
        ("10.240.0.0/28", 30),
        ("10.240.0.0/30", 31),
        ("fd00::/48", 122),
        ("fd00::/64", 122),
        ("fd00::/126", 127),
    ],
)
def test_blocks_are_smaller_in_small_pools(pool: str, prefix: int) -> None:
    assert blocks.block_prefix(ip_network(pool), 6) == prefix


pools = st.one_of(
    st.builds(
        lambda n, p: ip_network((n >> (32 - p) << (32 - p), p)),
        st.integers(1 << 24, (1 << 32) - 1),
        st.integers(16, 30),
    ),
    st.builds(
        lambda n, p: ip_network(((0xFD << 120 | n) >> (128 - p) << (128 - p), p)),
        st.integers(0, (1 << 120) - 1),
        st.integers(112, 126),
    ),
)


@given(pools, st.data())
def test_the_block_that_holds_an_address_holds_it(pool: IPNetwork, data: st.DataObject) -> None:
    prefix = blocks.block_prefix(pool, 6)
    address = pool[data.draw(st.integers(0, pool.num_addresses - 1))]
    block = blocks.block_holding(pool, prefix, address)
    assert address in block
    assert block.prefixlen == prefix
    assert block.network_address in pool


@given(pools, st.text(min_size=1))
def test_a_host_that_takes_blocks_takes_every_one_exactly_once(pool: IPNetwork, host: str) -> None:
    prefix = min(pool.prefixlen + 6, pool.max_prefixlen)
    taken: list[IPNetwork] = []
    while (block := blocks.free_block(pool, prefix, taken, host)) is not None:
        assert block not in taken
        taken.append(block)
    if pool.num_addresses <= 4096:
        assert {a for block in taken for a in blocks.usable(pool, block)} == set(blocks.usable(pool, pool))


def test_hosts_start_at_different_places() -> None:
    pool = ip_network("10.240.0.0/18")
    assert len({blocks.free_block(pool, 26, [], f"host{n}") for n in range(20)}) > 10


def test_a_range_is_served_from_the_blocks_that_it_touches() -> None:
    pool, part = ip_network("10.240.0.0/18"), ip_network("10.240.3.128/25")
    first = blocks.free_block(pool, 26, [], "h", part)
    assert first in [ip_network("10.240.3.128/26"), ip_network("10.240.3.192/26")]
    tiny = ip_network("10.240.3.130/31")
    assert blocks.free_block(pool, 26, [], "h", tiny) == ip_network("10.240.3.128/26")


def test_first_and_last_of_an_ipv4_pool_are_not_for_hosts() -> None:
    four, six = ip_network("10.0.0.0/30"), ip_network("fd00::/126")
    assert list(map(str, blocks.usable(four, four))) == ["10.0.0.1", "10.0.0.2"]
    assert list(map(str, blocks.usable(six, six))) == ["fd00::1", "fd00::2", "fd00::3"]
    inner = ip_network("10.0.0.64/30")
    assert len(list(blocks.usable(ip_network("10.0.0.0/24"), inner))) == 4


def test_an_automatic_pool_overlaps_nothing_in_use() -> None:
    ranges = [(ip_network("10.224.0.0/16"), 18)]
    used = [ip_network("10.224.0.0/20"), ip_network("10.224.65.0/24"), ip_network("fd00::/8")]
    assert blocks.free_pool(ranges, used) == ip_network("10.224.128.0/18")
    assert blocks.free_pool(ranges, [ip_network("10.0.0.0/8")]) is None


small_prefixes = st.builds(
    lambda number, length: ip_network((0x0A000000 + (number >> (32 - length) << (32 - length)), length)),
    st.integers(0, 4095),
    st.integers(18, 32),
)


@given(st.lists(small_prefixes, max_size=12), st.integers(20, 30))
def test_no_free_pool_is_passed_over(used: list[IPNetwork], length: int) -> None:
    outer = ip_network("10.0.0.0/20")
    free = (pool for pool in outer.subnets(new_prefix=length) if not any(pool.overlaps(other) for other in used))
    assert blocks.free_pool([(outer, length)], used) == next(free, None)


def test_a_free_pool_among_very_many_is_found_at_once() -> None:
    wide = ip_network("10.0.0.0/8")
    used = [ip_network((0x0A000000 + 16 * number, 28)) for number in range(1 << 14)]
    began = time.process_time()
    assert blocks.free_pool([(wide, 28)], [*used, ip_network("10.4.0.0/16")]) == ip_network("10.5.0.0/28")
    assert blocks.free_pool([(wide, 28)], used) == ip_network("10.4.0.0/28")
    assert time.process_time() - began < 2
