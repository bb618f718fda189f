"""The forwarder's table of prefixes."""

from ipaddress import IPv4Address, IPv4Network, ip_address

from hypothesis import given
from hypothesis import strategies as st

from driver.forwarder import table
from driver.forwarder.table import Table


def test_the_longest_prefix_wins_in_either_family() -> None:
    known = Table([("10.0.0.0/26", "h2"), ("10.0.0.5/32", "h3"), ("fd77::/122", "h2"), ("fd77::5/128", "h3")])
    found = [
        known.find(ip_address(text).packed) for text in ("10.0.0.5", "10.0.0.6", "10.0.0.64", "fd77::5", "fd77::6")
    ]
    assert found == ["h3", "h2", None, "h3", "h2"]
    assert known.find(b"") is None


prefixes = st.builds(
    lambda number, length: IPv4Network((number >> (32 - length) << (32 - length), length)),
    st.integers(0, 255),
    st.integers(24, 32),
)


@given(st.dictionaries(prefixes, st.integers(1, 5)), st.lists(st.integers(0, 255)))
def test_it_finds_what_looking_at_every_prefix_finds(entries: dict[IPv4Network, int], numbers: list[int]) -> None:
    known = Table((str(prefix), target) for prefix, target in entries.items())
    for address in map(IPv4Address, numbers * 2):
        holding = [prefix for prefix in entries if address in prefix]
        right = entries[max(holding, key=lambda prefix: prefix.prefixlen)] if holding else None
        assert known.find(address.packed) == right


def test_what_it_remembers_is_bounded() -> None:
    known = Table([("10.0.0.0/8", "h2")])
    for number in range(table.REMEMBERED + 10):
        known.find(IPv4Address(f"10.0.{number >> 8}.{number & 255}").packed)
    assert len(known._remembered) <= table.REMEMBERED
