"""DNS messages as bytes (RFC 1035, RFC 6891): the only file that uses dnspython, but for question.py.

What somebody asks may be hostile. It is read here, and no more of it than an answer needs: whatever it is, that takes
no longer than some usual questions. Answers are put together from parts packed beforehand."""

import re
import struct
from collections.abc import Sequence
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

import dns.exception
import dns.flags
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype

from store.ip import IPAddress

A, AAAA, PTR = int(dns.rdatatype.A), int(dns.rdatatype.AAAA), int(dns.rdatatype.PTR)
NOERROR, FORMERR, NXDOMAIN = int(dns.rcode.NOERROR), int(dns.rcode.FORMERR), int(dns.rcode.NXDOMAIN)
NOTIMP, REFUSED, BADVERS = int(dns.rcode.NOTIMP), int(dns.rcode.REFUSED), int(dns.rcode.BADVERS)
LARGEST_QUERY = 1232  # bytes; a question with all its options needs some hundred
PLAIN_SIZE, EDNS_SIZE = 512, 1232  # bytes of an answer over UDP: without EDNS, and what passes everywhere unfragmented
LARGEST = 65_535  # bytes of an answer over TCP
TTL = 1  # seconds: a container that stopped must not live on in somebody's cache
HEADER = 12  # bytes
OPT = 41
# As plain numbers: the library's take a microsecond for each that is added.
IS_ANSWER, AUTHORITATIVE, TRUNCATED, RECURSION = map(int, (dns.flags.QR, dns.flags.AA, dns.flags.TC, dns.flags.RD))
OPERATION = 0x7800
IN = int(dns.rdataclass.IN)
COUNTS = struct.Struct("!HHHH")  # questions, answers, authorities, additional records
ASKED = struct.Struct("!HH")  # type, class
EDNS = struct.Struct("!BHHBBHH")  # root, OPT, size, code, version, flags, length of the options
HEAD = struct.Struct("!HHHHH")  # flags, and the four counts
LONGEST_LABEL, LONGEST_NAME = 63, 255  # bytes; of a name with all that goes between labels
REVERSED_4 = re.compile(r"([0-9]+)\.([0-9]+)\.([0-9]+)\.([0-9]+)\.in-addr\.arpa")
REVERSED_6 = re.compile(r"(?:[0-9a-f]\.){32}ip6\.arpa")


class Query(NamedTuple):
    """A question, or the reason why it gets no answer but an error."""

    name: str  # lower case, without the final dot
    kind: int
    question: bytes  # as it is repeated in the answer
    recursion_desired: bool
    udp_size: int | None  # None without EDNS
    error: int = NOERROR


def parse(message: bytes) -> Query | None:
    """None for what must not be answered at all: no message, or an answer itself."""
    if len(message) < HEADER or message[2] & IS_ANSWER >> 8:
        return None
    if message[2] & OPERATION >> 8:
        return _wrong(NOTIMP)
    *others, additional = COUNTS.unpack_from(message, 4)
    name = _name(message) if others == [1, 0, 0] and len(message) <= LARGEST_QUERY else None
    if name is None:
        return _wrong(FORMERR)
    labels, end = name
    edns = _edns(message[end + ASKED.size :], additional)
    if end + ASKED.size > len(message) or edns is None:
        return _wrong(FORMERR)
    kind, of = ASKED.unpack_from(message, end)
    size, version = edns
    return Query(
        b".".join(labels).decode(errors="replace").lower(),
        kind,
        message[HEADER : end + ASKED.size],
        bool(message[2] & RECURSION >> 8),
        size,
        BADVERS if version else NOERROR if of == IN else REFUSED,
    )


def _name(message: bytes) -> tuple[list[bytes], int] | None:
    """The labels that follow the header, and where their end is. None if it is no name, or points somewhere: that can
    shorten nothing in a first name."""
    labels, at = [], HEADER
    last = min(len(message), HEADER + LONGEST_NAME) - 1
    while at <= last and (size := message[at]):
        if size > LONGEST_LABEL:
            return None
        labels.append(message[at + 1 : at + 1 + size])
        at += 1 + size
    return (labels, at + 1) if at <= last else None


def _edns(rest: bytes, records: int) -> tuple[int | None, int] | None:
    """The size and the version that EDNS names: (None, 0) without it, and None if there is anything else. None of its
    options is of use here."""
    if not records and not rest:
        return None, 0
    if records != 1 or len(rest) < EDNS.size:
        return None
    root, kind, size, _, version, _, length = EDNS.unpack_from(rest)
    if (root, kind, EDNS.size + length) != (0, OPT, len(rest)):
        return None
    return min(max(size, PLAIN_SIZE), EDNS_SIZE), version


def _wrong(error: int) -> Query:
    return Query("", 0, b"", False, None, error)


def address_record(address: IPAddress) -> bytes:
    """A record of the name that was asked for."""
    return _record(A if address.version == 4 else AAAA, address.packed)


def pointer_record(name: str) -> bytes | None:
    """None for a name that DNS cannot carry."""
    try:
        return _record(PTR, dns.name.from_text(name).to_wire() or b"")
    except dns.exception.DNSException:
        return None


def _record(kind: int, data: bytes) -> bytes:
    return struct.pack("!HHHIH", 0xC00C, kind, 1, TTL, len(data)) + data  # 0xC00C points to the question's name


def reversed_address(name: str) -> IPAddress | None:
    """The address that a name below in-addr.arpa or ip6.arpa stands for, in small letters."""
    if found := REVERSED_4.fullmatch(name):
        with suppress(ValueError):  # of numbers that are too large
            return IPv4Address(".".join(found.groups()[::-1]))
    if REVERSED_6.fullmatch(name):
        return IPv6Address(int(name[62::-2], 16))
    return None


def pack(message: bytes, query: Query, code: int, records: Sequence[bytes], largest: int) -> bytes:
    """The answer to `message`, in at most `largest` bytes: what does not fit is left out, and it says so."""
    extra = b""
    if query.udp_size is not None:
        extra = EDNS.pack(0, OPT, EDNS_SIZE, code >> 4, 0, 0, 0)
    fitting = _fitting(records, largest - HEADER - len(query.question) - len(extra))
    flags = IS_ANSWER | (code & 0xF) | (message[2] << 8 & OPERATION)
    flags |= AUTHORITATIVE if code in (NOERROR, NXDOMAIN) else 0
    flags |= RECURSION if query.recursion_desired else 0
    flags |= TRUNCATED if len(fitting) < len(records) else 0
    head = HEAD.pack(flags, 1 if query.question else 0, len(fitting), 0, 1 if extra else 0)
    return b"".join((message[:2], head, query.question, *fitting, extra))


def _fitting(records: Sequence[bytes], room: int) -> Sequence[bytes]:
    size = 0
    for number, record in enumerate(records):
        size += len(record)
        if size > room:
            return records[:number]
    return records
