"""Records to JSON and back."""

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driver.model import Endpoint, Network, Published
from ipam.journal import Held
from ipam.pool_journal import Lease
from store.codec import BadRecord, decode, encode
from store.records import Block, NetworkSpec, Peer, Pool

addresses = st.ip_addresses()
networks = st.builds(
    lambda a, p: ip_network(f"{a}/{min(p, a.max_prefixlen)}", strict=False), addresses, st.integers(0, 128)
)
records = st.one_of(
    st.builds(
        Pool,
        st.integers(),
        st.none() | addresses,
        st.lists(addresses).map(tuple),
        st.none() | st.text(),
        st.booleans(),
    ),
    st.builds(Block, st.text()),
    st.builds(Peer, st.text(), st.lists(addresses).map(tuple)),
    st.builds(Lease, st.text(), st.text(), st.none() | st.floats(allow_nan=False, allow_infinity=False)),
    st.builds(
        Endpoint,
        st.text(),
        st.text(),
        st.lists(addresses).map(tuple),
        st.text(),
        st.lists(st.builds(Published, st.integers(), addresses, st.integers(), st.integers())).map(tuple),
    ),
    st.builds(
        NetworkSpec,
        st.lists(networks).map(tuple),
        st.lists(addresses).map(tuple),
        st.text(),
        st.integers(),
        st.integers(),
        st.none() | st.integers(),
        st.booleans(),
    ),
)


@given(records)
def test_what_is_written_is_read(record: Pool) -> None:
    assert decode(type(record), encode(record)) == record


def test_the_same_record_is_the_same_bytes_in_every_version() -> None:
    """Hosts compare them with what stands in the store, and would rewrite it in turn."""
    record = Pool(26, ip_address("fd00::1"), (ip_address("10.0.0.1"),))
    assert encode(record) == (
        b'{"block_prefix":26,"closing":false,"docker_host":null,"gateway":"fd00::1","reserved":["10.0.0.1"]}'
    )
    assert encode(Lease("10.0.0.0/8", "endpoint", since=1.0)) == (
        b'{"kind":"endpoint","pool_id":"10.0.0.0/8","released":null,"reserved":false,"since":1.0}'
    )


def test_fields_of_a_newer_version_are_ignored_and_missing_ones_take_their_default() -> None:
    assert decode(Pool, b'{"block_prefix": 26, "colour": "red"}') == Pool(26)


@pytest.mark.parametrize(
    "value",
    [b"", b"null", b"[]", b"{}", b'{"uses": "1"}', b'{"uses": true}', b'{"uses": null}', b"\xff", b'{"uses": 1.0}'],
)
def test_what_is_no_record_is_refused(value: bytes) -> None:
    with pytest.raises(BadRecord):
        decode(Held, value)


def test_a_network_of_both_families_survives() -> None:
    network = Network(
        "id", (ip_network("10.0.0.0/8"), ip_network("fd00::/64")), (ip_address("10.0.0.1"), ip_address("fd00::1")),
        "vxlan", 1, 2, None, True, (),
    )  # fmt: skip
    assert decode(Network, encode(network)) == network
