"""Asks a resolver for one name, as a program would."""

import dns.exception
import dns.message
import dns.query
import dns.rcode


def ask(name: str, version: int, server: str, timeout: float) -> tuple[tuple[str, ...], str]:
    """The IPv4 or IPv6 addresses that the resolver at `server`, port 53, tells, and why if there are none. OSError
    where it cannot be asked."""
    query = dns.message.make_query(name, {4: "A", 6: "AAAA"}[version])
    try:
        answer = dns.query.udp(query, server, timeout=timeout)
    except dns.exception.DNSException:
        return (), f"there was no answer within {timeout:.0f} s"
    told = tuple(item.to_text() for records in answer.answer for item in records)
    return told, "" if told else f"the answer was {dns.rcode.to_text(answer.rcode())}"
