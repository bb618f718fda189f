"""Queries as somebody hostile would make them: each gets a short and true answer soon, or none."""

import time
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import TypeVar

import dns.edns
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from names import wire
from names.resolver import answer
from names.zone import Zone
from store.ip import IPAddress
from tests.promises import best_of
from tests.unit.test_zone import IN_BOTH, IN_DB, IN_WEB, KNOWN, STRANGER

T = TypeVar("T", bound=Callable[..., object])
NO_WORK = 30  # times what a usual question takes of the processor: 10 times at most were seen
AT_ONCE = 20  # questions whose time is taken together
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
    )
]
LONG = [
    put_together(0x0100, TRUE, [name + b"\0\1\0\1"], [])
    for name in (
        b"\x3f" + b"a" * 63,
        (b"\x3f" + b"a" * 63) * 18,
        b"\x01a" * 600 + b"\0",
        b"\x01a" * 127 + b"\0",
        b"\x01\xff" * 127 + b"\0",
        b"\x01a" * 124 + b"\x04arpa\0",
        (b"\x3f" + b"1" * 63) * 3 + b"\x1d" + b"1" * 29 + b"\x07in-addr\x04arpa\0",
        (b"\x3f" + b"\xff" * 63) * 3 + b"\x3d" + b"\xc3" * 61 + b"\0",
    )
]
MANY = [
    put_together(0x0100, counts, [TRUE_NAMES[0] + b"\0\1\0\1"], more)
    for counts, more in (
        (TRUE, [b"\0\0\x29\4\xd0\0\0\0\0" + (1120).to_bytes(2) + b"\0\x63\0\0" * 280]),  # options
        (TRUE, [b"\0\0\x29\4\xd0\0\0\0\0" + (1120).to_bytes(2) + b"\0\x08\0\4\0\1\0\0" * 140]),
        (TRUE, [b"\0\0\x29\4\xd0\0\0\0\0\0\0"] * 100),
        (TRUE, [b"\xc0\x0c\0\1\0\1\0\0\0\1\0\0"] * 90),
        ([1, 90, 0, 0], [b"\xc0\x0c\0\1\0\1\0\0\0\1\0\0"] * 90),
        ([65_535] * 4, []),
    )
]


@pytest.fixture(scope="module")
def zone() -> Zone:
    zone = Zone()
    zone.apply(KNOWN)
    return zone


def with_examples(test: T) -> T:
    for message in (*LOOPS, *LONG, *MANY):
        test = example(message=message)(test)
    return test


def cost(zone: Zone, message: bytes, source: str) -> float:
    """Seconds of the processor for an answer."""
    began = time.thread_time()
    for _ in range(AT_ONCE):
        answer(zone, message, source, datagram=True)
    return (time.thread_time() - began) / AT_ONCE


def is_no_work(zone: Zone, message: bytes, source: str) -> None:
    best_of(partial(cost, zone, message, source), NO_WORK * usual_cost())


@lru_cache
def usual_cost() -> float:
    zone = Zone()
    zone.apply(KNOWN)
    message = dns.message.make_query("shop1.web.flannelpy", "A", use_edns=0).to_wire()
    return min(cost(zone, message, IN_WEB) for _ in range(10))


@with_examples
@settings(max_examples=150)
@given(message=messages)
def test_whatever_is_asked_takes_no_longer_than_some_usual_questions(zone: Zone, message: bytes) -> None:
    for source in (IN_BOTH, STRANGER):
        is_no_work(zone, message, source)


@with_examples
@settings(max_examples=300)
@given(message=messages)
def test_whatever_is_asked_the_answer_is_short_and_well_formed(zone: Zone, message: bytes) -> None:
    for datagram in (True, False):
        reply = answer(zone, message, IN_BOTH, datagram=datagram)
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


@with_examples
@settings(max_examples=500)
@given(message=messages)
def test_what_is_read_is_what_a_library_reads(message: bytes) -> None:
    query = wire.parse(message)
    if query is None or not query.question:
        return
    end = wire.HEADER + len(query.question)
    edns = message[end : end + wire.EDNS.size]  # whatever its options are
    read = dns.message.from_wire(message[:end] + edns[:-2] + bytes(2 if edns else 0))
    assert [dns.name.from_wire(query.question, 0)[0]] == [asked.name for asked in read.question]
    assert (query.kind, query.recursion_desired) == (read.question[0].rdtype, bool(read.flags & dns.flags.RD))
    assert query.udp_size == (None if read.edns < 0 else min(max(read.payload, wire.PLAIN_SIZE), wire.EDNS_SIZE))
    known = read.question[0].rdclass == dns.rdataclass.IN
    assert query.error == (wire.BADVERS if read.edns > 0 else wire.NOERROR if known else wire.REFUSED)


names_of_any_kind = st.lists(st.binary(min_size=1, max_size=63), max_size=30).filter(
    lambda parts: sum(map(len, parts)) + len(parts) < 255
)


@given(
    parts=names_of_any_kind,
    kind=st.integers(0, 65_535),
    edns=st.none() | st.integers(0, 65_535),
    options=st.lists(st.builds(dns.edns.GenericOption, st.integers(100, 65_535), st.binary(max_size=40)), max_size=10),
)
def test_what_a_library_writes_is_read(
    parts: list[bytes], kind: int, edns: int | None, options: list[dns.edns.Option]
) -> None:
    name = dns.name.Name([*parts, b""])
    asked = dns.message.make_query(name, "A", use_edns=edns is not None, payload=edns or 0, options=options or None)
    message = bytearray(asked.to_wire())
    message[wire.HEADER + len(name.to_wire() or b"") :][:2] = kind.to_bytes(2)
    query = wire.parse(bytes(message))
    assert query is not None
    assert query.error == wire.NOERROR
    assert query.name == b".".join(parts).decode(errors="replace").lower()
    assert query.question.startswith(name.to_wire() or b"")
    assert (query.udp_size is None) == (edns is None)


@pytest.mark.parametrize("name", ["shop1", "Shop_1.web", "5.2.240.10.in-addr.arpa", "a" * 63, "caf\u00e9", "."])
def test_names_are_read_as_they_are_typed(name: str) -> None:
    labels = [label.encode() for label in name.split(".") if label]
    query = wire.parse(dns.message.make_query(dns.name.Name([*labels, b""]), "A").to_wire())
    assert query is not None
    assert query.name == name.lower().rstrip(".")


@given(address=st.ip_addresses())
def test_an_address_is_found_in_the_name_of_its_own_alone(address: IPAddress) -> None:
    name = address.reverse_pointer
    assert wire.reversed_address(name) == address
    for other in (name[1:], f"1.{name}", name.replace("arpa", "org"), name.replace(".", "", 1)):
        assert wire.reversed_address(other) != address


@pytest.mark.parametrize("size", [512, wire.LARGEST_QUERY, 65_507])
@pytest.mark.parametrize("filling", [b"\0", b"\xc0\x0c", b"\x01a", b"\x3f" + b"a" * 63, b"\xff"])
def test_the_largest_datagrams_are_no_work(zone: Zone, filling: bytes, size: int) -> None:
    for header in (b"\0\1\0\0\0\0\0\0", b"\xff\xff" * 4, b"\0\1\0\0\0\0\0\1"):
        is_no_work(zone, (b"\x12\x34\1\0" + header + filling * (size // len(filling)))[:size], IN_WEB)
