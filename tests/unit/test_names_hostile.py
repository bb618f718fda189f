"""Queries as somebody hostile would make them: each gets a short and true answer soon, or none."""

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import dns.flags
import dns.message
import dns.rcode
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from names import wire
from names.resolver import answer
from names.zone import Zone
from tests.unit.test_zone import IN_BOTH, IN_DB, IN_WEB, KNOWN, STRANGER

T = TypeVar("T", bound=Callable[..., object])
SOON = 0.1  # seconds of the processor: a thousand times what an honest query takes
TRUE_NAMES = [b"\x05shop1\0", b"\x04shop\0", b"\x05store\0", b"\x05shop1\x09flannelpy\0"]

labels = st.binary(min_size=1, max_size=63).map(lambda text: bytes([len(text)]) + text)
lying = st.builds(lambda size, text: bytes([size]) + text, st.integers(1, 255), st.binary(max_size=80))
pointers = st.integers(0, 60).map(lambda at: (0xC000 | at).to_bytes(2))
names = (
    st.sampled_from(TRUE_NAMES)
    | st.lists(labels | pointers | lying, max_size=20).map(lambda parts: b"".join(parts) + b"\0")
    | st.lists(labels, min_size=1, max_size=140).map(b"".join)  # without an end
)
numbers = st.sampled_from([0, 1, 2, 28, 41, 255, 65_535]) | st.integers(0, 65_535)
shorts = numbers.map(lambda number: number.to_bytes(2))
questions = st.builds(lambda name, kind, of: name + kind + of, names, shorts, shorts | st.just(b"\0\1"))
records = st.builds(
    lambda name, kind, of, size, data: name + kind + of + b"\0\0\0\1" + size + data,
    *(names, shorts, shorts, shorts, st.binary(max_size=60)),
)
edns = st.builds(
    lambda size, version, options: b"\0\0\x29" + size + bytes([0, version, 0, 0]) + len(options).to_bytes(2) + options,
    *(shorts, st.integers(0, 2), st.binary(max_size=40)),
)


def put_together(flags: int, counts: Sequence[int | None], asked: Sequence[bytes], more: Sequence[bytes]) -> bytes:
    told = (count if count is not None else true for count, true in zip(counts, (len(asked), 0, 0, len(more))))  # noqa: B905
    return b"\x12\x34" + flags.to_bytes(2) + b"".join(n.to_bytes(2) for n in told) + b"".join((*asked, *more))


TRUE: list[int | None] = [None] * 4  # counts that do not lie
counts = st.lists(st.none() | numbers, min_size=4, max_size=4)
wild = st.builds(
    put_together,
    st.sampled_from([0, 0x0100, 0x2800, 0x0010]) | st.integers(0, 65_535),
    st.just(TRUE) | counts,
    st.lists(questions, min_size=1, max_size=1) | st.lists(questions, max_size=30),
    st.lists(edns | records, max_size=3),
)
plausible = st.builds(
    put_together,
    st.just(0x0100),
    st.just(TRUE),
    st.lists(st.builds(lambda name, kind: name + kind + b"\0\1", names, shorts), min_size=1, max_size=1),
    st.lists(edns, max_size=1) | st.lists(edns | records, max_size=2),
)
messages = plausible | wild
LOOPS = [
    put_together(0x0100, TRUE, [name + b"\0\1\0\1"], [])
    for name in (
        b"\xc0\x0c",  # to itself
        b"\xc0\x0e\xc0\x0c",  # to each other
        b"\x01a\xc0\x0c",  # ever longer
        b"\xc0\xff",  # behind the end
        b"".join((0xC00C + 2 * step).to_bytes(2) for step in range(600)),  # each to itself
        b"\0" + b"".join((0xC00B + 2 * step).to_bytes(2) for step in range(600)),  # a long way back
        b"\x3f" + b"a" * 63,
        (b"\x3f" + b"a" * 63) * 18,
        b"\x01a" * 600 + b"\0",
    )
]


@pytest.fixture(scope="module")
def zone() -> Zone:
    zone = Zone()
    zone.apply(KNOWN)
    return zone


def with_examples(test: T) -> T:
    for message in (*LOOPS, put_together(0x0100, [65_535] * 4, [TRUE_NAMES[0] + b"\0\1\0\1"], [])):
        test = example(message=message)(test)
    return test


@with_examples
@settings(max_examples=300)
@given(message=messages)
def test_whatever_is_asked_the_answer_is_short_and_well_formed_and_soon(zone: Zone, message: bytes) -> None:
    for datagram in (True, False):
        began = time.thread_time()
        reply = answer(zone, message, IN_BOTH, datagram=datagram)
        assert time.thread_time() - began < SOON
        if reply is None:
            continue
        assert len(reply) <= (wire.EDNS_SIZE if datagram else wire.LARGEST)
        told = dns.message.from_wire(reply)
        assert (told.id, bool(told.flags & dns.flags.QR)) == (0x1234, True)
        assert len(told.question) <= 1


@with_examples
@settings(max_examples=300)
@given(message=messages)
def test_whatever_is_asked_nobody_is_told_what_is_not_for_him(zone: Zone, message: bytes) -> None:
    for source, may_see in ((STRANGER, ()), (IN_WEB, ("10.240.", "fd77:")), (IN_DB, ("10.241.",))):
        reply = answer(zone, message, source, datagram=True)
        told = dns.message.from_wire(reply).answer if reply else []
        assert all(item.to_text().startswith(may_see) for some in told for item in some if some.rdtype != wire.PTR)


harmless = st.from_regex(rb"[0-9A-Za-z_-]{1,63}", fullmatch=True).map(lambda text: bytes([len(text)]) + text)
usual = st.builds(
    put_together,
    st.sampled_from([0, 0x0100, 0x0120]),
    st.just(TRUE),
    st.lists(
        st.builds(
            lambda parts, rest: b"".join(parts) + b"\0" + rest,
            st.lists(harmless, max_size=6),
            st.binary(min_size=4, max_size=4),
        ),
        min_size=1,
        max_size=1,
    ),
    st.lists(
        st.builds(lambda size, version: b"\0\0\x29" + size + bytes([0, version]) + bytes(4), shorts, st.integers(0, 1)),
        max_size=2,
    ),
)


@with_examples
@settings(max_examples=500)
@given(message=usual | messages)
def test_what_is_read_without_the_library_is_what_the_library_reads(message: bytes) -> None:
    if not message[2] & 0x78 and wire._is_one_question(message):
        assert wire._plain(message) in (None, wire._library(message))


@pytest.mark.parametrize("name", ["shop1", "Shop_1.web.flannelpy", "5.2.240.10.in-addr.arpa", "a" * 63])
@pytest.mark.parametrize("edns", [None, 0])
def test_usual_questions_need_no_library(name: str, edns: int | None) -> None:
    message = dns.message.make_query(name, "AAAA", use_edns=-1 if edns is None else edns).to_wire()
    assert wire._plain(message) == wire._library(message)


@pytest.mark.parametrize("size", [512, wire.LARGEST_QUERY, 65_507])
@pytest.mark.parametrize("filling", [b"\0", b"\xc0\x0c", b"\x01a", b"\x3f" + b"a" * 63, b"\xff"])
def test_the_largest_datagrams_are_no_work(zone: Zone, filling: bytes, size: int) -> None:
    for header in (b"\0\1\0\0\0\0\0\0", b"\xff\xff" * 4, b"\0\1\0\0\0\0\0\2"):
        message = (b"\x12\x34\1\0" + header + filling * (size // len(filling)))[:size]
        began = time.thread_time()
        answer(zone, message, IN_WEB, datagram=True)
        assert time.thread_time() - began < SOON
