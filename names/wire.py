"""DNS messages as bytes (RFC 1035, RFC 6891): the only file that uses dnspython, but for question.py.

A question as programs ask it has one shape, which is read here. The library takes ten times as long, and reads whatever
else comes in, which may be hostile. Answers are put together from parts packed beforehand."""

import re
import struct
from collections.abc import Sequence
from ipaddress import ip_address
from typing import NamedTuple

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.reversename

from store.ip import IPAddress

A, AAAA, PTR = int(dns.rdatatype.A), int(dns.rdatatype.AAAA), int(dns.rdatatype.PTR)
NOERROR, FORMERR, NXDOMAIN = int(dns.rcode.NOERROR), int(dns.rcode.FORMERR), int(dns.rcode.NXDOMAIN)
NOTIMP, REFUSED, BADVERS = int(dns.rcode.NOTIMP), int(dns.rcode.REFUSED), int(dns.rcode.BADVERS)
LARGEST_QUERY = 1232  # bytes; a question with all its options, and a signature, needs some hundred
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
LABEL = re.compile(rb"[0-9A-Za-z_-]{1,63}")  # means itself in a name's text
LONGEST_NAME = 255  # bytes


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
    if len(message) > LARGEST_QUERY:
        return _wrong(FORMERR)
    if message[2] & OPERATION >> 8:
        return _wrong(NOTIMP)
    if not _is_one_question(message):
        return _wrong(FORMERR)
    return _plain(message) or _library(message)


def _is_one_question(message: bytes) -> bool:
    """And nothing beside it but EDNS and a signature: thousands of records would take the library a second to read."""
    *told, additional = COUNTS.unpack_from(message, 4)
    return told == [1, 0, 0] and bool(additional <= 2)


def _plain(message: bytes) -> Query | None:
    """What most questions are: a name of harmless letters, and EDNS without options or none. Else None."""
    labels, at = [], HEADER
    while size := message[at] if at < len(message) else 0:
        label = message[at + 1 : at + 1 + size]
        if len(label) != size or not LABEL.fullmatch(label):
            return None
        labels.append(label)
        at += 1 + size
    end = at + 1 + ASKED.size
    if not labels or end > len(message) or at + 1 - HEADER > LONGEST_NAME:
        return None
    edns = _plain_edns(message[end:], COUNTS.unpack_from(message, 4)[3])
    if edns is None:
        return None
    kind, of = ASKED.unpack_from(message, at + 1)
    error = NOERROR if of == IN else REFUSED
    name = b".".join(labels).decode().lower()
    return Query(name, kind, message[HEADER:end], bool(message[2] & RECURSION >> 8), edns or None, error)


def _plain_edns(rest: bytes, records: int) -> int | None:
    """The size that EDNS names, 0 without EDNS, None for anything else."""
    if not records and not rest:
        return 0
    if records != 1 or len(rest) != EDNS.size:
        return None
    root, kind, size, _, version, _, length = EDNS.unpack(rest)
    return _udp_size(size) if (root, kind, version, length) == (0, OPT, 0, 0) else None


def _udp_size(offered: int) -> int:
    return min(max(offered, PLAIN_SIZE), EDNS_SIZE)


def _library(message: bytes) -> Query:
    try:
        read = dns.message.from_wire(message)
        edns = None if read.edns < 0 else _udp_size(read.payload)
        asked = read.question[0]
        name = asked.name.to_text(omit_final_dot=True).lower()
        question = asked.name.to_wire() or b""
    except (dns.exception.DNSException, ValueError):
        return _wrong(FORMERR)
    error = BADVERS if read.edns > 0 else NOERROR if asked.rdclass == IN else REFUSED
    question += ASKED.pack(asked.rdtype, asked.rdclass)
    return Query(name, int(asked.rdtype), question, bool(read.flags & RECURSION), edns, error)


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
    """The address that a name below in-addr.arpa or ip6.arpa stands for."""
    if not name.endswith(".arpa"):
        return None
    try:
        return ip_address(dns.reversename.to_address(dns.name.from_text(name)))
    except (dns.exception.DNSException, ValueError):
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
