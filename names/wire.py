"""DNS messages as bytes (RFC 1035, RFC 6891): the only file that uses dnspython, but for question.py.

The library reads what comes in, which may be hostile, and each question once: the same bytes but for the id are known
again. Answers are put together from parts packed beforehand, for that is what makes thousands a second."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
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
KNOWN_QUESTIONS = 8192
LONGEST_KNOWN = 320  # bytes, enough for the longest name and EDNS: what others make up takes 16 MB at most
HEADER = 12  # bytes
OPT = 41


@dataclass(frozen=True, slots=True)
class Query:
    """A question, or the reason why it gets no answer but an error."""

    name: str  # lower case, without the final dot
    kind: int
    question: bytes  # as it is repeated in the answer
    recursion_desired: bool
    udp_size: int | None  # None without EDNS
    error: int = NOERROR


def parse(message: bytes) -> Query | None:
    """None for what must not be answered at all: no message, or an answer itself."""
    if len(message) < HEADER or message[2] & 0x80:
        return None
    if len(message) > LARGEST_QUERY:
        return _wrong(FORMERR)
    return (_known if len(message) <= LONGEST_KNOWN else _parse)(message[2:])


def _parse(rest: bytes) -> Query:
    if (rest[0] >> 3) & 0xF != dns.opcode.QUERY:
        return _wrong(NOTIMP)
    if not _is_one_question(rest):
        return _wrong(FORMERR)
    try:
        message = dns.message.from_wire(b"\0\0" + rest)
        edns = None if message.edns < 0 else min(max(message.payload, PLAIN_SIZE), EDNS_SIZE)
        asked = message.question[0]
        name = asked.name.to_text(omit_final_dot=True).lower()
        question = asked.name.to_wire() or b""
    except (dns.exception.DNSException, ValueError):
        return _wrong(FORMERR)
    error = BADVERS if message.edns > 0 else NOERROR if asked.rdclass == dns.rdataclass.IN else REFUSED
    question += struct.pack("!HH", asked.rdtype, asked.rdclass)
    return Query(name, int(asked.rdtype), question, bool(message.flags & dns.flags.RD), edns, error)


_known = lru_cache(maxsize=KNOWN_QUESTIONS)(_parse)


def _is_one_question(rest: bytes) -> bool:
    """And nothing beside it but EDNS and a signature: thousands of records would take the library a second to read."""
    *told, additional = struct.unpack_from("!HHHH", rest, 2)  # questions, answers, authorities
    return told == [1, 0, 0] and bool(additional <= 2)


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
        extra = struct.pack("!BHHBBHH", 0, OPT, EDNS_SIZE, code >> 4, 0, 0, 0)
    fitting = _fitting(records, largest - HEADER - len(query.question) - len(extra))
    flags = dns.flags.QR | (code & 0xF)
    flags |= dns.flags.AA if code in (NOERROR, NXDOMAIN) else 0
    flags |= dns.flags.RD if query.recursion_desired else 0
    flags |= dns.flags.TC if len(fitting) < len(records) else 0
    flags |= (message[2] & 0x78) << 8  # the operation code
    counts = (1 if query.question else 0, len(fitting), 0, 1 if extra else 0)
    return b"".join((message[:2], struct.pack("!HHHHH", flags, *counts), query.question, *fitting, extra))


def _fitting(records: Sequence[bytes], room: int) -> Sequence[bytes]:
    size = 0
    for number, record in enumerate(records):
        size += len(record)
        if size > room:
            return records[:number]
    return records
